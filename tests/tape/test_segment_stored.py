"""Payloads that go from one segment to another as they are stored."""

import io
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from restore_lib.errors import DigestMismatch
from restore_lib.tape.members import Member, MemberMeta
from restore_lib.tape.payload import SMALL, restore_payload
from restore_lib.tape.segment import SegmentWriter
from restore_lib.tape.segment_reader import read_index, verify_segment
from tests.tape.conftest import BLOCK, Keys, meta
from tests.tape.test_members import metas


def segment(path: Path, keys: Keys) -> SegmentWriter:
    return SegmentWriter(path, block_size=BLOCK, recipients=keys.recipients)


def stored(path: Path, member: Member) -> bytes:
    return path.read_bytes()[member.offset : member.offset + member.stored_size]


def pieces(data: bytes, size: int = 700) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    objects=st.lists(st.tuples(metas, st.binary(max_size=3000)), min_size=1, max_size=6),
    order=st.randoms(),
)
def test_they_come_back_from_the_other_segment_too(
    tmp_path: Path, keys: Keys, objects: list[tuple[MemberMeta, bytes]], order: random.Random
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    with segment(old, keys) as writer:
        held = [(writer.add(m, io.BytesIO(d), size=len(d)), d) for m, d in objects]
        writer.finish()
    order.shuffle(held)
    with segment(new, keys) as writer:
        moved = [writer.add_stored(m, pieces(stored(old, m))) for m, _ in held]
        summary = writer.finish()
        assert summary.size <= -(-writer.size_bound // BLOCK) * BLOCK
    assert summary.members == tuple(moved)
    with new.open("rb") as stream:
        assert read_index(stream, keys.identities) == moved
    assert verify_segment(pieces(new.read_bytes(), BLOCK)).ok
    for (member, data), copy in zip(held, moved, strict=True):
        assert stored(new, copy) == stored(old, member)
        assert replace(copy, ordinal=member.ordinal, offset=member.offset) == member
        back = io.BytesIO()
        restore_payload(copy, io.BytesIO(stored(new, copy)), back, keys.identities)
        assert back.getvalue() == data


@pytest.mark.parametrize("size", [10, SMALL + 1])
def test_other_bytes_are_refused_and_leave_the_segment_as_it_was(
    tmp_path: Path, keys: Keys, size: int
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    with segment(old, keys) as writer:
        members = [writer.add(meta(b"%d" % n), io.BytesIO(os.urandom(size))) for n in range(2)]
        writer.finish()
    first, second = (stored(old, member) for member in members)
    with segment(new, keys) as writer:
        for wrong in (second, first[:-1], first + b"x", b""):
            with pytest.raises(DigestMismatch, match="0 in"):
                writer.add_stored(members[0], pieces(wrong))
        writer.add_stored(members[1], pieces(second))
        writer.add_stored(members[0], pieces(first))
        summary = writer.finish()
    assert [member.ordinal for member in summary.members] == [0, 1]
    with new.open("rb") as stream:
        assert tuple(read_index(stream, keys.identities)) == summary.members
    assert stored(new, summary.members[1]) == first
