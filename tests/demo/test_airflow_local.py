import os
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from demo.airflow_client import AirflowApiError, AirflowClient
from demo.airflow_local import COMPONENTS, DRIVE_POOL, ROOT, AirflowFailed, LocalAirflow
from demo.processes import session_members
from tests.support.airflow_env import local_airflow

pytestmark = pytest.mark.system

DAG_FILE = """
import os
import time
from pathlib import Path

from airflow.sdk import DAG, get_current_context, task

with DAG("probe", schedule=None):

    @task
    def numbers():
        return list(range(5))

    @task
    def environment():
        return [os.environ["PROBE"], __import__("restore_lib").__name__]

    @task
    def double(number):
        return 2 * number

    @task(pool="tape_drives", retries=20, retry_delay=1)
    def wait():
        folder = Path(os.environ["PROBE"])
        attempt = get_current_context()["ti"].try_number
        (folder / f"attempt-{attempt}").touch()
        while not (folder / "go").exists():
            time.sleep(0.05)
        return attempt

    double.expand(number=numbers()) >> wait()
    environment()
"""


def until(condition: Callable[[], bool], timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("probe")


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, probe: Path) -> Iterator[LocalAirflow]:
    folder = tmp_path_factory.mktemp("100% real")
    (folder / "dags").mkdir()
    (folder / "dags" / "probe.py").write_text(DAG_FILE)
    airflow = local_airflow(
        folder, dags=folder / "dags", plugins=folder / "plugins", env={"PROBE": str(probe)}
    )
    with airflow:
        yield airflow
        pids = {pid for members in airflow.pids.values() for pid in members}
        leaders = [members[0] for members in airflow.pids.values()]
    assert len(pids) > len(COMPONENTS)
    assert not any(session_members(leader) for leader in leaders)
    assert airflow.pids == {}


@pytest.fixture(scope="module")
def client(airflow: LocalAirflow) -> Iterator[AirflowClient]:
    with airflow.client() as client:
        client.wait_for_dag("probe")
        yield client


def test_a_run_outlives_the_scheduler_and_the_api_server(
    airflow: LocalAirflow, client: AirflowClient, probe: Path
) -> None:
    run_id = client.trigger("probe", {"why": "test"})
    until((probe / "attempt-1").exists)

    airflow.kill("scheduler")
    assert not airflow.pids["scheduler"]
    with pytest.raises(AirflowFailed, match=r"(?s)scheduler ended with code -9.*LocalExecutor"):
        airflow.check()
    airflow.restart("scheduler")
    airflow.restart("api-server")
    # An attempt that begins while the api-server is down ends before it has run anything.
    until(lambda: len(list(probe.glob("attempt-*"))) > 1, timeout=180)
    (probe / "go").touch()
    attempts = [int(path.name.removeprefix("attempt-")) for path in probe.glob("attempt-*")]

    seen: list[str] = []
    state = client.wait_for_run(
        "probe", run_id, timeout=60, on_progress=lambda state, counts: seen.append(state)
    )
    assert state == "success"
    assert seen[-1] == "success"
    assert client.xcom("probe", run_id, "wait") == max(attempts)
    assert client.xcom("probe", run_id, "environment") == [str(probe), "restore_lib"]
    assert client.xcom("probe", run_id, "double", map_index=4) == 8
    assert client.run("probe", run_id)["conf"] == {"why": "test"}
    tasks = client.task_instances("probe", run_id)
    assert len([task for task in tasks if task["task_id"] == "double"]) == 5
    assert client.task_states("probe", run_id) == {"success": 8}


def test_a_trigger_that_is_repeated_starts_one_run(client: AirflowClient, probe: Path) -> None:
    (probe / "go").touch()
    for _ in range(2):
        assert client.trigger("probe", run_id="once") == "once"
    assert [run["dag_run_id"] for run in client.dag_runs("probe")].count("once") == 1
    assert client.wait_for_run("probe", "once", timeout=60) == "success"
    assert client.clear("probe", "once", task_ids=["environment"]) == 1
    assert client.wait_for_run("probe", "once", timeout=60) == "success"
    assert client.xcom("probe", "once", "environment")[1] == "restore_lib"


