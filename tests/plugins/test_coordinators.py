import configparser
import errno
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from airflow.sdk.api.datamodels._generated import (
    BundleInfo,
    DagRun,
    TaskInstance,
    TIRunContext,
)
from airflow.sdk.execution_time import supervisor
from airflow.sdk.execution_time.coordinator import CoordinatorManager

from demo.airflow_local import ROOT
from demo.airflow_settings import Home, Tuning, write_settings
from tapeflow_airflow.coordinators import PromptCoordinator, PromptSubprocess
from tapeflow_airflow.runs import TAPE_QUEUE

LONG = 60.0
Run = Callable[[Callable[[], None]], tuple[int, float]]


class Server:
    """Takes what a supervisor reports of its task."""

    def __init__(self) -> None:
        self.task_instances = self
        self.heartbeats = 0
        self.states: list[str] = []

    def start(self, *_: object) -> TIRunContext:
        now = datetime.now(UTC)
        run = DagRun.model_construct(dag_id="d", run_id="r", run_after=now, start_date=now)
        return TIRunContext.model_construct(dag_run=run, max_tries=0, should_retry=False)

    def heartbeat(self, *_: object, **__: object) -> None:
        self.heartbeats += 1

    def finish(self, *_: object, state: Any, **__: object) -> None:
        self.states.append(state)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def run(server: Server) -> Iterator[Run]:
    """Return what runs a task that does nothing but the given, and tells how it ended and when."""

    def running(target: Callable[[], None]) -> tuple[int, float]:
        task = TaskInstance.model_construct(
            id=uuid4(), task_id="t", dag_id="d", run_id="r", try_number=1, map_index=-1
        )
        client: Any = server
        begun = time.monotonic()
        process = PromptSubprocess.start(
            what=task,
            dag_rel_path="d.py",
            bundle_info=BundleInfo.model_construct(name="b"),
            client=client,
            target=target,
        )
        return process.wait(), time.monotonic() - begun

    before = open_files()
    yield running
    assert open_files() == before


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def close_all() -> None:
    """Close all sockets, an instant before the end."""
    os.closerange(0, 200)
    time.sleep(0.3)


def silent() -> None:
    close_all()
    os._exit(0)


def killed() -> None:
    close_all()
    os.kill(os.getpid(), signal.SIGKILL)


def lasting() -> None:
    time.sleep(0.7)


@pytest.mark.parametrize(
    ("target", "code", "states"), [(silent, 0, []), (killed, -signal.SIGKILL, ["failed"])]
)
def test_the_end_of_a_task_is_seen_at_once(
    run: Run,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    target: Callable[[], None],
    code: int,
    states: list[str],
) -> None:
    monkeypatch.setattr(supervisor, "MIN_HEARTBEAT_INTERVAL", LONG)
    ended, seconds = run(target)
    assert ended == code
    assert seconds < LONG / 2
    assert server.states == states
    assert server.heartbeats == 0


def test_where_it_can_not_be_told_at_once_it_is_seen_later(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: int) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(supervisor, "MIN_HEARTBEAT_INTERVAL", 1.0)
    monkeypatch.setattr(os, "pidfd_open", refused)
    assert run(silent)[0] == 0


def test_a_task_that_lasts_sends_heartbeats(
    run: Run,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "MIN_HEARTBEAT_INTERVAL", 0.1)
    assert run(lasting)[0] == 0
    assert server.heartbeats > 1


def of_make_airflow(folder: Path) -> Mapping[str, str]:
    home = Home(folder)
    write_settings(home, dags=ROOT / "dags", plugins=ROOT / "plugins", tuning=Tuning())
    written = configparser.ConfigParser(interpolation=None)
    written.read(home.config)
    return dict(written["sdk"])


def of_compose(_: Path) -> Mapping[str, str]:
    settings = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["x-airflow-env"]
    prefix = "AIRFLOW__SDK__"
    return {
        name.removeprefix(prefix).lower(): value
        for name, value in settings.items()
        if name.startswith(prefix)
    }


@pytest.mark.parametrize("settings", [of_make_airflow, of_compose])
@pytest.mark.parametrize("queue", ["default", TAPE_QUEUE])
def test_it_runs_the_tasks_of_every_queue(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: Callable[[Path], Mapping[str, str]],
    queue: str,
) -> None:
    for name, value in settings(tmp_path).items():
        monkeypatch.setenv(f"AIRFLOW__SDK__{name.upper()}", value)
    assert isinstance(CoordinatorManager.from_config().for_queue(queue), PromptCoordinator)


def test_where_it_is_not_among_the_plugins_airflow_runs_the_tasks(tmp_path: Path) -> None:
    home = Home(tmp_path)
    write_settings(home, dags=tmp_path, plugins=tmp_path, tuning=Tuning())
    assert "coordinators" not in home.config.read_text()
