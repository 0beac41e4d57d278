import shutil
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from demo.airflow_client import AirflowClient
from restore_lib.integrity.reference import write_reference
from restore_lib.library.faults import Faults, write_faults
from restore_lib.model.states import BatchKind, BatchState
from tests.support.airflow_line import RUN_SECONDS, Line, until
from tests.support.sites import digests, image, open_site, write_files

pytestmark = pytest.mark.system


def spoil(line: Line, barcode: str) -> None:
    """Make a volume unreadable where it lies."""
    with closing(open_site(line.root)) as site:
        write_faults(image(site, barcode), Faults(unreadable=True))


def lose(line: Line) -> set[str]:
    """Let new files arrive, note what should exist, and delete folders; return the new names."""
    new = {b"d1/new-%d" % n: b"not backed up %d" % n for n in range(5)}
    write_files(line.live, new)
    with closing(open_site(line.root)) as site:
        write_reference(site.store("live").list(), line.root / "reference.parquet")
    for folder in ("d1", "d3", "d6", "d8"):
        shutil.rmtree(line.live / folder)
    return {key.decode() for key in new}


def batch_tasks(client: AirflowClient) -> list[dict[str, Any]]:
    return [
        task
        for run in client.dag_runs("restore_wave")
        for task in client.task_instances("restore_wave", run["dag_run_id"])
        if task["task_id"] == "restore_batch"
    ]


def test_lost_objects_come_back_from_the_vault(tmp_path: Path) -> None:
    line = Line(tmp_path)
    with line.running() as client:
        _, state = line.run(client, "backup", {"policy": "live"})
        assert state == "success"
        sets = line.data_volumes()
        assert len(sets) >= 2
        _, state = line.run(client, "vault_out")
        assert state == "success"
        assert {v.place for v in line.volumes() if v.tape_set} == {"vault:north"}

        (omitted, *_), (bad, *_), *_ = sets.values()
        line.omit(omitted)
        spoil(line, bad)
        new = lose(line)
        reference = str(line.root / "reference.parquet")
        scan, state = line.run(client, "loss_scan", {"store": "live", "reference": reference})
        assert state == "success"
        incident = client.xcom("loss_scan", scan, "scan")
        restore, state = line.run(client, "restore", {"incident": incident})
        assert state == "success"
        request = client.xcom("restore", restore, "plan")

        until(lambda: all(run["end_date"] for run in client.dag_runs("restore_wave")))
        tasks = batch_tasks(client)
        assert {run["state"] for run in client.dag_runs("restore_wave")} == {"success"}
        assert client.task_states("restore", restore) == {"success": 5}
        assert client.dag_runs("dr_drill") == client.dag_runs("verify_media") == []

    assert digests(line.live) == line.before
    report = line.report(request)
    assert report["verdict"] == "partial"
    assert {row["key"] for row in report["names"]["never_backed_up"]} == new
    assert report["counts"]["verified"] == report["counts"]["asked"] - len(new)
    assert report["counts"]["rebuilt_from_parity"] > 0
    assert report["volumes"]["omitted"] == [omitted]
    assert report["volumes"]["bad"] == [bad]
    assert report["request"]["actor"] == f"airflow:restore/{restore} by admin"

    failed = [batch for batch in line.batches() if bad in batch.volumes]
    assert [(batch.state, batch.attempts) for batch in failed] == [(BatchState.FAILED, 1)]
    tries = Counter((task["state"], task["try_number"]) for task in tasks)
    assert tries["failed", 1] == 1
    assert sum(count for (state, _), count in tries.items() if state == "failed") == 1
    assert any(batch.kind is BatchKind.GATHER for batch in line.batches())


def test_a_restore_outlives_kills_of_scheduler_vendor_and_worker(tmp_path: Path) -> None:
    line = Line(tmp_path)

    def reading() -> bool:
        return any(batch.state is BatchState.RUNNING for batch in line.batches())

    with line.running() as client:
        for dag_id in ("backup", "vault_out"):
            assert line.run(client, dag_id)[1] == "success"
        (omitted, *_), *_ = line.data_volumes().values()
        line.omit(omitted)
        shutil.rmtree(line.live)
        line.live.mkdir()
        outbox = line.root / "van" / "outbox"
        restore = client.trigger("restore", {"everything": True, "store": "live"})

        until(lambda: any(outbox.glob("*.json")))
        line.kill_vendor()
        line.start_vendor()

        until(reading)
        line.airflow.kill("scheduler")
        line.kill_vendor()
        line.airflow.restart("scheduler")
        line.start_vendor()

        killed: list[str | None] = []

        def kill() -> bool:
            running = [task["id"] for task in batch_tasks(client) if task["state"] == "running"]
            killed[:] = [line.kill_task(running)]
            return killed != [None]

        until(kill)

        assert client.wait_for_run("restore", restore, timeout=RUN_SECONDS) == "success"
        request = client.xcom("restore", restore, "plan")
        assert killed[0] not in {task["id"] for task in batch_tasks(client)}

    assert digests(line.live) == line.before
    report = line.report(request)
    assert report["verdict"] == "passed"
    assert report["counts"]["verified"] == len(line.before)
    assert report["volumes"]["omitted"] == [omitted]
    assert report["volumes"]["lost"] == report["volumes"]["bad"] == []
