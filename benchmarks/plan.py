"""How long planning takes: ``python -m benchmarks.plan [--postgresql] [--json] [--objects N …]``.

Plans the restore of an incident's losses, from the incident to durable batches and the volumes to
recall, in a catalog that is built once below var/bench and kept. What is measured is the whole of
``plan_restore`` in a process of its own: seconds by the clock, and the most memory of the process,
to which that of the database's process is added on PostgreSQL, shared memory included. Medians of
``--rounds``. The exit status is 1 when a bar is missed.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

from sqlalchemy import text

from benchmarks.plan_catalog import Size, build
from restore_lib.catalog.engine import Catalog
from restore_lib.config import load_config
from restore_lib.model.states import BatchKind
from restore_lib.restore.request import RestoreSpec, plan_restore
from restore_lib.site import Site
from restore_lib.tape.age import new_identity
from tests.support.postgres import PostgresServer

FOLDER = Path("var/bench")
BAR_SECONDS = 15.0
BAR_BYTES = 10**9
_SERVER = {
    "shared_buffers": "256MB",
    "work_mem": "32MB",
    "max_wal_size": "4GB",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
}
_CONFIG = """
[cluster]
id = "bench"
[catalog]
url = "{url}"
[staging]
path = "staging"
[keys]
recipients = ["{recipient}"]
identity_file = "operating.txt"
[stores.live]
kind = "local"
path = "live"
[stores.mirror]
kind = "local"
path = "mirror"
[policies.live]
store = "live"
k = 9
m = 2
[library]
path = "tapes"
drives = 100
[couriers.van]
path = "van"
"""
_VAULT = """
[vaults.v{number}]
courier = "van"
transit = "{hours}h"
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One plan that was made, and what it cost: ``cpu`` of all processes, memory in bytes."""

    seconds: float
    cpu: float
    peak: int
    peak_of_database: int
    batches: int
    gathers: int
    volumes: int
    unrestorable: int
    selection: object


def measure(root: Path, url: str, rounds: int) -> list[Run]:
    """Plan so often, each time in a new process, and take each plan back."""
    runs: list[Run] = []
    catalog = Catalog(url)
    catalog.migrate()
    catalog.close()
    _take_back(root, url)
    for _ in range(rounds):
        with get_context("spawn").Pool(1) as pool:
            runs.append(pool.apply(_plan_once, (root, url)))
        _take_back(root, url)
    return runs


def _site(root: Path, url: str) -> Site:
    return Site(load_config(_write_config(root, url)))


def _write_config(root: Path, url: str) -> Path:
    recipient = (root / "recipient.txt").read_text()
    vaults = "".join(_VAULT.format(number=n, hours=4 + 2 * n) for n in range(6))
    path = root / "tapeflow.toml"
    path.write_text(_CONFIG.format(url=url, recipient=recipient) + vaults)
    return path


def _plan_once(root: Path, url: str) -> Run:
    site = _site(root, url)
    (root / "staging").mkdir(exist_ok=True)
    pid = _backend(site)
    begun, cpu = time.perf_counter(), _cpu(pid)
    plan = plan_restore(site, RestoreSpec(incident=1), "benchmark")
    seconds, cpu = time.perf_counter() - begun, _cpu(pid) - cpu
    peak, peak_of_database = _peak(os.getpid()), _peak(pid)
    with site.catalog.engine.connect() as connection:
        gathers = connection.execute(
            text("SELECT count(*) FROM batches WHERE request_id = :id AND kind = :kind"),
            {"id": plan.request_id, "kind": str(BatchKind.GATHER)},
        ).scalar_one()
    site.close()
    detail = plan.detail
    return Run(
        seconds,
        cpu,
        peak,
        peak_of_database,
        detail["batches"],
        gathers,
        len(detail["volumes"]),
        detail["counts"]["unrestorable"],
        detail.get("selection"),
    )


def _backend(site: Site) -> int | None:
    """Return the process that serves this process' one connection; None: the database is a file."""
    with site.catalog.engine.connect() as connection:
        if connection.dialect.name != "postgresql":
            return None
        return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def _cpu(pid: int | None) -> float:
    """Return the seconds of this process, of those that it has ended, and of the database's."""
    own = sum(os.times()[:4])
    if pid is None:
        return own
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return own + ticks / os.sysconf("SC_CLK_TCK")


