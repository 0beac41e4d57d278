import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.models.dagrun import DagRun
from airflow.utils.types import DagRunType

from tapeflow_airflow.priorities import OldestRunFirst

AT = datetime(2026, 11, 20, 16, 0, 1, tzinfo=UTC)
WEIGHT = 1_000_000_000


def weight(run_id: str, of_task: int = WEIGHT) -> int:
    task: Any = SimpleNamespace(run_id=run_id, task=SimpleNamespace(priority_weight=of_task))
    return OldestRunFirst().get_weight(task)


@pytest.mark.parametrize("kind", [DagRunType.ASSET_TRIGGERED, DagRunType.MANUAL])
def test_the_tasks_of_an_older_run_weigh_more(kind: DagRunType) -> None:
    ids = [
        DagRun.generate_run_id(
            run_type=kind, logical_date=None, run_after=AT + timedelta(seconds=n)
        )
        for n in (0, 1, 60, 3600 * 24 * 365 * 30)
    ]
    weights = [weight(run_id) for run_id in ids]
    assert weights[0] - weights[1] == 1
    assert weights == sorted(weights, reverse=True)
    assert 0 < weights[-1] < weights[0] < 2**31


def test_a_run_whose_name_tells_no_time_counts_as_begun_now() -> None:
    now = datetime.fromtimestamp(time.time(), UTC)
    named = DagRun.generate_run_id(run_type=DagRunType.MANUAL, logical_date=None, run_after=now)
    assert weight("tonight") == pytest.approx(weight(named), abs=2)
