"""What a run has recorded, kept seed by seed and taken over by the next start."""

import json

from snn_course.runs import lesson, record, unfinished
from snn_course.runs.measures import Measure

import pytest

NAME = "accuracy"


def measured(seeds, both=2):
    """Record seeds; a table of the same name as the measure is made by the first ``both`` of them alone."""
    kept, one = [], record.Record()
    for seed in range(seeds):
        one.begin_seed()
        one.add(Measure(NAME, "value", "%", None, None, False, ""), float(seed))
        if seed < both:
            one.add_table(NAME, ["seed"], [[seed]], "")
        one.sentences.append({"text": f"of seed {seed}", "chapter": ""})
        kept.append(json.loads(json.dumps(one.of_seed() | {"spent": [0, 0]})))
    return one, kept


@pytest.fixture
def taken(tmp_path):
    """Take over what was kept of some seeds, from files, as the next start does."""
    script = tmp_path / "script.py"
    script.write_text("")
    kept = unfinished.Unfinished(tmp_path / "unfinished", lesson.Config(), script, print)

    def take(seeds):
        one = record.Record()
        for seed in seeds:
            content = json.dumps(seed).encode()
            kept.keep("seed.json", lambda path, content=content: path.write_bytes(content))
            one.take(kept.find("seed.json", record.read))
        return one

    return take


@pytest.mark.parametrize("both", [1, 3], ids=["with the first seed", "with each seed"])
def test_a_measure_and_a_table_of_one_name_keep_their_own_seeds(taken, both):
    whole, kept = measured(3, both)
    again = taken(kept)
    assert again.measures[NAME].values == whole.measures[NAME].values == [0, 1, 2]
    assert again.tables[NAME]["runs"] == whole.tables[NAME]["runs"] == [[[0]], [[1]], [[2]]][:both]


def test_each_sentence_is_taken_over_once(taken):
    whole, kept = measured(3)
    assert taken(kept).sentences == whole.sentences
