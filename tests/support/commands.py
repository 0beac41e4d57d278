"""The `tapeflow` command as users run it, on a small cluster that has a backup already."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from typer.testing import CliRunner, Result

from demo.vendor import open_vendors
from restore_lib.catalog.tables import extents, objects, stripes, tape_files, versions
from restore_lib.cli.app import app
from restore_lib.config import load_config
from tests.support.sites import back_up, make_site, open_site, write_files

POLICY = 'k = 4\nm = 2\nblock_size = "4KiB"\nsegment_size = "64KiB"'
MORE = """
[stores.scratch]
kind = "local"
path = "scratch"
[drills.monthly]
policy = "live"
scratch = "scratch"
sample = 7
prefix = "d1/"
"""
HOSTILE = {
    b"line\nbreak.txt": b"1",
    b"[bold]markup[/bold] :smile:": b"22",
    b"not-utf8-\xff\xfe": b"333",
    b'"quoted" and spaced': b"",
}
FILES = HOSTILE | {
    f"d{number % 5}/file-{number:03}.txt".encode(): os.urandom(3000 + number * 100)
    for number in range(60)
}


def tapeflow(root: Path, *arguments: object, stdin: bytes = b"") -> Result:
    """Run the command in this process on the cluster in ``root``."""
    config = ["--config", str(root / "tapeflow.toml")]
    return CliRunner().invoke(app, [*config, *map(str, arguments)], input=stdin)


def succeeds(root: Path, *arguments: object, code: int = 0) -> Result:
    """Run the command; fail unless it ends with exit code ``code``."""
    result = tapeflow(root, *arguments)
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result


def as_json(root: Path, *arguments: object, code: int = 0) -> dict[str, Any]:
    """Run the command with --json; nothing but one line of JSON may be on its stdout."""
    result = succeeds(root, *arguments, "--json", code=code)
    [line] = result.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def refused(root: Path, *arguments: object, code: int) -> str:
    """Run the command, which has to end by an error as users see it; return what it says."""
    result = succeeds(root, *arguments, code=code)
    message, remedy, *rest = result.stderr.splitlines()[-2:]
    assert message.startswith("error: "), result.stderr
    assert remedy.startswith("remedy: "), result.stderr
    assert not rest
    assert "Traceback" not in result.output
    return f"{message}\n{remedy}"


def process(root: Path, *arguments: str, terminal: int | None = None) -> "subprocess.Popen[str]":
    """Start the command as a process of its own, with ``terminal`` or with pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "restore_lib.cli", *arguments],
        cwd=root,
        env=os.environ
        | {
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "TAPEFLOW_CONFIG": str(root / "tapeflow.toml"),
            "TERM": "xterm",
        },
        stdin=subprocess.DEVNULL if terminal is None else terminal,
        stdout=subprocess.PIPE if terminal is None else subprocess.DEVNULL,
        stderr=subprocess.PIPE if terminal is None else terminal,
        text=True,
    )


def keys_on(root: Path) -> dict[str, set[bytes]]:
    """Return the names of the objects on each data volume, as the catalog's tables have it."""
    query = (
        select(tape_files.c.barcode, objects.c.key)
        .join(stripes, stripes.c.id == tape_files.c.stripe_id)
        .join(
            extents,
            (extents.c.stripe_id == stripes.c.id) & (extents.c.position == tape_files.c.position),
        )
        .join(versions, versions.c.id == extents.c.version_id)
        .join(objects, objects.c.id == versions.c.object_id)
    )
    site = open_site(root)
    found: dict[str, set[bytes]] = {}
    with site.catalog.read() as connection:
        for barcode, key in connection.execute(query):
            found.setdefault(barcode, set()).add(bytes(key))
    site.close()
    return found


@contextmanager
def vendor(root: Path) -> Iterator[None]:
    """Let the vault's vendor work, until the block ends."""
    stop = threading.Event()
    vendors = open_vendors(load_config(root / "tapeflow.toml"))

    def serve() -> None:
        while not stop.is_set():
            for one in vendors:
                one.work()
            stop.wait(0.05)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def send_all_to_the_vault(root: Path) -> None:
    """Bring every volume that has data to the vault."""
    with vendor(root):
        succeeds(root, "vault", "out")
        while any(volume["custody"] != "vault" for volume in as_json(root, "volumes")["volumes"]):
            succeeds(root, "vault", "receive")


@pytest.fixture(scope="session")
def _prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prepared") / "cluster"
    site = make_site(root, policy=POLICY, extra=MORE, blank=6)
    (root / "scratch").mkdir()
    write_files(root / "live", FILES)
    back_up(site)
    site.close()
    return root


@pytest.fixture
def cluster(_prepared: Path, tmp_path: Path) -> Path:
    """The folder of a cluster of its own: ``FILES`` are backed up on one set of six volumes."""
    root = tmp_path / "cluster"
    shutil.copytree(_prepared, root)
    return root


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """The folder of a cluster with ``FILES``, and with no backup yet."""
    root = tmp_path / "fresh"
    make_site(root, policy=POLICY, extra=MORE, blank=12).close()
    (root / "scratch").mkdir()
    write_files(root / "live", FILES)
    return root
