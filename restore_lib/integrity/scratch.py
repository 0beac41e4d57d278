"""A scratch database on the staging disk, for comparing tables that memory can't hold."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb

from restore_lib.errors import DiskFull

MEMORY_LIMIT = "512MiB"
_PREFIX = "tapeflow-scratch-"
_LOCK = "tapeflow-scratch.lock"
_CHUNK = 20_000


@contextmanager
def scratch_database(parent: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open an empty DuckDB database below ``parent``, and remove it at the end.

    It takes at most 512 MiB of memory and the rest on disk; DiskFull when that has no room. What a
    killed process left there is removed by the next that comes. ``parent`` is made on need.
    """
    parent.mkdir(parents=True, exist_ok=True)
    folder, held = _claim(parent)
    try:
        with _opened(folder) as database:
            yield database
    except duckdb.Error as error:
        if not disk_is_full(error):
            raise
        raise DiskFull(f"The disk of {parent} has no room to compare tables.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def disk_is_full(error: duckdb.Error) -> bool:
    """Return whether the scratch database failed for want of disk."""
    return isinstance(error, duckdb.OutOfMemoryException) or "No space left" in str(error)


def fill(
    database: duckdb.DuckDBPyConnection,
    table: str,
    types: Sequence[str],
    rows: Iterable[Sequence[Any]],
    done: Callable[[int], None] = lambda _: None,
) -> int:
    """Append ``rows`` to a table whose columns are of ``types``, streaming; return how many.

    ``done`` is told the count of each chunk.
    """
    columns = ", ".join(f"unnest(?::{kind}[])" for kind in types)
    waiting = iter(rows)
    total = 0
    while chunk := list(islice(waiting, _CHUNK)):
        database.execute(
            f"INSERT INTO {table} SELECT {columns}",
            [list(column) for column in zip(*chunk, strict=True)],
        )
        total += len(chunk)
        done(len(chunk))
    return total


@contextmanager
def _opened(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    database = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": MEMORY_LIMIT,
            "temp_directory": str(folder),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    try:
        yield database
    finally:
        database.close()


def _claim(parent: Path) -> tuple[Path, int]:
    """Make a folder and lock it for as long as the descriptor is open; remove unlocked ones."""
    with (parent / _LOCK).open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        for other in parent.glob(f"{_PREFIX}*"):
            if _unused(other):
                shutil.rmtree(other, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        held = os.open(folder, os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_EX)
        return folder, held


def _unused(folder: Path) -> bool:
    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(held)
    return True
