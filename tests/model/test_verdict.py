"""Verdicts: zero checked never passes."""

import pytest

from restore_lib.model.verdict import Verdict, combined

PASSED, PARTIAL, FAILED, NOT_CHECKED = Verdict


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ([], NOT_CHECKED),
        ([NOT_CHECKED, NOT_CHECKED], NOT_CHECKED),
        ([PASSED, PASSED], PASSED),
        ([PASSED, NOT_CHECKED], PARTIAL),
        ([PARTIAL], PARTIAL),
        ([PARTIAL, NOT_CHECKED], PARTIAL),
        ([PARTIAL, PASSED], PARTIAL),
        ([FAILED], FAILED),
        ([FAILED, PASSED, PARTIAL, NOT_CHECKED], FAILED),
    ],
)
def test_a_whole_is_no_better_than_its_parts(parts: list[Verdict], whole: Verdict) -> None:
    assert combined(parts) is whole
    assert combined(reversed(parts)) is whole
