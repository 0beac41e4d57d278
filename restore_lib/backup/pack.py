"""Pack: objects in order of their names into parts, segments and shares of a backup.

Neighbours in name stay neighbours on tape: a segment holds a run of names, a stripe k such runs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from restore_lib.config_tables import PolicyConfig
from restore_lib.model.objects import StoredObject
from restore_lib.tape.members import MemberMeta
from restore_lib.tape.segment import empty_size, projected_size

_SMALLEST_SEGMENT = 1 << 20
_PER_OBJECT = 1792


class Piece(NamedTuple):
    """One part of an object, or the whole of one that is not cut."""

    source: StoredObject
    part: int
    parts: int
    size: int

    @property
    def is_last(self) -> bool:
        """Whether the object ends with this piece."""
        return self.part == self.parts


@dataclass(frozen=True)
class Geometry:
    """The sizes, in bytes, that bound what is written to one tape set."""

    k: int
    m: int
    block_size: int
    segment_size: int
    volume_size: int
    recipients: int

    @classmethod
    def of(cls, policy: PolicyConfig, capacity: int, recipients: int) -> "Geometry":
        """Return the geometry of a policy on volumes of ``capacity`` bytes.

        A hundredth of the volume is left for framing, label and index; a segment larger than the
        rest is cut to it.
        """
        block = policy.block_size
        usable = (capacity - capacity // 100) // block * block - 4 * block
        segment = min(policy.segment_size // block * block, usable)
        return cls(policy.k, policy.m, block, max(segment, block), usable, recipients)

    @cached_property
    def part_size(self) -> int:
        """The largest piece of plaintext that surely fits a segment of its own."""
        overhead = empty_size(self.recipients) + min(64 << 10, self.segment_size // 4)
        slack = self.segment_size // 128
        return max(self.segment_size - overhead - slack, self.block_size // 2)

    @property
    def set_size(self) -> int:
        """Weight (see ``weight``) that about fills one tape set."""
        stripes = max(1, self.volume_size // self.segment_size)
        full = stripes * self.k * self.segment_size
        return full - full // 32

    def stripe_size(self, target: int) -> int:
        """Return the bytes that a stripe of segments of ``target`` bytes takes, parity included."""
        blocks = -(-target // self.block_size)
        return (self.k + self.m) * blocks * self.block_size

    def target(self, load: int) -> int:
        """Return the segment size that spreads a weight of ``load`` evenly over whole stripes."""
        stripes = max(1, -(-load // (self.k * self.segment_size)))
        even = -(-load // (stripes * self.k))
        return min(max(even + even // 32, _SMALLEST_SEGMENT), self.segment_size)


def weight(objects: int, size: int) -> int:
    """Return about how many bytes objects of ``size`` bytes in all take in segments."""
    return size + size // 128 + objects * _PER_OBJECT


def pieces(source: StoredObject, part_size: int) -> Iterator[Piece]:
    """Cut an object into pieces of at most ``part_size`` bytes; most objects are one piece."""
    parts = max(1, -(-source.size // part_size))
    for part in range(1, parts + 1):
        start = (part - 1) * part_size
        yield Piece(source, part, parts, min(part_size, source.size - start))


def bound(store: str, piece: Piece, recipients: int) -> int:
    """Return the most bytes that a piece adds to a segment."""
    return projected_size(meta_of(store, piece), piece.size, recipients)


def meta_of(store: str, piece: Piece) -> MemberMeta:
    """Return what the segment's index says of a piece.

    The digest of a cut object is known only once it is read; zeros hold its place.
    """
    source, cut = piece.source, piece.parts > 1
    return MemberMeta(
        store=store,
        key=source.key,
        version=source.version,
        modified_at=source.modified_at,
        content_type=source.content_type,
        metadata=source.metadata,
        part=piece.part if cut else None,
        parts=piece.parts if cut else None,
        object_size=source.size if cut else None,
        object_sha256="0" * 64 if cut and piece.is_last else None,
        etag=source.etag,
    )


@dataclass(frozen=True, slots=True)
class Share:
    """A range of keys, after ``after`` up to and with ``until``, and what of it goes to tape."""

    after: bytes | None
    until: bytes | None
    objects: int
    size: int


def shares(selected: Iterable[StoredObject], share_size: int) -> Iterator[Share]:
    """Cut the space of keys into ranges of about ``share_size`` weight to back up, in order.

    The ranges cover every key, so that what is gone is in one of them too.
    """
    after, last, objects, size = None, None, 0, 0
    for source in selected:
        if objects and weight(objects + 1, size + source.size) > share_size:
            yield Share(after, last, objects, size)
            after, objects, size = last, 0, 0
        last, objects, size = source.key, objects + 1, size + source.size
    yield Share(after, None, objects, size)
