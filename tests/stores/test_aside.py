import hashlib
import os
import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_lib.errors import DigestMismatch, DiskFull, ObjectNameRefused
from restore_lib.stores.aside import LocalDraft
from restore_lib.stores.local import LocalStore
from restore_lib.stores.local_group import LocalGroup
from tests.stores.conftest import get, keys, noise, small_disk


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore("disk", tmp_path / "root", create=True)


@pytest.fixture
def group(store: LocalStore) -> Iterator[LocalGroup]:
    with store.group() as group:
        yield group


def unfinished(store: LocalStore) -> list[Path]:
    return list((store._root / ".tapeflow-tmp").iterdir())


def begun(group: LocalGroup, key: bytes, size: int) -> LocalDraft:
    draft = group.draft(key, size)
    assert draft is not None
    return draft


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@given(data=st.binary(max_size=300), cuts=st.sets(st.integers(1, 299)), seed=st.integers())
def test_content_comes_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cuts: set[int], seed: int
) -> None:
    store = LocalStore("disk", tmp_path_factory.mktemp("store"))
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    pieces = list(pairwise(edges))
    random.Random(seed).shuffle(pieces)
    with store.group() as group, begun(group, b"a/b", 300) as draft:
        for begin, end in pieces:
            draft.write(begin, data[begin:end])
        assert b"".join(draft) == data
        group.add(b"a/b", draft, size=len(data), sha256=sha256(data))
        assert keys(store) == []
        assert group.finish() == {}
    assert get(store, b"a/b") == data
    assert unfinished(store) == []


def test_a_draft_among_many_files_outlives_those_that_are_finished(
    store: LocalStore, group: LocalGroup
) -> None:
    data = noise(20 << 20)
    half = len(data) // 2
    with begun(group, b"large", 20 << 20) as draft:
        draft.write(half, data[half:])
        for number in range(20):
            group.add(b"%02d" % number, [b"x"], size=1, sha256=sha256(b"x"))
        assert group.finish() == {}
        for number in range(20):
            group.add(b"more/%02d" % number, [b"y"], size=1, sha256=sha256(b"y"))
        draft.write(0, data[:half])
        group.add(b"large", draft, size=len(data), sha256=sha256(data), metadata={"mode": "0640"})
        assert group.finish() == {}
    assert get(store, b"large") == data
    assert (store._root / "large").stat().st_mode & 0o777 == 0o640
    assert len(keys(store)) == 41


@pytest.mark.parametrize("wrong", ["a byte", "a gap", "too short", "too long"])
def test_what_is_not_the_object_is_refused_and_removed(
    store: LocalStore, group: LocalGroup, wrong: str
) -> None:
    data = noise(5000)
    sent = {
        "a byte": [(0, data[:4000] + b"?" + data[4001:])],
        "a gap": [(0, data[:1000]), (2000, data[2000:])],
        "too short": [(0, data[:4999])],
        "too long": [(4000, data[4000:] + b"?"), (0, data[:4000])],
    }
    with begun(group, b"key", 5000) as draft:
        for offset, piece in sent[wrong]:
            draft.write(offset, piece)
        with pytest.raises(DigestMismatch, match="key was not stored"):
            group.add(b"key", draft, size=len(data), sha256=sha256(data))
        assert group.finish() == {}
    assert keys(store) == []
    assert unfinished(store) == []


@pytest.mark.parametrize("again", [0, 1])
def test_of_what_is_written_twice_the_last_counts(
    store: LocalStore, group: LocalGroup, again: int
) -> None:
    whole = b"abc"[:again] + b"?" + b"abc"[again + 1 :] + b"def"
    for content, is_so in ((b"abcdef", False), (whole, True)):
        with begun(group, b"key", 5000) as draft:
            draft.write(0, b"abc")
            draft.write(again, b"?")
            draft.write(3, b"def")
            if is_so:
                group.add(b"key", draft, size=6, sha256=sha256(content))
                continue
            with pytest.raises(DigestMismatch):
                group.add(b"key", draft, size=6, sha256=sha256(content))
    group.finish()
    assert get(store, b"key") == whole


def test_a_draft_is_added_once(store: LocalStore, group: LocalGroup) -> None:
    with begun(group, b"key", 5000) as draft:
        group.add(b"key", draft, size=0, sha256=sha256(b""))
        with pytest.raises(ValueError, match="was added"):
            draft.write(0, b"more")
    assert group.finish() == {}
    assert get(store, b"key") == b""


def test_a_name_that_can_not_be_is_refused_at_once(store: LocalStore, group: LocalGroup) -> None:
    with pytest.raises(ObjectNameRefused):
        group.draft(b"../key", 1)
    assert unfinished(store) == []


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path) as folder:
        store = LocalStore("disk", folder)
        with store.group() as group, begun(group, b"key", 5000) as draft, pytest.raises(DiskFull):
            draft.write(0, os.urandom(2 << 20))
        assert unfinished(store) == []


def test_drafts_take_a_quarter_of_the_room_at_most(tmp_path: Path) -> None:
    with small_disk(tmp_path, megabytes=16) as folder:
        store = LocalStore("disk", folder)
        with store.group() as group:
            assert group.draft(b"too large", 5 << 20) is None
            with begun(group, b"one", 2 << 20), begun(group, b"two", 1 << 20):
                assert group.draft(b"one too many", 2 << 20) is None
            assert unfinished(store) == []
