"""Thousands of batches through real Airflow: `python -m benchmarks.orchestrate [--json]`.

Each batch is of one object that was never backed up: its task claims it, looks for it, and settles
it in the catalog, as the task of any batch does; only no tape is read. They go through Airflow in
three ways, each with an Airflow and a catalog of its own: mapped by one run at Airflow's default
settings, mapped by one run at ours, and as waves by the DAG `restore_wave`.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from sqlalchemy import func, insert, select

from benchmarks.processes import CpuMeter
from demo.airflow_client import AirflowClient
from demo.airflow_local import ROOT, LocalAirflow
from demo.airflow_settings import Tuning
from demo.processes import interrupt_on_term
from restore_lib.catalog.engine import Catalog
from restore_lib.catalog.tables import batches, items, restore_requests
from restore_lib.config import load_config
from restore_lib.model.states import (
    BatchKind,
    BatchState,
    ItemState,
    LossClass,
    Overwrite,
    RequestState,
)
from restore_lib.model.volume import Reason
from restore_lib.restore.request import start_restore
from restore_lib.site import Site
from restore_lib.tape.age import new_identity
from tests.support.postgres import PostgresServer

_HOME = ROOT / "var" / "bench" / "orchestrate"
_PARALLELISM = 16
_POLL = 0.5
_MANY = 1000
_LONGEST = 3 * 3600.0
_CONFIG = """
[cluster]
id = "bench"
[keys]
recipients = ["{recipient}"]
[stores.live]
kind = "local"
path = "live"
[policies.live]
store = "live"
[library]
drives = {drives}
"""
_DEFAULTS = {
    "AIRFLOW__CORE__PARALLELISM": "32",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "16",
    # A run of more would be refused: this one default can't be kept.
    "AIRFLOW__CORE__MAX_MAP_LENGTH": "100000",
    "AIRFLOW__SDK__QUEUE_TO_COORDINATOR": "{}",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "5",
    "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "3",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "5",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "5",
    "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY": "16",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "300",
    "PYTHONPATH": str(ROOT),
}


@dataclass(frozen=True)
class Way:
    """One way to have batches run."""

    name: str
    does: str
    dag: str
    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)


WAYS = (
    Way(
        "plain, defaults",
        "one run maps all batches; Airflow's default settings",
        "plain",
        ROOT / "benchmarks" / "orchestrate_dags",
        _DEFAULTS,
    ),
    Way(
        "plain, ours",
        "one run maps all batches; our settings",
        "plain",
        ROOT / "benchmarks" / "orchestrate_dags",
        {"AIRFLOW__CORE__MAX_MAP_LENGTH": "100000"},
    ),
    Way("waves", "runs of restore_wave; our settings", "restore_wave", ROOT / "dags"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table or JSON; return 1 when a bar is missed."""
    options = _options(arguments)
    interrupt_on_term()
    rows = []
    with ExitStack() as stack:
        server = stack.enter_context(_postgres()) if options.postgresql else None
        for way, tasks in _runs(options):
            _tell(f"{way.name}: {tasks:,} tasks …")
            row = measure(way, tasks, server, keep=options.keep)
            _tell(_line(row))
            rows.append(row)
    bars = _bars(rows)
    found = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "airflow_database": "postgresql" if options.postgresql else "sqlite",
        "runs": rows,
        "bars": bars,
    }
    print(json.dumps(found) if options.json else _table(found))
    return 0 if all(bars.values()) else 1


def measure(
    way: Way, tasks: int, server: PostgresServer | None, *, keep: bool = False
) -> dict[str, Any]:
    """Run so many batches in one way, and return what it took."""
    home = _HOME / f"{way.name.replace(', ', '-')}-{tasks}"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    dags = home / "dags"
    dags.mkdir()
    shutil.copy(way.folder / f"{way.dag}.py", dags)
    with closing(make_cluster(home / "cluster", tasks)) as site, ExitStack() as stack:
        env = {"TAPEFLOW_CONFIG": str(home / "cluster" / "tapeflow.toml"), **way.env}
        if server is not None:
            name = f"airflow_{time.monotonic_ns()}"
            server.create(name)
            url = server.url(name).replace("+psycopg", "+psycopg2")
            env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = url
        airflow = LocalAirflow(
            home / "airflow",
            dags,
            ROOT / "plugins",
            env,
            drives=_PARALLELISM,
            tuning=Tuning(parallelism=_PARALLELISM),
        )
        stack.enter_context(airflow)
        client = stack.enter_context(airflow.client())
        client.wait_for_dag(way.dag)
        meter = CpuMeter({name: pids[0] for name, pids in airflow.pids.items()})
        begun = datetime.now(UTC)
        start_restore(site, 1, "benchmark")
        if way.dag == "plain":
            client.trigger(way.dag)
        _wait(site, airflow, tasks)
        cpu = meter.seconds()
        ends = _ends(site)
        runs = _batch_runs(client, way.dag)
    if not keep:
        shutil.rmtree(home)
    seconds = [(end - begun).total_seconds() for end in ends]
    return {
        "way": way.name,
        "does": way.does,
        "tasks": tasks,
        "runs": runs,
        "seconds": round(seconds[-1], 1),
        "tasks_per_second": round(tasks / seconds[-1], 2),
        "slowest_decile": round(_slowest_decile(seconds), 2),
        "cpu_seconds_per_task": {name: round(spent / tasks, 4) for name, spent in cpu.items()},
    }


