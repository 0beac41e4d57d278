import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pendulum
import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables import trigger

from demo.airflow_local import ROOT
from tapeflow_airflow.policies import ByKindOfError
from tapeflow_airflow.priorities import OldestRunFirst

DAG_IDS = [
    "backup",
    "dr_drill",
    "loss_scan",
    "repack",
    "restore",
    "restore_wave",
    "retention",
    "vault_out",
    "verify_media",
]
TAPE_TASKS = {"move", "run_job", "restore_batch", "verify_volume"}


@pytest.fixture(scope="module")
def bag() -> DagBag:
    return DagBag(str(ROOT / "dags"))


@pytest.fixture(params=DAG_IDS)
def dag(bag: DagBag, request: pytest.FixtureRequest) -> DAG:
    found: DAG = bag.dags[request.param]
    return found


def test_all_files_can_be_imported(bag: DagBag) -> None:
    assert bag.import_errors == {}
    assert sorted(bag.dags) == DAG_IDS
    assert {Path(dag.fileloc).stem for dag in bag.dags.values()} == set(DAG_IDS)


def test_a_dag_explains_itself(dag: DAG) -> None:
    assert dag.doc_md
    assert dag.description
    assert "tapeflow" in dag.tags
    assert dag.max_active_runs >= 1
    for task in dag.tasks:
        if task.task_id != "wait":
            assert f"`{task.task_id}`" in dag.doc_md, task.task_id


def test_the_trigger_form_explains_itself(dag: DAG) -> None:
    for name in dag.params:
        param = dag.params.get_param(name)
        assert param.description, name
        assert param.schema["title"], name
        assert param.schema["section"], name
        assert param.schema["type"], name


def test_the_form_can_be_sent_as_it_opens(dag: DAG) -> None:
    dag.params.validate()


def test_tasks_follow_the_error_tree_and_survive_a_killed_worker(dag: DAG) -> None:
    for task in dag.tasks:
        assert isinstance(task.retry_policy, ByKindOfError), task.task_id
        assert task.retries, task.task_id


def test_only_tasks_that_mount_a_tape_hold_a_drive(dag: DAG) -> None:
    for task in dag.tasks:
        assert (task.pool == "tape_drives") is (task.task_id in TAPE_TASKS), task.task_id


def test_restores_go_before_backups_and_verifications(bag: DagBag) -> None:
    weights = {
        task.task_id: task.priority_weight
        for dag in bag.dags.values()
        for task in dag.tasks
        if task.task_id in TAPE_TASKS
    }
    assert weights["restore_batch"] > weights["run_job"] >= weights["verify_volume"]


def test_what_keeps_waves_coming_goes_before_their_batches(bag: DagBag) -> None:
    weights = {task.task_id: task.priority_weight for task in bag.dags["restore_wave"].tasks}
    batches = weights.pop("restore_batch")
    assert set(weights) == {"advance", "claim", "settle"}
    assert min(weights.values()) > batches


def test_the_scheduler_takes_the_batches_of_the_oldest_wave_first(bag: DagBag) -> None:
    decoded: Any = DagSerialization.from_dict(DagSerialization.to_dict(bag.dags["restore_wave"]))
    assert type(decoded.get_task("restore_batch").weight_rule) is OldestRunFirst


def test_no_dag_makes_up_for_lost_time(dag: DAG) -> None:
    assert dag.catchup is False


@pytest.mark.parametrize(
    ("dag_id", "now", "wanted"),
    [
        (
            "verify_media",
            datetime(2030, 1, 6, 3, 1, tzinfo=UTC),
            datetime(2030, 1, 13, 3, tzinfo=UTC),
        ),
        (
            "retention",
            datetime(2030, 1, 1, 5, 1, tzinfo=UTC),
            datetime(2030, 1, 2, 5, tzinfo=UTC),
        ),
        ("dr_drill", datetime(2030, 1, 1, 6, 1, tzinfo=UTC), datetime(2030, 2, 1, 6, tzinfo=UTC)),
    ],
)
def test_a_schedule_begins_with_its_next_time(
    bag: DagBag, monkeypatch: pytest.MonkeyPatch, dag_id: str, now: datetime, wanted: datetime
) -> None:
    """Not with the one that has just passed, as Airflow does unless it is told."""
    monkeypatch.setattr(trigger, "utcnow", lambda: pendulum.instance(now))
    decoded: Any = DagSerialization.from_dict(DagSerialization.to_dict(bag.dags[dag_id]))
    info = decoded.next_dagrun_info(last_automated_run_info=None)
    assert info.run_after == wanted


def test_a_dag_is_the_same_after_serialization(dag: DAG) -> None:
    encoded = DagSerialization.to_dict(dag)
    decoded: Any = DagSerialization.from_dict(encoded)
    assert decoded.dag_id == dag.dag_id
    assert {t.task_id for t in decoded.tasks} == {t.task_id for t in dag.tasks}
    assert decoded.params.dump() == dag.params.dump()
    assert DagSerialization.to_dict(dag) == encoded


def modules_after(code: str, *arguments: str, settings: bool = False) -> set[str]:
    """Return the modules that a new process has imported after ``code``."""
    folders = [ROOT, ROOT / "plugins", *([ROOT / "deploy" / "airflow"] if settings else [])]
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sorted(sys.modules))", *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


SDK = """
import airflow.triggers.base
from airflow.sdk import DAG, Param, task
task
"""
PARSE = """
import sys
from pathlib import Path
for path in sorted(Path(sys.argv[1]).glob("*.py")):
    exec(compile(path.read_text(), path, "exec"), {"__name__": path.stem})
"""
TASK = "import restore_lib.restore.batch, restore_lib.restore.flow, restore_lib.site"
HEAVY = {"alembic", "boto3", "duckdb", "highspy", "moto", "numpy", "paramiko", "rich", "typer"}


def test_dag_files_import_next_to_nothing() -> None:
    parsed = modules_after(SDK + PARSE, str(ROOT / "dags"))
    added = parsed - modules_after(SDK)
    assert not added & {*HEAVY, "pyeclib", "pyrage", "pydantic_settings", "sqlalchemy"}
    assert {name for name in added if name.startswith("restore_lib.")} == {"restore_lib.errors"}
    assert 5 < len(added) < 50, sorted(added)


def test_the_task_of_a_batch_imports_nothing_that_it_does_not_use() -> None:
    imported = modules_after(TASK)
    assert "restore_lib.restore.batch" in imported
    assert not imported & HEAVY


def test_what_tasks_import_is_imported_once_for_all_their_processes() -> None:
    forked = modules_after("import airflow.settings\nairflow.settings.initialize()", settings=True)
    wanted = modules_after(SDK + PARSE + TASK, str(ROOT / "dags"))
    ours = {name for name in wanted if name.startswith(("restore_lib", "tapeflow_airflow"))}
    assert ours <= forked
    assert "airflow.providers.standard.decorators.python" in forked
    assert not forked & (HEAVY - {"alembic", "rich"})
