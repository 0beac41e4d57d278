import hashlib
import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from restore_lib.errors import DiskFull, ObjectUnreadable, StoreUnavailable
from restore_lib.tape import segment
from restore_lib.tape.age import Recipients
from restore_lib.tape.members import MemberMeta
from restore_lib.tape.payload import SMALL, restore_payload
from restore_lib.tape.segment import SegmentWriter, empty_size, projected_size
from restore_lib.tape.segment_reader import read_index
from restore_lib.tape.streams import Readable
from tests.tape.conftest import BLOCK, Keys, meta
from tests.tape.test_members import metas

in_tmp_path = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Failing:
    """Gives ``good`` bytes, then fails."""

    def __init__(self, good: int, error: Exception) -> None:
        self.left = good
        self.error = error

    def read(self, size: int = -1, /) -> bytes:
        if not self.left:
            raise self.error
        size = min(size, self.left)
        self.left -= size
        return os.urandom(size)


def new(path: Path, keys: Keys) -> SegmentWriter:
    return SegmentWriter(path, block_size=BLOCK, recipients=keys.recipients)


@in_tmp_path
@given(objects=st.lists(st.tuples(metas, st.binary(max_size=3000)), max_size=8))
def test_every_object_comes_back(
    tmp_path: Path, keys: Keys, objects: list[tuple[MemberMeta, bytes]]
) -> None:
    path = tmp_path / "segment"
    with new(path, keys) as writer:
        added = tuple(writer.add(m, io.BytesIO(d), size=len(d)) for m, d in objects)
        summary = writer.finish()
    whole = path.read_bytes()
    assert (summary.size, summary.blocks * BLOCK) == (len(whole), len(whole))
    assert summary.members == added
    with path.open("rb") as stream:
        assert tuple(read_index(stream, keys.identities)) == added
    for member, (wanted, data) in zip(added, objects, strict=True):
        stored = whole[member.offset : member.offset + member.stored_size]
        assert hashlib.sha256(stored).hexdigest() == member.stored_sha256
        back = io.BytesIO()
        restore_payload(member, io.BytesIO(stored), back, keys.identities)
        assert (member.meta, back.getvalue()) == (wanted, data)


@in_tmp_path
@given(
    objects=st.lists(st.tuples(metas, st.integers(0, 1 << 17), st.booleans()), max_size=5),
    recipients=st.integers(1, 3),
)
def test_projections_are_a_bound(
    tmp_path: Path,
    keys: Keys,
    objects: list[tuple[MemberMeta, int, bool]],
    recipients: int,
) -> None:
    names = Recipients.parse([keys.recipient] * recipients)
    projected = empty_size(recipients)
    with SegmentWriter(tmp_path / "s", block_size=512, recipients=names) as writer:
        for wanted, size, random in objects:
            before = writer.size_bound
            writer.add(wanted, io.BytesIO(os.urandom(size) if random else bytes(size)))
            assert writer.size_bound - before <= projected_size(wanted, size, recipients)
            projected += projected_size(wanted, size, recipients)
        bound = writer.size_bound
        summary = writer.finish()
    assert summary.size <= bound + 511
    assert bound <= projected


