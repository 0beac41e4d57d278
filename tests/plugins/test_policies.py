from collections.abc import Iterator
from datetime import timedelta

import pytest
from airflow.sdk import RetryAction
from airflow.sdk.exceptions import TaskDeferralTimeout

from restore_lib.errors import (
    DriveBusy,
    GoElsewhere,
    MediumError,
    NeedsDecision,
    RetryLater,
    TapeflowError,
    Unrecoverable,
)
from tapeflow_airflow.policies import (
    FIRST_DELAY,
    LONGEST_DELAY,
    TASK_DEFAULTS,
    UNEXPECTED_TRIES,
    ByKindOfError,
    delay_after,
)

POLICY = ByKindOfError()


def tree(root: type[TapeflowError] = TapeflowError) -> Iterator[type[TapeflowError]]:
    for kind in root.__subclasses__():
        yield kind
        yield from tree(kind)


KINDS = list(dict.fromkeys(tree()))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_error_has_its_decision(kind: type[TapeflowError]) -> None:
    decision = POLICY.evaluate(kind("Something happened."), 1, 20)
    wanted = RetryAction.RETRY if issubclass(kind, RetryLater) else RetryAction.FAIL
    assert decision.action is wanted
    assert decision.reason == f"{kind.code}: Something happened."


def test_the_error_tree_has_its_four_branches() -> None:
    assert len(KINDS) > 20
    branches = (RetryLater, GoElsewhere, NeedsDecision, Unrecoverable)
    assert all(issubclass(kind, branches) for kind in KINDS)


def test_a_busy_drive_is_tried_again_ever_later_up_to_a_bound() -> None:
    decisions = [POLICY.evaluate(DriveBusy("All drives are in use."), n, 20) for n in range(1, 21)]
    delays = [decision.retry_delay for decision in decisions]
    assert all(delay is not None for delay in delays)
    assert delays[:3] == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY]
    assert delays[-1] == LONGEST_DELAY
    assert delay_after(10_000) == LONGEST_DELAY
    assert delay_after(0) == FIRST_DELAY


def test_a_bad_medium_is_not_tried_again() -> None:
    decision = POLICY.evaluate(MediumError("Volume TF0001L9 can't be read."), 1, 20)
    assert decision.action is RetryAction.FAIL


def test_an_unexpected_error_is_tried_a_few_times() -> None:
    tries = range(1, UNEXPECTED_TRIES + 1)
    actions = [POLICY.evaluate(KeyError("x"), n, 20).action for n in tries]
    assert actions == [RetryAction.DEFAULT] * (UNEXPECTED_TRIES - 1) + [RetryAction.FAIL]


def test_a_wait_that_took_too_long_is_not_begun_again() -> None:
    assert POLICY.evaluate(TaskDeferralTimeout(), 1, 20).action is RetryAction.FAIL


def test_killed_tasks_are_retried_plainly() -> None:
    assert TASK_DEFAULTS["retries"] >= 3
    assert TASK_DEFAULTS["retry_delay"] <= timedelta(seconds=30)
    assert isinstance(TASK_DEFAULTS["retry_policy"], ByKindOfError)
