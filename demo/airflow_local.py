"""Airflow on this machine alone: its four components, each in a session of its own.

``python -m demo.airflow_local`` starts it on the state that a demonstration left, and keeps it up
until Ctrl-C or SIGTERM.
"""

import argparse
import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import httpx

from demo.airflow_client import AirflowClient
from demo.airflow_settings import USER, Home, Tuning, read_password, write_settings
from demo.processes import (
    end_sessions,
    interrupt_on_term,
    kill_session,
    session_members,
    start_session,
)

ROOT = Path(__file__).resolve().parents[1]
DRIVE_POOL = "tape_drives"
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
_ARGUMENTS = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
_POLL = 0.1
_TAIL = 40


class AirflowFailed(Exception):
    """Airflow could not be started or kept up; the message holds the end of the log."""


class LocalAirflow:
    """Airflow in the standalone shape: SQLite, LocalExecutor, loopback, one generated user.

    ``home`` becomes AIRFLOW_HOME and may hold the state of a former run, which is taken up;
    processes that a killed former run left there are ended first. ``env`` is added to the
    environment of every component and so of every task. ``drives`` sizes the pool of tape drives.
    ``beside`` are other programs to run with it, by name: each is started, killed and stopped as a
    component is. ``template`` is a folder in which an empty, migrated metadata database is kept for
    the next home. Use it as a context manager, or call ``start`` and ``stop``; the methods that
    start something raise AirflowFailed.
    """

    def __init__(
        self,
        home: Path,
        dags: Path,
        plugins: Path,
        env: Mapping[str, str] | None = None,
        *,
        drives: int = 2,
        beside: Mapping[str, Sequence[str]] | None = None,
        tuning: Tuning | None = None,
        template: Path | None = None,
        timeout: float = 120.0,
    ) -> None:
        self.home = Home(home.resolve())
        self.dags = dags.resolve()
        self.plugins = plugins.resolve()
        self.drives = drives
        self._commands = {
            name: (sys.executable, "-m", "airflow", *arguments)
            for name, arguments in _ARGUMENTS.items()
        } | {name: tuple(command) for name, command in (beside or {}).items()}
        self.tuning = tuning or Tuning()
        self.template = template
        self.timeout = timeout
        self.user = USER
        self.base_url = ""
        self._extra = dict(env or {})
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def password(self) -> str:
        """The generated password of ``user``."""
        return read_password(self.home)

    @property
    def pids(self) -> dict[str, list[int]]:
        """The pids of each component: its own, its workers' and their tasks'."""
        return {name: session_members(process.pid) for name, process in self._processes.items()}

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the components; ``airflow`` commands work under it too."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW_")}
        own = (str(ROOT), str(ROOT / "deploy" / "airflow"))
        path = os.pathsep.join(filter(None, (*own, inherited.get("PYTHONPATH"))))
        return inherited | {
            "AIRFLOW_HOME": str(self.home.path),
            "AIRFLOW_CONFIG": str(self.home.config),
            "PYTHONPATH": path,
            "PYTHONUNBUFFERED": "1",
            "NO_COLOR": "1",
            **self._extra,
        }

    def log_path(self, component: str) -> Path:
        """Return the path of a component's log."""
        return self.home.components / f"{component}.log"

    def client(self) -> AirflowClient:
        """Return a client of this Airflow, logged in as ``user``."""
        return AirflowClient(self.base_url, self.user, self.password)

    def start(self) -> None:
        """Start all components and wait until each is healthy; on failure all are stopped."""
        for folder in (self.home.path, self.home.components, self.plugins):
            folder.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        try:
            self._end_leftovers()
            self.base_url = write_settings(
                self.home, dags=self.dags, plugins=self.plugins, tuning=self.tuning
            )
            self.migrate()
            _say(f"starting Airflow at {self.base_url}")
            launched = datetime.now(UTC)
            for name in self._commands:
                self._launch(name)
            for component in COMPONENTS:
                self._wait_healthy(component, launched)
            with self.client() as client:
                client.set_pool(DRIVE_POOL, self.drives, description="one slot for each tape drive")
        except BaseException:
            self.stop(grace=1.0)
            raise

    def stop(self, grace: float = 5.0) -> None:
        """Stop all components, the api-server last so that tasks can still report to it.

        Each gets SIGTERM and up to ``grace`` seconds; then no process of it is left.
        """
        self._end([name for name in self._commands if name != COMPONENTS[0]], grace)
        self._end(COMPONENTS[:1], grace)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def evict(self) -> None:
        """End what a killed former run left running on this home; AirflowFailed if one is alive."""
        if self.home.components.is_dir():
            self._take_lock()
            self._end_leftovers()
            self.stop()

    def restart(self, component: str, grace: float = 5.0) -> None:
        """Stop a component, if it still runs, start it anew and wait until it is healthy."""
        self._end([component], grace)
        launched = datetime.now(UTC)
        self._launch(component)
        self._wait_healthy(component, launched)

    def kill(self, component: str) -> None:
        """SIGKILL a component with all its workers and their tasks."""
        process = self._processes[component]
        kill_session(process.pid)
        process.wait()

    def check(self) -> None:
        """Raise AirflowFailed when a component has ended by itself."""
        for component, process in self._processes.items():
            code = process.poll()
            if code is not None:
                msg = f"Airflow's {component} ended with code {code}. {self._tail(component)}"
                raise AirflowFailed(msg)

    def migrate(self) -> None:
        """Bring the metadata database to this Airflow's schema; a new one comes of the template."""
        airflow = version("apache-airflow")
        marker = self.home.path / "schema"
        if marker.exists() and marker.read_text("utf-8") == airflow and self.home.database.exists():
            return
        ready = self.template and self.template / f"airflow-{airflow}.db"
        if ready and ready.exists() and not self.home.database.exists():
            beside = self.home.database.with_suffix(".new")
            shutil.copyfile(ready, beside)
            beside.replace(self.home.database)
        else:
            self._migrate_for_real(ready)
        marker.write_text(airflow, "utf-8")

    def _migrate_for_real(self, template: Path | None) -> None:
        _say("creating Airflow's metadata database")
        fresh = not self.home.database.exists()
        done = subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            env=self.environment,
            cwd=self.home.path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            msg = f"`airflow db migrate` failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
            raise AirflowFailed(msg)
        with closing(sqlite3.connect(self.home.database)) as database:
            # Readers do not wait for the writer; the mode stays with the file.
            database.execute("PRAGMA journal_mode=WAL")
        if fresh and template is not None:
            template.parent.mkdir(parents=True, exist_ok=True)
            beside = template.with_name(f".{template.name}.{os.getpid()}")
            shutil.copyfile(self.home.database, beside)
            beside.replace(template)

    def _launch(self, component: str) -> None:
        process = start_session(
            self._commands[component],
            env=self.environment,
            cwd=self.home.path,
            log=self.log_path(component),
        )
        self._processes[component] = process
        (self.home.components / f"{component}.pid").write_text(str(process.pid), "utf-8")

    def _end(self, components: Sequence[str], grace: float) -> None:
        started = [name for name in components if name in self._processes]
        end_sessions([self._processes[name] for name in started], grace=grace)
        for name in started:
            del self._processes[name]
            (self.home.components / f"{name}.pid").unlink()

    def _end_leftovers(self) -> None:
        for recorded in self.home.components.glob("*.pid"):
            kill_session(int(recorded.read_text("utf-8")), cwd=self.home.path)
            recorded.unlink()

    def _take_lock(self) -> None:
        self._lock = (self.home.path / "lock").open("a", encoding="utf-8")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            self._lock = None
            msg = f"An Airflow runs on {self.home.path} already; stop that one first."
            raise AirflowFailed(msg) from None

    def _wait_healthy(self, component: str, launched: datetime) -> None:
        deadline = time.monotonic() + self.timeout
        while not self._is_healthy(component, launched):
            self.check()
            if time.monotonic() > deadline:
                msg = (
                    f"Airflow's {component} is not up after {self.timeout:.0f} s. "
                    f"{self._tail(component)}"
                )
                raise AirflowFailed(msg)
            time.sleep(_POLL)
        _say(f"{component} is up")

    def _is_healthy(self, component: str, launched: datetime) -> bool:
        try:
            answer = httpx.get(
                f"{self.base_url}/api/v2/monitor/health", timeout=10.0, trust_env=False
            )
        except httpx.TransportError:
            return False
        if not answer.is_success or component == "api-server":
            return answer.is_success
        name = component.replace("-", "_")
        job = answer.json()[name]
        beat = job[f"latest_{name}_heartbeat"]
        # A heartbeat from before the launch is that of a predecessor.
        return job["status"] == "healthy" and datetime.fromisoformat(beat) > launched

    def _tail(self, component: str) -> str:
        log = self.log_path(component)
        lines = log.read_text("utf-8", "replace").splitlines()[-_TAIL:]
        return f"The end of {log}:\n" + "\n".join(lines)


