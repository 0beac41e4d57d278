from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.sdk import Context
from airflow.sdk.exceptions import TaskDeferred

from restore_lib.restore.request import RestoreSpec, cancel_restore, plan_restore, start_restore
from restore_lib.site import Site
from tapeflow_airflow.operators import RestoreBatch, WaitForRestores, WaitForShipments
from tapeflow_airflow.triggers import RestoresEnded, ShipmentsEnded
from tests.support.sites import ACTOR, back_up, make_site, write_files


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with closing(make_site(tmp_path)) as opened:
        write_files(tmp_path / "live", {b"a": b"1"})
        back_up(opened)
        monkeypatch.setenv("TAPEFLOW_CONFIG", str(tmp_path / "tapeflow.toml"))
        yield opened


@pytest.fixture
def request_id(site: Site) -> int:
    plan = plan_restore(site, RestoreSpec(store="live", prefix=b"", target="out"), ACTOR)
    assert plan.request_id is not None
    start_restore(site, plan.request_id, ACTOR)
    return plan.request_id


def test_it_leaves_the_waiting_to_the_triggerer(site: Site, request_id: int) -> None:
    wait = WaitForRestores(task_id="wait", ids=request_id, hours="0.5")
    with pytest.raises(TaskDeferred) as deferred:
        wait.execute(Context())
    assert isinstance(deferred.value.trigger, RestoresEnded)
    assert deferred.value.trigger.ids == [request_id]
    assert deferred.value.timeout == timedelta(minutes=30)
    assert deferred.value.method_name == "execute"


def test_it_looks_again_when_it_is_resumed(site: Site, request_id: int) -> None:
    wait = WaitForRestores(task_id="wait", ids=[request_id], hours=1)
    with pytest.raises(TaskDeferred):
        wait.execute(Context(), {"ended": [request_id]})
    cancel_restore(site, request_id, ACTOR)
    wait.execute(Context(), {"ended": [request_id]})


def test_what_has_ended_is_not_waited_for(site: Site) -> None:
    WaitForShipments(task_id="wait", ids=[], hours=1).execute(Context())
    assert WaitForShipments.trigger is ShipmentsEnded


def test_a_batch_reports_no_templates() -> None:
    """Airflow would write them down for each of thousands of tasks."""
    assert tuple(RestoreBatch.template_fields) == ()
