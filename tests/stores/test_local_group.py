"""When a group of files reaches the disk; what it brings in is tested with every store's."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from restore_lib.errors import DiskFull
from restore_lib.stores import local_group
from restore_lib.stores.flush import flush_file_system
from restore_lib.stores.local import LocalStore
from restore_lib.stores.local_group import LocalGroup
from tests.stores.conftest import get, keys, noise, small_disk


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore("disk", tmp_path / "root", create=True)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is flushed and renamed, in order."""
    found: list[str] = []
    fsync, rename, flush = os.fsync, os.rename, flush_file_system

    def noted_fsync(descriptor: int) -> None:
        found.append("folder" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "file")
        fsync(descriptor)

    def noted_rename(old: bytes, new: bytes, **folders: int) -> None:
        found.append("rename")
        rename(old, new, **folders)

    def noted_flush(descriptor: int) -> None:
        found.append("all")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    monkeypatch.setattr(local_group, "flush_file_system", noted_flush)
    return found


def add(group: LocalGroup, key: bytes, data: bytes = b"data", **values: Any) -> None:
    group.add(key, [data], size=len(data), sha256=hashlib.sha256(data).hexdigest(), **values)


def bring(store: LocalStore, count: int) -> None:
    with store.group() as group:
        for number in range(count):
            add(group, b"%d/%04d" % (number % 3, number))
        assert group.finish() == {}


@pytest.mark.parametrize("count", [20, 2000])
def test_many_files_cost_as_many_flushes_as_few(
    store: LocalStore, steps: list[str], count: int
) -> None:
    bring(store, count)
    assert steps == ["all", *["rename"] * count, "all"]
    assert len(keys(store)) == count


def test_few_files_do_not_flush_what_others_wrote(store: LocalStore, steps: list[str]) -> None:
    (store._root / "0").mkdir()
    (store._root / "1").mkdir()
    (store._root / "2").mkdir()
    bring(store, 5)
    assert steps == [*["file"] * 5, *["rename"] * 5, *["folder"] * 3]


def test_without_a_flush_of_all_each_file_and_each_folder_is_flushed(
    store: LocalStore, steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_group, "can_flush_file_system", lambda: False)
    bring(store, 40)
    first = steps.index("rename")
    assert steps[:first].count("file") == 40
    assert "file" not in steps[first:]
    assert steps[-3:] == ["folder"] * 3
    assert "all" not in steps


def test_a_folder_that_vanishes_before_the_name_is_made_again(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename
    removed: list[bytes] = []

    def meanwhile(old: bytes, new: bytes, **folders: int) -> None:
        if new == b"second" and not removed:
            removed.append(new)
            (store._root / "folder" / "first").unlink()
            (store._root / "folder").rmdir()
        rename(old, new, **folders)

    monkeypatch.setattr(os, "rename", meanwhile)
    with store.group() as group:
        add(group, b"folder/first")
        add(group, b"folder/second")
        assert group.finish() == {}
    assert keys(store) == [b"folder/second"]


def test_a_full_disk_leaves_the_rest_of_the_group(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        store = LocalStore("disk", disk)
        with store.group() as group:
            add(group, b"one", noise(100_000))
            with pytest.raises(DiskFull):
                add(group, b"two", noise(3_000_000))
            add(group, b"three", noise(100_000))
            assert group.finish() == {}
        assert keys(store) == [b"one", b"three"]


def test_a_large_file_is_on_its_way_to_the_disk_while_it_is_written(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _, start, size, __: begun.append((start, size)))
    data = noise(20 << 20)

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(data), 1 << 20):
            yield data[start : start + (1 << 20)]

    digest = hashlib.sha256(data).hexdigest()
    store.put(b"large", chunks(), size=len(data), sha256=digest)
    assert begun == [(0, 8 << 20), (8 << 20, 8 << 20)]
    assert get(store, b"large") == data


@pytest.mark.parametrize("count", [3, 30])
def test_no_descriptor_is_left_open(store: LocalStore, count: int) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    bring(store, count)
    with store.group() as group:
        for number in range(count):
            add(group, b"left/%d" % number)
    assert set(Path("/proc/self/fd").iterdir()) == before
    assert len(keys(store)) == count