def _say(line: str) -> None:
    print(f"airflow: {line}", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Start Airflow on existing state and keep it up until SIGINT or SIGTERM."""
    state = ROOT / "var" / "demo"
    parser = argparse.ArgumentParser(prog="python -m demo.airflow_local", description=__doc__)
    parser.add_argument("--home", type=Path, default=state / "airflow", help="AIRFLOW_HOME")
    parser.add_argument("--config", type=Path, default=state / "tapeflow.toml")
    parser.add_argument("--dags", type=Path, default=ROOT / "dags")
    parser.add_argument("--plugins", type=Path, default=ROOT / "plugins")
    options = parser.parse_args(arguments)
    if not options.config.exists():
        _say(f"there is no {options.config}; run `make demo` first, or name one with --config")
        return 1
    interrupt_on_term()
    airflow = LocalAirflow(
        options.home,
        options.dags,
        options.plugins,
        {"TAPEFLOW_CONFIG": str(options.config.resolve())},
        template=ROOT / "var" / "cache",
    )
    try:
        with airflow:
            print(f"Airflow: {airflow.base_url}   user: {airflow.user}   ", end="")
            print(f"password: {airflow.password}\nStop it with Ctrl-C.", flush=True)
            while True:
                airflow.check()
                time.sleep(1)
    except KeyboardInterrupt:
        return 0
    except AirflowFailed as error:
        _say(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
