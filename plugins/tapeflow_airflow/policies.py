"""Retries by kind of error: what may pass is tried again, what can't is not."""

from datetime import timedelta
from typing import Any

from airflow.sdk import Context, RetryDecision, RetryPolicy
from airflow.sdk.exceptions import TaskDeferralTimeout

from restore_lib.errors import RetryLater, TapeflowError

FIRST_DELAY = timedelta(seconds=5)
LONGEST_DELAY = timedelta(minutes=5)
UNEXPECTED_TRIES = 3


class ByKindOfError(RetryPolicy):
    """Decides by the error tree of ``restore_lib.errors``.

    RetryLater is tried again after a delay that doubles from FIRST_DELAY to LONGEST_DELAY, for as
    often as the task's ``retries`` allow. A medium that failed, a decision that a person has to
    make and what can't be helped fail at once. An error of no known kind is tried UNEXPECTED_TRIES
    times. Airflow does not ask the policy about tasks whose process was killed: these are retried
    plainly.
    """

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: Context | None = None,
    ) -> RetryDecision:
        """Return what is to happen after try ``try_number`` (from 1) ended with ``exception``."""
        if isinstance(exception, RetryLater):
            return RetryDecision.retry(delay=delay_after(try_number), reason=_reason(exception))
        if isinstance(exception, TapeflowError):
            return RetryDecision.fail(reason=_reason(exception))
        if isinstance(exception, TaskDeferralTimeout):
            return RetryDecision.fail(reason="it was waited for as long as the run allows")
        if try_number >= UNEXPECTED_TRIES:
            return RetryDecision.fail(reason=f"unexpected {type(exception).__name__}, again")
        return RetryDecision.default()


def delay_after(try_number: int) -> timedelta:
    """Return how long to wait after try ``try_number`` (from 1)."""
    doublings = min(max(try_number, 1) - 1, 20)
    return min(FIRST_DELAY * (1 << doublings), LONGEST_DELAY)


def _reason(error: TapeflowError) -> str:
    return f"{error.code}: {error.message}"


TASK_DEFAULTS: dict[str, Any] = {
    "owner": "tapeflow",
    "retries": 20,
    "retry_delay": FIRST_DELAY,
    "retry_policy": ByKindOfError(),
}
"""``default_args`` of every DAG; the plain delay is for tasks whose process was killed."""
