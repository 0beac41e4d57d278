"""The stores under test, each on a real server of its kind."""

import contextlib
import hashlib
import os
import random
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from restore_lib.stores import s3
from restore_lib.stores.base import Store
from restore_lib.stores.local import LocalStore
from tests.support.s3server import S3Server, running_s3_server
from tests.support.sshd import Sshd, running_sshd

KINDS = ["local", "s3", "s3-versioned", "sftp"]


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def own_sshd(tmp_path: Path) -> Iterator[Sshd]:
    """A server for a test that stops it."""
    folder = tmp_path / "sshd"
    folder.mkdir()
    with running_sshd(folder) as server:
        yield server


@pytest.fixture(scope="session")
def shared_s3() -> Iterator[S3Server]:
    with running_s3_server() as server:
        yield server


@pytest.fixture
def s3_server(shared_s3: S3Server) -> Iterator[S3Server]:
    yield shared_s3
    shared_s3.heal()


@pytest.fixture(autouse=True)
def _few_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "MAX_ATTEMPTS", 2)


@dataclass(frozen=True)
class Place:
    """Somewhere to open any number of stores over the same objects."""

    kind: str
    open: Callable[[], Store]
    root: Path | None = None


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    root = tmp_path / "root"
    root.mkdir()
    kind = str(request.param)
    if kind == "local":
        return Place(kind, lambda: LocalStore("disk", root), root)
    if kind == "sftp":
        server: Sshd = request.getfixturevalue("sshd")
        return Place(kind, lambda: server.store(root), root)
    service: S3Server = request.getfixturevalue("s3_server")
    bucket = service.bucket(versioned=kind == "s3-versioned")
    return Place(kind, lambda: service.store(bucket, prefix="live/"))


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    with contextlib.closing(place.open()) as opened:
        yield opened


def put(
    store: Store,
    key: bytes,
    data: bytes = b"data",
    *,
    chunk: int = 1 << 20,
    modified_at: datetime | None = None,
    content_type: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Put ``data`` with its true size and digest."""
    store.put(
        key,
        (data[start : start + chunk] for start in range(0, len(data), chunk)),
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        modified_at=modified_at,
        content_type=content_type,
        metadata=metadata,
    )


def get(store: Store, key: bytes, version: str | None = None) -> bytes:
    """Read ``key`` whole."""
    with store.open(key, version=version) as stream:
        return stream.read()


def keys(store: Store, prefix: bytes = b"", **bounds: Any) -> list[bytes]:
    """List the keys."""
    return [found.key for found in store.list(prefix, **bounds)]


def failing(data: bytes, error: Exception) -> Iterable[bytes]:
    """Give ``data``, then ``error``."""
    yield data
    raise error


def made_old(leftover: Path) -> Path:
    """Make an unfinished file one that was begun, and last changed, long ago."""
    _, token = leftover.name.split("-")
    old = leftover.rename(leftover.with_name(f"1-{token}"))
    os.utime(old, (1, 1))
    return old


def noise(size: int) -> bytes:
    """Return the same ``size`` bytes each time, without a pattern in them."""
    return random.Random(0).randbytes(size)


@contextlib.contextmanager
def as_unprivileged(root: Path) -> Iterator[None]:
    """Act as a user without rights, to whom ``root`` belongs; root may read anything."""
    if os.geteuid() != 0:
        yield
        return
    for folder in (root, *root.parents):
        if folder.owner() == "root" and folder.stat().st_mode & 0o077 == 0:
            folder.chmod(0o711)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int = 1) -> Iterator[Path]:
    """A disk of its own with so little room."""
    assert os.geteuid() == 0, "this test mounts a small disk: run it as root, as in a container"
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=1777", "tmpfs", disk], check=True
    )
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