def test_errors_name_what_is_missing(airflow: LocalAirflow, client: AirflowClient) -> None:
    with pytest.raises(AirflowApiError, match="no DAG 'nothing'"):
        client.wait_for_dag("nothing", timeout=0)
    with pytest.raises(AirflowApiError, match="404"):
        client.trigger("nothing")
    with (
        AirflowClient(airflow.base_url, "admin", "wrong") as stranger,
        pytest.raises(AirflowApiError, match="refused the login"),
    ):
        stranger.dag_runs("probe")


def test_the_pool_of_drives_can_be_resized(airflow: LocalAirflow, client: AirflowClient) -> None:
    client.set_pool(DRIVE_POOL, 3)
    with closing(sqlite3.connect(airflow.home.database)) as database:
        row = database.execute(
            "SELECT slots, include_deferred FROM slot_pool WHERE pool = ?", [DRIVE_POOL]
        ).fetchone()
    assert row == (3, 0)


def test_secrets_are_for_their_owner_only(airflow: LocalAirflow) -> None:
    for path in (airflow.home.config, airflow.home.passwords):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(airflow.password) >= 16
    for component in COMPONENTS:
        assert airflow.password not in airflow.log_path(component).read_text("utf-8")


def test_no_component_complains_of_a_locked_database(airflow: LocalAirflow) -> None:
    for component in COMPONENTS:
        assert "database is locked" not in airflow.log_path(component).read_text("utf-8")
    with closing(sqlite3.connect(airflow.home.database)) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_home_in_use_is_refused(airflow: LocalAirflow) -> None:
    second = LocalAirflow(airflow.home.path, airflow.dags, airflow.plugins)
    with pytest.raises(AirflowFailed, match=r"runs on .* already"):
        second.start()
    airflow.check()


def test_a_start_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    airflow = local_airflow(tmp_path)
    airflow.timeout = 0.0
    with pytest.raises(AirflowFailed, match="api-server is not up after 0 s"):
        airflow.start()
    assert airflow.pids == {}
    assert list(airflow.home.components.glob("*.pid")) == []
    with pytest.raises(AirflowFailed, match="not up"):
        airflow.start()


def test_what_a_killed_run_left_is_ended_and_its_state_taken_up(tmp_path: Path) -> None:
    config = tmp_path / "tapeflow.toml"
    config.touch()
    home = tmp_path / "airflow"
    (tmp_path / "dags").mkdir()
    command = [sys.executable, "-m", "demo.airflow_local", "--home", str(home)]
    command += ["--config", str(config), "--dags", str(tmp_path / "dags")]
    command += ["--plugins", str(tmp_path / "plugins")]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as first:
        assert first.stderr
        for line in first.stderr:
            if "starting" in line:
                break
        pid_files = home / "components"
        until(lambda: len(list(pid_files.glob("*.pid"))) == len(COMPONENTS))
        first.kill()
    left = [int(path.read_text()) for path in pid_files.glob("*.pid")]
    assert all(session_members(leader) for leader in left)
    password = (home / "passwords.json").read_text()

    second = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert second.stdout
    greeting = second.stdout.readline()
    assert "http://127.0.0.1:" in greeting
    assert not any(session_members(leader) for leader in left)
    assert (home / "passwords.json").read_text() == password
    started = [int(path.read_text()) for path in pid_files.glob("*.pid")]
    second.terminate()
    assert second.wait(60) == 0
    second.stdout.close()
    assert not any(session_members(leader) for leader in started)
    assert list(pid_files.glob("*.pid")) == []


def test_without_a_demonstration_there_is_nothing_to_start(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demo.airflow_local", "--config", str(tmp_path / "none.toml")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    assert "make demo" in done.stderr
