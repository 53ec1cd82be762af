"""The words of other packages' errors, as one line."""

from snn_course import reason_of

import pytest


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("first\nsecond"), "first"),
        (ValueError("\n  first  \n"), "first"),
        (ValueError(), "ValueError"),
        (AssertionError("\n"), "AssertionError"),
    ],
)
def test_an_error_is_told_by_its_first_line_or_its_kind(error, said):
    assert reason_of(error) == said