def _peak(pid: int | None) -> int:
    """Return the most memory a process has had since it began its program, in bytes.

    ``ru_maxrss`` would count what the process had that started it, as after a build of the catalog.
    """
    if pid is None:
        return 0
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


def _take_back(root: Path, url: str) -> None:
    """Delete every plan, also what a run that was killed has left."""
    site = _site(root, url)
    with site.catalog.write() as connection:
        for statement in (
            "DELETE FROM items",
            "DELETE FROM batches",
            "DELETE FROM restore_requests",
        ):
            connection.execute(text(statement))
    engine = site.catalog.engine
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM items")
            connection.exec_driver_sql("CHECKPOINT")
    site.close()


@contextmanager
def database(root: Path, size: Size, *, postgresql: bool) -> Iterator[str]:
    """Give the URL of a catalog of this size, built when it is not there yet."""
    made = root / ("postgresql.built" if postgresql else "sqlite.built")
    if not postgresql:
        path = root / "catalog.db"
        if not made.exists():
            path.unlink(missing_ok=True)
            _build(f"sqlite:///{path.absolute()}", root, size, made)
        yield f"sqlite:///{path.absolute()}"
        return
    folder = root / "postgresql"
    if not made.exists():
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    if not made.exists():
        server = PostgresServer(
            folder.absolute(), {"max_wal_size": "8GB", "maintenance_work_mem": "256MB"}
        )
        server.start()
        try:
            server.create("bench")
            _build(server.url("bench"), root, size, made)
        finally:
            server.stop()
    server = PostgresServer(folder.absolute(), _SERVER)
    server.start()
    try:
        yield server.url("bench")
    finally:
        server.stop()


def _build(url: str, root: Path, size: Size, made: Path) -> None:
    begun = time.perf_counter()
    build(url, size, (root / "recipient.txt").read_text())
    made.write_text(json.dumps({"seconds": time.perf_counter() - begun}))


def _root(size: Size) -> Path:
    root = FOLDER / f"plan-{size.objects}-{size.wanted}-{size.volumes}"
    root.mkdir(parents=True, exist_ok=True)
    if not (root / "recipient.txt").exists():
        identity, recipient = new_identity()
        (root / "operating.txt").write_text(identity)
        (root / "recipient.txt").write_text(recipient)
    return root


def main() -> int:
    """Build what is missing, plan, and print what it cost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--objects", type=int, default=10_000_000)
    parser.add_argument("--wanted", type=int, default=436_223)
    parser.add_argument("--never", type=int, default=161_000)
    parser.add_argument("--volumes", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--postgresql", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    size = Size(options.objects, options.wanted, options.volumes, options.never)
    root = _root(size)
    with database(root, size, postgresql=options.postgresql) as url:
        runs = measure(root, url, options.rounds)
    seconds = statistics.median(run.seconds for run in runs)
    cpu = statistics.median(run.cpu for run in runs)
    peak = statistics.median(run.peak + run.peak_of_database for run in runs)
    scale = max(1.0, size.wanted / 436_223)
    met = seconds <= BAR_SECONDS * scale and peak <= BAR_BYTES * scale
    found = {
        "database": "postgresql" if options.postgresql else "sqlite",
        "size": asdict(size),
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_bytes": peak,
        "met": met,
        "runs": [asdict(run) for run in runs],
    }
    if options.json:
        print(json.dumps(found))
    else:
        print(f"{found['database']}: {size.wanted:,} wanted of {size.objects:,} objects")
        print(f"seconds  {seconds:8.1f}   (bar {BAR_SECONDS * scale:.0f})")
        print(f"cpu      {cpu:8.1f}   (all processes)")
        print(f"memory   {peak / 1e6:8.0f} MB (bar {BAR_BYTES * scale / 1e6:.0f})")
        print(f"batches  {runs[-1].batches:8,}   of which {runs[-1].gathers:,} gather")
        print(f"volumes  {runs[-1].volumes:8,}")
        print(f"selection {runs[-1].selection}")
        print(f"each      {[round(run.seconds, 1) for run in runs]}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
