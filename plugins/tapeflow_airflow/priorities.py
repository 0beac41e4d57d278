"""Whose tasks the scheduler takes first."""

import re
import time
from datetime import UTC, datetime

from airflow.models.taskinstance import TaskInstance
from airflow.task.priority_strategy import PriorityWeightStrategy

_BEGUN = re.compile(r"__(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)")
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


class OldestRunFirst(PriorityWeightStrategy):
    """The tasks of a run come before those of every run that began later.

    Runs that an asset event triggers have no logical date, without which the scheduler takes the
    first tasks of all runs, then the second ones, so that all runs end at the same time. The weight
    is the task's own, less one for each second from 2026 on to the beginning of its run.
    """

    def get_weight(self, ti: TaskInstance) -> int:
        """Return the weight; a run whose id tells no time begins now."""
        if ti.task is None:
            raise ValueError("the task instance has no task")
        told = _BEGUN.search(ti.run_id)
        begun = (
            datetime.fromisoformat(told[1]).replace(tzinfo=UTC).timestamp() if told else time.time()
        )
        return ti.task.priority_weight - int(begun - _EPOCH)
