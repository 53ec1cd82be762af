"""The file a run leaves behind, ``results/<script>/<scale>/metrics.json``: its schema, reading, writing."""

import functools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from snn_course import UsageError, safe_write

Metrics = dict[str, Any]

_TEXT = {"type": "string"}
_NUMBER = {"type": "number"}
_NUMBER_OR_NULL = {"type": ["number", "null"]}  # null also stands for "not a number": JSON has no nan
_FLAG = {"type": "boolean"}


def _object(optional: Mapping[str, Any] = MappingProxyType({}), **properties: Any) -> dict[str, Any]:
    """Schema of an object in which every key is required but the optional ones, and no other is allowed."""
    return {
        "type": "object",
        "properties": {**properties, **optional},
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


CHAPTER = {"chapter": _TEXT}
"""The function, called from ``main``, that a result comes from. Files of earlier versions do not name it."""

MEASURE = _object(
    {**CHAPTER, "speed": _FLAG},
    name=_TEXT,
    kind={"enum": ["proof", "goal", "value"]},
    unit=_TEXT,
    values={**_list(_NUMBER_OR_NULL), "minItems": 1},
    mean=_NUMBER_OR_NULL,
    std=_NUMBER_OR_NULL,
    at_least=_NUMBER_OR_NULL,
    at_most=_NUMBER_OR_NULL,
    met={"type": ["boolean", "null"]},
    headline=_FLAG,
    note=_TEXT,
)

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Results of one script of the course at one scale",
    **_object(
        {
            "sentences": _list(_object(CHAPTER, text=_TEXT)),
            "cpu_seconds": {"type": "number", "minimum": 0},
        },
        schema={"const": 1},
        lesson={"type": "string", "minLength": 1},
        title=_TEXT,
        question=_TEXT,
        scale={"enum": ["quick", "cpu", "gpu"]},
        seed={"type": "integer"},
        seeds={"type": "integer", "minimum": 1},
        command=_TEXT,
        config={"type": "object"},
        status={"enum": ["ok", "missed"]},
        seconds={"type": "number", "minimum": 0},
        started={"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"},
        commit={"type": ["string", "null"]},
        device=_TEXT,
        hardware=_TEXT,
        versions={"type": "object", "additionalProperties": _TEXT},
        data=_list(_object(name=_TEXT, as_used=_TEXT, stand_in=_FLAG)),
        measures=_list(MEASURE),
        tables=_list(
            _object(
                CHAPTER,
                title=_TEXT,
                columns=_list(_TEXT),
                rows=_list(_list({"type": ["string", "number", "boolean", "null"]})),
            )
        ),
        # A figure lies beside its metrics.json: a path to elsewhere is an error.
        figures=_list(_object(CHAPTER, file={"type": "string", "pattern": r"^[^/\\]+$"}, title=_TEXT)),
    ),
}


class Result(NamedTuple):
    """One metrics.json that was found: its contents, or why it cannot be used."""

    path: Path
    metrics: Metrics | None
    problem: str


def validate(metrics: Metrics, name: str = "metrics.json") -> None:
    """Check metrics, as JSON holds them, against the schema. Raises: UsageError naming the first fault."""
    import jsonschema

    fault = jsonschema.exceptions.best_match(_validator().iter_errors(metrics))
    if fault is not None:
        where = ".".join(map(str, fault.absolute_path)) or "top level"
        message = fault.message if len(fault.message) < 120 else fault.message[:117] + "..."
        raise UsageError(f"{name} is damaged ({where}: {message}); run the lesson again.")


@functools.cache
def _validator() -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(SCHEMA)


def read(path: Path, check: bool = True) -> Metrics:
    """Read one metrics.json. Values that were not a number come back as nan.

    What files of earlier versions lack is filled in: no sentences, and no goal on speed.

    ``check=False`` skips the schema, for callers that must work before jsonschema is installed.
    Raises: UsageError with one line, when the file is missing or damaged.
    """
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"There is no {path}; run the lesson first.") from None
    except (OSError, ValueError) as error:  # bad JSON and bad UTF-8 are both ValueErrors
        reason = " ".join(str(error).split())
        raise UsageError(f"{path} is damaged ({reason}); run the lesson again.") from None
    if check:
        validate(metrics, str(path))
    elif not isinstance(metrics, dict):
        raise UsageError(f"{path} is damaged (not an object); run the lesson again.")
    try:
        return _filled_in(metrics)
    except (TypeError, KeyError, AttributeError):  # not what the schema says, and check was off
        raise UsageError(f"{path} is damaged; run the lesson again.") from None


def _filled_in(metrics: Metrics) -> Metrics:
    metrics.setdefault("sentences", [])
    for measure in metrics.get("measures", []):
        measure.setdefault("speed", False)
        measure["values"] = [math.nan if value is None else value for value in measure["values"]]
        measure["mean"] = math.nan if measure["mean"] is None else measure["mean"]
    return metrics


def write(path: Path, metrics: Metrics) -> None:
    """Check metrics and store them. Raises: UsageError when they do not fit the schema or their place."""
    text = json.dumps(_without_nan(metrics), indent=1, ensure_ascii=False, allow_nan=False)
    validate(json.loads(text), str(path))
    safe_write.write(path, text + "\n")


def _without_nan(value: Any) -> Any:
    """Copy of nested lists and dicts with null for each float that JSON cannot hold."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def all_results(folder: Path, check: bool = True) -> list[Result]:
    """Read every ``<script>/<scale>/metrics.json`` of a results folder, damaged ones included."""
    found = []
    for path in sorted(folder.glob("*/*/metrics.json")):
        try:
            found.append(Result(path, read(path, check), ""))
        except UsageError as error:
            found.append(Result(path, None, str(error)))
    return found


def headlines(metrics: Metrics) -> list[dict[str, Any]]:
    """Give the measures that stand for a run: the marked ones, else the first goal, else the first of all."""
    measures = metrics["measures"]
    marked = [m for m in measures if m["headline"]]
    goals = [m for m in measures if m["kind"] == "goal"]
    return marked or goals[:1] or measures[:1]
