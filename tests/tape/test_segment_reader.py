import hashlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from restore_lib.errors import CorruptTapeFile, KeyUnusable, MediumError
from restore_lib.tape import tar
from restore_lib.tape.members import INDEX
from restore_lib.tape.segment import SegmentSummary
from restore_lib.tape.segment_reader import (
    decode_index,
    read_index,
    read_sealed_index,
    verify_segment,
)
from tests.tape.conftest import BLOCK, Keys, WriteSegment


@dataclass
class Written:
    summary: SegmentSummary
    data: bytes


@pytest.fixture
def written(tmp_path: Path, write_segment: WriteSegment) -> Written:
    objects = {b"random": os.urandom(9000), b"text": b"abc" * 5000, b"empty": b""}
    summary = write_segment(tmp_path / "segment", objects)
    return Written(summary, (tmp_path / "segment").read_bytes())


def blocks(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), BLOCK):
        yield data[start : start + BLOCK]


def members_of(data: bytes) -> dict[str, bytes]:
    return {entry.name: entry.read() for entry in tar.entries(io.BytesIO(data))}


def test_a_sound_segment_is_ok_and_told_apart_by_its_digest(written: Written) -> None:
    check = verify_segment(blocks(written.data))
    assert check.ok
    assert check.checked == 4
    assert (check.blocks, check.sha256) == (
        written.summary.blocks,
        hashlib.sha256(written.data).hexdigest(),
    )


def test_damage_is_found_by_name(written: Written) -> None:
    for member in written.summary.members:
        damaged = bytearray(written.data)
        damaged[member.offset + member.stored_size // 2] ^= 1
        check = verify_segment(blocks(bytes(damaged)))
        assert not check.ok
        assert check.bad == (member.name,)
        assert check.checked == 3


def test_damage_to_the_index_is_found_without_a_key(written: Written) -> None:
    at = written.data.index(written.summary.sealed_index) + 300
    damaged = bytearray(written.data)
    damaged[at] ^= 1
    assert verify_segment(blocks(bytes(damaged))).bad == (INDEX,)


def test_missing_and_unlisted_members_are_named(written: Written) -> None:
    members = members_of(written.data)
    lost = members.pop("objects/00000000.age")
    check = verify_segment([tar.archive({"objects/00000009.age": lost} | members, BLOCK)])
    assert check.missing == ("objects/00000000.age",)
    assert check.bad == ("objects/00000009.age",)


@pytest.mark.parametrize("missing", [INDEX, tar.MANIFEST])
def test_a_segment_without_index_or_manifest_is_corrupt(written: Written, missing: str) -> None:
    members = members_of(written.data)
    del members[missing]
    with pytest.raises(CorruptTapeFile, match=missing):
        verify_segment([tar.archive(members, BLOCK)])


def test_a_segment_that_ends_early_is_corrupt(written: Written, keys: Keys) -> None:
    for count in range(written.summary.blocks):
        short = written.data[: count * BLOCK]
        with pytest.raises(CorruptTapeFile):
            verify_segment(blocks(short))
        with pytest.raises(CorruptTapeFile):
            read_index(io.BytesIO(short), keys.identities)


def test_an_error_of_the_drive_passes_unchanged(written: Written) -> None:
    def failing() -> Iterator[bytes]:
        yield written.data[:BLOCK]
        raise MediumError("block 1 is unreadable")

    with pytest.raises(MediumError, match="block 1"):
        verify_segment(failing())


def test_a_damaged_manifest_line_is_corrupt(written: Written) -> None:
    at = written.data.index(b"  objects/00000001")
    damaged = bytearray(written.data)
    damaged[at] = ord("x")
    with pytest.raises(CorruptTapeFile, match="Line 2"):
        verify_segment(blocks(bytes(damaged)))


def test_the_index_needs_the_right_key(written: Written, other_keys: Keys) -> None:
    with pytest.raises(KeyUnusable, match=INDEX):
        read_index(io.BytesIO(written.data), other_keys.identities)


@pytest.mark.parametrize("at", [0, 30, 100, 350, -1])
def test_a_damaged_index_is_corrupt_and_never_a_wrong_key(
    written: Written, keys: Keys, at: int
) -> None:
    sealed = bytearray(written.summary.sealed_index)
    sealed[at] ^= 1
    damaged = written.data.replace(written.summary.sealed_index, sealed)
    with pytest.raises(CorruptTapeFile, match=INDEX):
        read_index(io.BytesIO(damaged), keys.identities)
    with pytest.raises(CorruptTapeFile, match=INDEX):
        read_sealed_index(io.BytesIO(damaged))


def test_a_sealed_index_that_is_cut_is_corrupt(written: Written, keys: Keys) -> None:
    cut = io.BytesIO(written.summary.sealed_index[:-5])
    with pytest.raises(CorruptTapeFile, match="tape file 3"):
        decode_index(cut, keys.identities, what="the index of tape file 3")


def test_an_index_that_is_of_another_segment_is_corrupt(written: Written, keys: Keys) -> None:
    members = members_of(written.data)
    del members["objects/00000000.age"]
    with pytest.raises(CorruptTapeFile, match="disagree on objects/00000000"):
        read_index(io.BytesIO(tar.archive(members, BLOCK)), keys.identities)


def test_the_sealed_index_is_the_same_wherever_it_is_read(written: Written, keys: Keys) -> None:
    sealed = read_sealed_index(io.BytesIO(written.data))
    assert sealed == written.summary.sealed_index
    found = decode_index(io.BytesIO(sealed), keys.identities, what="it")
    assert tuple(found) == written.summary.members


def test_one_member_twice_is_corrupt() -> None:
    twice = tar.archive({"a": b"1"}, 512)[:1024] * 2 + tar.END
    with pytest.raises(CorruptTapeFile, match="a comes twice"):
        verify_segment([twice])
