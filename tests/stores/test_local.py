"""What a folder of files keeps beyond what every store keeps."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from restore_lib.errors import (
    ConfigError,
    DiskFull,
    ObjectNameRefused,
    ObjectUnreadable,
    Refused,
    StoreUnavailable,
)
from restore_lib.stores.local import LocalStore
from restore_lib.stores.local_group import LocalGroup
from tests.stores.conftest import as_unprivileged, get, keys, made_old, noise, put, small_disk

PART = st.binary(min_size=1, max_size=3).map(lambda name: bytes(c or 1 for c in name))
PARTS = PART.filter(lambda name: b"/" not in name and name not in {b".", b".."})
KEY = st.lists(PARTS, min_size=1, max_size=3).map(b"/".join)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def store(root: Path) -> LocalStore:
    return LocalStore("disk", root)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(wanted=st.sets(KEY, max_size=12), prefix=KEY, after=KEY, until=KEY)
@example({b"a/b", b"a-", b"a0"}, b"a", b"a-", b"a/b")
def test_list_is_in_byte_order(
    tmp_path_factory: pytest.TempPathFactory,
    wanted: set[bytes],
    prefix: bytes,
    after: bytes,
    until: bytes,
) -> None:
    root = tmp_path_factory.mktemp("tree")
    kept = {key for key in wanted if not any(o.startswith(key + b"/") for o in wanted)}
    for key in kept:
        path = Path(os.fsdecode(os.fsencode(root) + b"/" + key))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(key)
    store = LocalStore("disk", root)
    assert keys(store) == sorted(kept)
    assert keys(store, prefix[:1]) == sorted(k for k in kept if k.startswith(prefix[:1]))
    assert keys(store, after=after) == sorted(k for k in kept if k > after)
    assert keys(store, until=until) == sorted(k for k in kept if k <= until)


def test_a_folder_that_is_not_there_is_not_an_empty_store(tmp_path: Path) -> None:
    store = LocalStore("disk", tmp_path / "unmounted")
    for use in (
        lambda: keys(store),
        lambda: store.head(b"key"),
        lambda: get(store, b"key"),
        lambda: put(store, b"key"),
        lambda: store.delete(b"key"),
    ):
        with pytest.raises(StoreUnavailable, match="unmounted"):
            use()
    assert not (tmp_path / "unmounted").exists()
    put(LocalStore("disk", tmp_path / "new" / "root", create=True), b"key")
    assert (tmp_path / "new" / "root" / "key").read_bytes() == b"data"


def test_times_and_modes_come_back(store: LocalStore, root: Path) -> None:
    moment = datetime(1969, 7, 20, 20, 17, 40, 123456, tzinfo=UTC)
    put(store, b"key", modified_at=moment, metadata={"mode": "0751", "other": "dropped"})
    found = store.head(b"key")
    assert found is not None
    assert found.modified_at == moment
    assert found.metadata == {"mode": "0751"}
    put(LocalStore("again", root), b"copy", modified_at=moment, metadata=found.metadata)
    copy = store.head(b"copy")
    assert copy is not None
    assert copy.etag == found.etag


@pytest.mark.parametrize("mode", ["4755", "33188", "rw-", "", "0o644", "99"])
def test_no_rights_come_from_strange_modes(store: LocalStore, root: Path, mode: str) -> None:
    put(store, b"key", metadata={"mode": mode})
    assert (root / "key").stat().st_mode & 0o7022 == 0


def test_a_time_beyond_the_calendar_does_not_stop_a_listing(store: LocalStore, root: Path) -> None:
    put(store, b"key")
    os.utime(root / "key", ns=(0, 2**63 - 1))
    assert keys(store) == [b"key"]


def test_links_and_special_files_are_no_objects(
    store: LocalStore, root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    os.mkfifo(root / "fifo")
    assert keys(store) == []
    for key in (b"link/secret", b"file", b"fifo"):
        assert store.head(key) is None
        with pytest.raises(ObjectUnreadable):
            get(store, key)
        store.delete(key)
    with pytest.raises(ObjectNameRefused):
        put(store, b"link/new")
    with pytest.raises(ObjectNameRefused):
        put(store, b"link/secret")
    put(store, b"file", b"mine")
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_bytes() == b"secret"
    assert get(store, b"file") == b"mine"


def test_a_planted_temporary_folder_is_not_followed(
    store: LocalStore, root: Path, tmp_path: Path
) -> None:
    (root / ".tapeflow-tmp").symlink_to(tmp_path)
    with pytest.raises(Refused, match="tapeflow-tmp"):
        put(store, b"key")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]


def test_a_folder_in_the_place_of_a_file(store: LocalStore) -> None:
    put(store, b"folder/key")
    with pytest.raises(ObjectNameRefused):
        put(store, b"folder")
    with pytest.raises(ObjectNameRefused):
        put(store, b"folder/key/below")
    with pytest.raises(ObjectUnreadable):
        get(store, b"folder")
    store.delete(b"folder")
    assert keys(store) == [b"folder/key"]


def test_a_folder_that_may_not_be_read_is_an_error(root: Path) -> None:
    put(LocalStore("disk", root), b"open/key")
    put(LocalStore("disk", root), b"shut/key")
    (root / "shut").chmod(0)
    with as_unprivileged(root):
        store = LocalStore("disk", root)
        with pytest.raises(ConfigError, match="shut"):
            keys(store)
        with pytest.raises(ConfigError, match="shut/key"):
            store.head(b"shut/key")
        with pytest.raises(ObjectUnreadable, match="shut/key"):
            get(store, b"shut/key")
        assert keys(store, b"open/") == [b"open/key"]
    (root / "shut").chmod(0o755)


def test_a_file_that_changes_while_it_is_read(store: LocalStore, root: Path) -> None:
    put(store, b"key", noise(3_000_000))

    def read() -> None:
        with store.open(b"key") as stream:
            stream.read(100)
            (root / "key").write_bytes(b"short")
            stream.read()

    with pytest.raises(ObjectUnreadable, match="changed"):
        read()


def test_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        store = LocalStore("disk", disk)
        put(store, b"key", b"old")
        with pytest.raises(DiskFull, match="disk"):
            put(store, b"key", noise(3_000_000))
        assert get(store, b"key") == b"old"
        put(store, b"other", noise(400_000))
        assert keys(store) == [b"key", b"other"]


KILLED = """
import sys
from pathlib import Path
from restore_lib.stores.local import LocalStore
def chunks():
    yield b"half"
    print("half", flush=True)
    sys.stdin.read()
