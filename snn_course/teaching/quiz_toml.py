"""Reads a TOML file that people write, and names file and line of what is wrong in it.

The shape is a JSON schema. TOML's own reader forgets lines, so they are found again in the text: the n-th
``[[question]]``, and in it the line on which a field begins.
"""

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn_course import UsageError, safe_write

if TYPE_CHECKING:
    from jsonschema import ValidationError

Schema = Mapping[str, Any]

_LONG_TEXT = re.compile(r'"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'', re.DOTALL)
_KINDS = {
    "string": "a text",
    "array": "a list",
    "number": "a number",
    "integer": "a whole number",
    "object": "a table",
}
_SIZES = {
    "minLength": ("at least", "characters"),
    "maxLength": ("at most", "characters"),
    "minItems": ("at least", "entries"),
    "maxItems": ("at most", "entries"),
}


def text(longest: int, shortest: int = 1) -> Schema:
    """Give the schema of a text."""
    return {"type": "string", "minLength": shortest, "maxLength": longest}


def items(of: Schema, least: int = 0, most: int = 50) -> Schema:
    """Give the schema of a list."""
    return {"type": "array", "items": of, "minItems": least, "maxItems": most}


def table(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """Give the schema of a table that has these fields and no others."""
    properties = {**required, **(optional or {})}
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


class Source:
    """A TOML file: its data, and the lines on which they stand. ``name`` is how a message calls it.

    Raises: UsageError when it cannot be read.
    """

    def __init__(self, path: Path, name: str = "", text: str | None = None) -> None:
        self.name = name or f"{path.parent.name}/{path.name}"
        try:
            self.text = path.read_text(encoding="utf-8-sig") if text is None else text
            self.data: dict[str, Any] = tomllib.loads(self.text)
        except OSError as error:
            raise UsageError(f"Cannot read {path}: {safe_write.cause(error)}.") from None
        except UnicodeDecodeError:
            raise UsageError(f"{self.name}: it is not saved as UTF-8.") from None
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise self._no_toml(str(error)) from None
        # What stands inside a long text is no field; the lines keep their numbers.
        blank = _LONG_TEXT.sub(lambda found: '""' + "\n" * found[0].count("\n"), self.text)
        self._lines = blank.split("\n")

    def _no_toml(self, message: str) -> UsageError:
        place = re.search(r" \(at line (\d+), column \d+\)$", message)
        end = self.text.count("\n") + 1
        line = place[1] if place else end
        reason = re.sub(r" \(at .*\)$", "", message)
        return UsageError(f"{self.name}, line {line}: this is no TOML: {reason}.")

    def line_of(self, array: str = "", index: int = 0, field: str = "") -> int:
        """Find the line of a field; of the table, where the field has none. An empty array: the top.

        A field such as ``wrong.why`` is the first ``why`` from the line of ``wrong`` on.
        """
        heads = [n for n, line in enumerate(self._lines) if line.strip() == f"[[{array}]]"] if array else []
        begin = heads[index] if index < len(heads) else 0
        inside = range(begin + bool(heads), len(self._lines))
        if heads:
            inside = range(inside.start, next((n for n in inside if self._is_head(n)), inside.stop))
        outer, _, inner = field.partition(".")
        name = re.escape(outer)
        begins = re.compile(rf"\s*(\[{{0,2}}(\w+\.)*{name}(\.\w+)*\]{{0,2}}|\"{name}\")\s*(=|$)")
        found = next((n for n in inside if outer and begins.match(self._lines[n])), None)
        if found is None:
            return begin + 1
        within = re.compile(rf"\b{re.escape(inner)}\s*=")
        further = range(found, inside.stop) if inner else []
        return next((n for n in further if within.search(self._lines[n])), found) + 1

    def _is_head(self, number: int) -> bool:
        return self._lines[number].strip().startswith("[[")

    def wrong(self, message: str, array: str = "", index: int = 0, field: str = "") -> UsageError:
        """Make the one line that says what is wrong, and where."""
        return UsageError(f"{self.name}, line {self.line_of(array, index, field)}: {message}")

    def check(self, part: Any, schema: Schema, array: str = "", index: int = 0) -> None:
        """Compare a table with its schema. Raises: UsageError for the first thing that is wrong."""
        from jsonschema import Draft202012Validator

        errors = sorted(Draft202012Validator(schema).iter_errors(part), key=_place_of)
        if errors:
            message, field = said(errors[0])
            raise self.wrong(message, array, index, field)


def _place_of(error: "ValidationError") -> tuple[list[Any], bool]:
    """Sort by place; a misspelt field comes before the one that is missing because of that."""
    return list(error.path), error.validator == "required"


def advice(name: str, known: Sequence[str], missing: Sequence[str] = ()) -> str:
    """Say which field was meant, one that is missing before all others, or which there are."""
    near = difflib.get_close_matches(name, missing, n=1) or difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}."


def said(error: "ValidationError") -> tuple[str, str]:
    """Put a finding of jsonschema into words. Returns: the words, and the field with whose line they go."""
    path = [str(step) for step in error.absolute_path]
    field = path[0] if path else ""
    place = ".".join(path)
    wanted, found = error.validator_value, error.instance
    if error.validator == "required":
        missing = next(name for name in wanted if name not in found)
        return f"{place or 'it'} lacks the field '{missing}'.", field
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        extra = next(name for name in found if name not in known)
        missing = [name for name in error.schema["required"] if name not in found]
        where = f"{field}.{extra}" if field else extra
        return f"there is no field '{extra}' here; {advice(extra, known, missing)}", where
    if error.validator == "type":
        return f"'{place}' must be {_KINDS.get(wanted, wanted)}, not {found!r:.60}.", field
    if error.validator == "enum":
        return f"'{place}' is {found!r:.60}; it must be one of {', '.join(map(str, wanted))}.", field
    if error.validator in _SIZES:
        least, of = _SIZES[str(error.validator)]
        return f"'{place}' has {len(found)} {of}; {least} {wanted} are wanted.", field
    return f"'{place}': {error.message:.200}", field
