import shutil
from contextlib import closing
from pathlib import Path

import pytest

from demo.airflow_client import AirflowClient
from restore_lib.catalog import waves
from restore_lib.model.states import BatchState
from restore_lib.restore.pausing import pause_restore, resume_restore
from tests.support.airflow_line import RUN_SECONDS, Line, until
from tests.support.sites import ACTOR, digests, open_site

pytestmark = pytest.mark.system

OVER = {"success", "failed"}


def waves_are_settled(line: Line) -> bool:
    with closing(open_site(line.root)) as site, site.catalog.read() as connection:
        return not waves.open_waves(connection)


def run_by_hand(client: AirflowClient) -> dict[str, str]:
    """Run a wave, and return the state of each of its tasks."""
    run_id = client.trigger("restore_wave")
    assert client.wait_for_run("restore_wave", run_id, timeout=RUN_SECONDS) == "success"
    tasks = client.task_instances("restore_wave", run_id)
    return {task["task_id"]: task["state"] for task in tasks}


def test_a_paused_restore_outlives_restarts_and_goes_on(tmp_path: Path) -> None:
    line = Line(tmp_path)
    config = line.root / "tapeflow.toml"
    config.write_text(config.read_text() + "[restore]\nbatch_objects = 25\n")

    def count(*states: BatchState) -> int:
        return sum(batch.state in states for batch in line.batches())

    with line.running() as client:
        assert line.run(client, "backup", {"policy": "live"})[1] == "success"
        shutil.rmtree(line.live)
        line.live.mkdir()
        restore = client.trigger("restore", {"everything": True, "store": "live"})
        until(lambda: count(BatchState.DONE) > 0)
        with closing(open_site(line.root)) as site:
            pause_restore(site, 1, ACTOR)
        until(lambda: waves_are_settled(line))
        done = count(BatchState.DONE)
        assert 0 < done < len(line.batches())
        assert count(BatchState.DONE, BatchState.PLANNED) == len(line.batches())

        for component in ("scheduler", "triggerer"):
            line.airflow.kill(component)
            line.airflow.restart(component)
        assert run_by_hand(client)["claim"] == "skipped"
        until(lambda: all(run["state"] in OVER for run in client.dag_runs("restore_wave")))
        assert count(BatchState.DONE) == done
        assert client.run("restore", restore)["state"] == "running"

        with closing(open_site(line.root)) as site:
            resume_restore(site, 1, ACTOR)
        assert client.wait_for_run("restore", restore, timeout=RUN_SECONDS) == "success"

    assert digests(line.live) == line.before
    assert {batch.attempts for batch in line.batches()} == {1}
    assert line.report(1)["verdict"] == "passed"