store = LocalStore("disk", Path(sys.argv[1]))
store.put(b"key", chunks(), size=8, sha256="0" * 64)
"""


@contextlib.contextmanager
def _killed_put(root: Path) -> Iterator[None]:
    command = [sys.executable, "-c", KILLED, str(root)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
    yield


def test_what_a_killed_put_leaves_is_not_listed_and_is_swept(store: LocalStore, root: Path) -> None:
    put(store, b"key", b"old")
    with _killed_put(root):
        (leftover,) = (root / ".tapeflow-tmp").iterdir()
        assert keys(store) == [b"key"]
        assert get(store, b"key") == b"old"
        put(LocalStore("disk", root), b"key", b"new")
        assert leftover.exists()
        leftover = made_old(leftover)
        put(LocalStore("disk", root), b"key", b"newer")
        assert not leftover.exists()
        assert get(store, b"key") == b"newer"


def test_a_sweep_leaves_an_old_object_that_is_about_to_get_its_name(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = LocalGroup._name

    def meanwhile(self: LocalGroup, one: Any) -> None:
        if one.key == b"key":
            put(LocalStore("other", root), b"other")
        name(self, one)

    monkeypatch.setattr(LocalGroup, "_name", meanwhile)
    put(store, b"key", modified_at=datetime(2012, 1, 1, tzinfo=UTC))
    assert keys(store) == [b"key", b"other"]


def test_put_is_on_the_disk_before_its_name_is(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(descriptor: int) -> None:
        steps.append("folder" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "file")
        fsync(descriptor)

    def noted_rename(old: bytes, new: bytes, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        steps.append("rename")
        rename(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    put(store, b"new/key")
    assert steps == ["file", "folder", "rename", "folder"]


def test_no_descriptor_is_left_open(store: LocalStore) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    put(store, b"a/b/key")
    put(store, b"a/c")
    next(store.list())
    keys(store)
    get(store, b"a/b/key")
    with pytest.raises(ObjectNameRefused):
        put(store, b"a/c/d")
    with store.open(b"a/c") as stream:
        stream.read(1)
    store.put(b"z", [b"z"], size=1, sha256=hashlib.sha256(b"z").hexdigest())
    store.delete(b"a/b/key")
    assert set(Path("/proc/self/fd").iterdir()) == before