def make_cluster(folder: Path, tasks: int) -> Site:
    """Make a cluster with one planned restore of so many batches, each of one object."""
    folder.mkdir(parents=True)
    (folder / "live").mkdir()
    config = folder / "tapeflow.toml"
    config.write_text(_CONFIG.format(recipient=new_identity()[1], drives=_PARALLELISM))
    site = Site(load_config(config))
    catalog = Catalog(site.config.catalog.url)
    catalog.migrate()
    with catalog.write() as connection:
        request = {
            "store": "live",
            "target": "live",
            "overwrite": Overwrite.NEVER,
            "source": {"names": tasks},
            "reason": Reason.RESTORE,
            "actor": "benchmark",
            "state": RequestState.PLANNED,
            "created_at": site.clock.now(),
        }
        connection.execute(insert(restore_requests), request)
        connection.execute(insert(batches), [_batch(number) for number in range(1, tasks + 1)])
        connection.execute(insert(items), [_item(number) for number in range(1, tasks + 1)])
    catalog.close()
    return site


def _batch(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "request_id": 1,
        "kind": BatchKind.ALTERNATE,
        "volumes": [],
        "objects": 1,
        "bytes": 0,
        "estimate": 0.0,
        "state": BatchState.PLANNED,
        "attempts": 0,
    }


def _item(number: int) -> dict[str, Any]:
    return {
        "request_id": 1,
        "key": b"%08d" % number,
        "loss_class": LossClass.NEVER_BACKED_UP,
        "batch_id": number,
        "state": ItemState.BATCHED,
    }


def _wait(site: Site, airflow: LocalAirflow, tasks: int) -> None:
    until = time.monotonic() + _LONGEST
    ended = select(func.count()).where(batches.c.state == BatchState.DONE)
    while True:
        with site.catalog.read() as connection:
            if connection.execute(ended).scalar_one() == tasks:
                return
        airflow.check()
        if time.monotonic() > until:
            msg = f"{tasks} tasks have not ended in {_LONGEST:.0f} s"
            raise TimeoutError(msg)
        time.sleep(_POLL)


def _ends(site: Site) -> list[datetime]:
    with site.catalog.read() as connection:
        query = select(batches.c.ended_at).order_by(batches.c.ended_at)
        return list(connection.execute(query).scalars())


def _batch_runs(client: AirflowClient, dag: str) -> int:
    """Return how many runs mapped batches."""
    return sum(
        any(t["task_id"] == "restore_batch" and t["map_index"] >= 0 for t in tasks)
        for run in client.dag_runs(dag)
        for tasks in [client.task_instances(dag, run["dag_run_id"])]
    )


def _slowest_decile(seconds: Sequence[float]) -> float:
    """Return the tasks a second of the slowest tenth of the tasks, in the order of their ends."""
    count = len(seconds)
    marks = [round(count * tenth / 10) for tenth in range(11)]
    times = [0.0, *seconds]
    return min(
        (after - before) / max(times[after] - times[before], 1e-9)
        for before, after in pairwise(marks)
        if after > before
    )


def _runs(options: argparse.Namespace) -> Iterator[tuple[Way, int]]:
    chosen = [way for way in WAYS if not options.only or way.name in options.only]
    for way in chosen:
        yield way, options.tasks
    if WAYS[-1] in chosen:
        yield from ((WAYS[-1], tasks) for tasks in options.sizes)


def _bars(rows: Sequence[Mapping[str, Any]]) -> dict[str, bool]:
    waves = {row["tasks"]: row["tasks_per_second"] for row in rows if row["way"] == "waves"}
    fewest = min(waves, default=0)
    found = {f"{n:,} tasks: 8 a second": rate >= 8 for n, rate in waves.items() if n >= _MANY}
    for tasks, rate in waves.items():
        if tasks > fewest:
            name = f"{tasks:,} tasks: 90% of the rate of {fewest:,}"
            found[name] = rate >= 0.9 * waves[fewest]
    return found


@contextmanager
def _postgres() -> Iterator[PostgresServer]:
    folder = _HOME / "postgresql"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    server = PostgresServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


def _table(found: Mapping[str, Any]) -> str:
    lines = [_line(row) for row in found["runs"]]
    lines += [f"{'met   ' if met else 'MISSED'}  {bar}" for bar, met in found["bars"].items()]
    return "\n".join(lines)


def _line(row: Mapping[str, Any]) -> str:
    cpu = row["cpu_seconds_per_task"]
    parts = ", ".join(f"{name} {spent:.3f}" for name, spent in cpu.items())
    return (
        f"{row['way']}: {row['tasks']:,} tasks in {row['runs']} runs, {row['seconds']:.0f} s: "
        f"{row['tasks_per_second']:.2f} a second, slowest tenth {row['slowest_decile']:.2f}; "
        f"CPU seconds a task {sum(cpu.values()):.3f}: {parts}"
    )


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.orchestrate", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--tasks", type=int, default=5475, help="batches of each way")
    parser.add_argument(
        "--sizes", type=int, nargs="*", default=[300, 20000], help="other sizes, for the waves"
    )
    parser.add_argument("--only", action="append", choices=[way.name for way in WAYS])
    parser.add_argument(
        "--postgresql", action="store_true", help="Airflow's own database on PostgreSQL"
    )
    parser.add_argument("--keep", action="store_true", help="keep the folders, with the logs")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