@pytest.mark.parametrize("data", [os.urandom(3 * SMALL), b"0123456789" * (SMALL // 3)])
def test_a_large_object_is_streamed_and_comes_back(tmp_path: Path, keys: Keys, data: bytes) -> None:
    class Source(io.BytesIO):
        largest = 0

        def read(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            assert 0 < size <= SMALL
            return super().read(size)

    with new(tmp_path / "s", keys) as writer:
        writer.add(meta(b"before"), io.BytesIO(b"before"))
        member = writer.add(meta(b"large"), Source(data), size=len(data))
        writer.add(meta(b"after"), io.BytesIO(b"after"))
        writer.finish()
    assert member.compressed == data.startswith(b"0123")
    assert member.stored_size <= projected_size(meta(b"large"), len(data), 1)
    with tarfile.open(tmp_path / "s") as archive:
        stored = archive.extractfile(member.name)
        assert stored is not None
        back = io.BytesIO()
        restore_payload(member, io.BytesIO(stored.read()), back, keys.identities)
        assert len(archive.getnames()) == 5
    assert back.getvalue() == data


@pytest.mark.parametrize("good", [0, 100, SMALL + 1, 3 * SMALL])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(5, "Input/output error"), ObjectUnreadable),
        (RuntimeError("odd"), ObjectUnreadable),
        (StoreUnavailable("the store is down"), StoreUnavailable),
    ],
)
def test_a_source_that_fails_leaves_the_segment_as_it_was(
    tmp_path: Path, keys: Keys, good: int, error: Exception, expected: type[Exception]
) -> None:
    check_left_as_it_was(tmp_path, keys, Failing(good, error), None, expected)


@pytest.mark.parametrize(
    ("size", "announced"), [(0, 1), (1, 0), (100, 101), (2 * SMALL, 2 * SMALL - 1), (SMALL + 9, 7)]
)
def test_a_source_of_another_size_leaves_the_segment_as_it_was(
    tmp_path: Path, keys: Keys, size: int, announced: int
) -> None:
    source = io.BytesIO(os.urandom(size))
    check_left_as_it_was(tmp_path, keys, source, announced, ObjectUnreadable)


def check_left_as_it_was(
    tmp_path: Path,
    keys: Keys,
    source: Readable,
    announced: int | None,
    expected: type[Exception],
) -> None:
    path = tmp_path / "segment"
    with new(path, keys) as writer:
        first = writer.add(meta(b"first"), io.BytesIO(b"first"))
        bound = writer.size_bound
        with pytest.raises(expected) as raised:
            writer.add(meta(b"bad\xff"), source, size=announced)
        if expected is ObjectUnreadable:
            assert "bad\\xff in live" in str(raised.value)
        assert writer.size_bound == bound
        last = writer.add(meta(b"last"), io.BytesIO(b"last"))
        writer.finish()
    assert [first.ordinal, last.ordinal] == [0, 1]
    with path.open("rb") as stream:
        assert read_index(stream, keys.identities) == [first, last]


def test_a_full_disk_is_said_so_and_leaves_nothing(tmp_path: Path, keys: Keys) -> None:
    path = tmp_path / "segment"
    path.symlink_to("/dev/full")
    with pytest.raises(DiskFull, match=str(path)), new(path, keys) as writer:
        writer.add(meta(), io.BytesIO(os.urandom(4 * SMALL)))
    assert not path.is_symlink()
    path.symlink_to("/dev/full")
    with new(path, keys) as writer:
        writer.add(meta(), io.BytesIO(b"buffered"))
        with pytest.raises(DiskFull, match=str(path)):
            writer.finish()
    assert not path.is_symlink()


def test_a_segment_that_is_not_finished_is_removed(tmp_path: Path, keys: Keys) -> None:
    with new(tmp_path / "s", keys) as writer:
        writer.add(meta(), io.BytesIO(b"x"))
    assert list(tmp_path.iterdir()) == []


def test_what_a_crash_left_is_overwritten(tmp_path: Path, keys: Keys) -> None:
    path = tmp_path / "s"
    path.write_bytes(os.urandom(10 * BLOCK))
    with new(path, keys) as writer:
        summary = writer.finish()
    assert path.stat().st_size == summary.size < 10 * BLOCK


def test_a_finished_segment_takes_nothing_more(tmp_path: Path, keys: Keys) -> None:
    with new(tmp_path / "s", keys) as writer:
        writer.finish()
        for late in (lambda: writer.add(meta(), io.BytesIO()), writer.finish):
            with pytest.raises(ValueError, match="nothing more"):
                late()


def test_ordinals_begin_where_they_are_told(tmp_path: Path, keys: Keys) -> None:
    with SegmentWriter(
        tmp_path / "s", block_size=BLOCK, recipients=keys.recipients, first_ordinal=99_999_999
    ) as writer:
        assert writer.add(meta(), io.BytesIO(b"x")).name == "objects/99999999.age"
        with pytest.raises(ValueError, match="no more members"):
            writer.add(meta(), io.BytesIO(b"x"))


def test_a_part_that_is_too_large_is_refused(
    tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    with new(tmp_path / "s", keys) as writer:
        with pytest.raises(ValueError, match="larger than"):
            writer.add(meta(), io.BytesIO(b"x"), size=(7 << 30) + 1)
        monkeypatch.setattr(segment, "MAX_PART_SIZE", SMALL)
        with pytest.raises(ValueError, match="larger than"):
            writer.add(meta(), io.BytesIO(os.urandom(3 * SMALL)))
        assert writer.members == ()


def test_a_block_size_is_whole_tar_records(tmp_path: Path, keys: Keys) -> None:
    for size in (0, -512, 1000):
        with pytest.raises(ValueError, match="block size"):
            SegmentWriter(tmp_path / "s", block_size=size, recipients=keys.recipients)


def test_parts_of_an_object_are_members_of_their_own(tmp_path: Path, keys: Keys) -> None:
    whole = os.urandom(1000)
    digest = hashlib.sha256(whole).hexdigest()
    first = replace(meta(), part=1, parts=2, object_size=1000)
    last = replace(meta(), part=2, parts=2, object_size=1000, object_sha256=digest)
    with new(tmp_path / "s", keys) as writer:
        writer.add(first, io.BytesIO(whole[:600]), size=600)
        writer.add(last, io.BytesIO(whole[600:]), size=400)
        writer.finish()
    with (tmp_path / "s").open("rb") as stream:
        found = read_index(stream, keys.identities)
    assert [member.meta for member in found] == [first, last]
    assert [member.size for member in found] == [600, 400]
    assert found[0].sha256 == hashlib.sha256(whole[:600]).hexdigest()
