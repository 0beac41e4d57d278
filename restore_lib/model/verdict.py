"""What a check comes to."""

from collections.abc import Iterable
from enum import StrEnum


class Verdict(StrEnum):
    """The end of a check; where nothing was checked, nothing passed."""

    PASSED = "passed"
    PARTIAL = "partial"
    FAILED = "failed"
    NOT_CHECKED = "not_checked"


def combined(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict on a whole from those on its parts.

    FAILED when any part failed; NOT_CHECKED when none was checked, also when there is none;
    PARTIAL when some were not, or only in part; else PASSED.
    """
    found = set(verdicts)
    if Verdict.FAILED in found:
        return Verdict.FAILED
    if found <= {Verdict.NOT_CHECKED}:
        return Verdict.NOT_CHECKED
    return Verdict.PASSED if found == {Verdict.PASSED} else Verdict.PARTIAL
