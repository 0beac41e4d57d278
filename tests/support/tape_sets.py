"""Whole tape sets made in memory, without a site: what a backup leaves on the tapes of one set."""

import hashlib
import io
import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from restore_lib.library.base import Position, Range
from restore_lib.library.simh import TapeImage
from restore_lib.tape.age import Recipients
from restore_lib.tape.label import Label, encode_label
from restore_lib.tape.members import Member, MemberMeta
from restore_lib.tape.parity import encode_parity
from restore_lib.tape.segment import SegmentSummary, SegmentWriter
from restore_lib.tape.volume_index import (
    Stripe,
    StripeMember,
    StripeTable,
    TapeFile,
    VolumeIndex,
    encode_stripe_table,
    write_volume_index,
)

AT = datetime(2030, 1, 1, 9, 30, 0, 250_000, tzinfo=UTC)
CLUSTER, SET = "example", "gold-00001"


@dataclass(frozen=True, slots=True)
class Shape:
    """Geometry of a set to make: ``stripes`` segments a data volume, objects cut at ``cut``."""

    k: int
    m: int
    block_size: int
    stripes: int = 1
    cut: int = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """An object to write."""

    meta: MemberMeta
    data: bytes


@dataclass(frozen=True, slots=True)
class Payload:
    """One payload as it was written, and the number of its source."""

    source: int
    position: int
    file: int
    member: Member
    plain: bytes


@dataclass
class TapeSet:
    """A written set: by position its label and its tape files, label and closing one included."""

    shape: Shape
    sources: tuple[Source, ...]
    labels: list[Label]
    files: list[list[bytes]] = field(default_factory=list)
    payloads: list[Payload] = field(default_factory=list)

    def image(self, position: int) -> bytes:
        """Return the tape image of one volume."""
        return tap(self.files[position], self.shape.block_size)

    def images(self) -> dict[str, bytes]:
        """Return all tape images by barcode."""
        return {label.barcode: self.image(label.position) for label in self.labels}


class ImageDrive:
    """A drive with a tape image in it, for reading; without a library, leases and locks."""

    number = 0

    def __init__(self, path: Path) -> None:
        self._path = path
        self._image = TapeImage(path)

    def close(self) -> None:
        self._image.close()

    def barcode(self) -> str | None:
        return self._path.stem

    def rewind(self) -> None:
        self._image.rewind()

    def locate(self, file: int, block: int = 0) -> None:
        self._image.locate(file, block)

    def space_to_end(self) -> Position:
        return self._image.space_to_end()

    def position(self) -> Position:
        return self._image.position

    def read(self) -> bytes | None:
        return self._image.read()

    def write(self, block: bytes) -> None:
        self._image.write(block)

    def write_filemark(self) -> None:
        self._image.write_filemark()

    def geometry(self) -> None:
        return None

    def recommended_order(self, ranges: Sequence[Range]) -> None:
        return None


def source(key: bytes, data: bytes, **values: object) -> Source:
    """Return an object of the store ``live`` with these bytes."""
    fields: dict[str, object] = {"store": "live", "version": None, "modified_at": AT}
    return Source(MemberMeta(key=key, **(fields | values)), data)  # type: ignore[arg-type]  # a test's shorthand


def tap(files: Sequence[bytes], block_size: int) -> bytes:
    """Return a tape image of whole tape files."""
    word = struct.pack("<I", block_size)
    parts: list[bytes] = []
    for data in files:
        for start in range(0, len(data), block_size):
            parts += (word, data[start : start + block_size], word)
        parts.append(bytes(4))
    return b"".join(parts) + b"\xff" * 4


def write_set(
    folder: Path,
    shape: Shape,
    sources: Sequence[Source],
    recipients: Recipients,
    *,
    open_positions: Sequence[int] = (),
    spread: random.Random | None = None,
) -> TapeSet:
    """Write ``sources`` over the segments of a set in order, or as ``spread`` has it.

    The volumes at ``open_positions`` are not closed. ``folder`` takes the staging files.
    """
    labels = [_label(shape, position, recipients) for position in range(shape.k + shape.m)]
    made = TapeSet(shape, tuple(sources), labels, [[encode_label(label)] for label in labels])
    slots: dict[tuple[int, int], list[tuple[int, MemberMeta, bytes]]] = {}
    pieces = list(_pieces(sources, shape.cut))
    for number, piece in enumerate(pieces):
        count = shape.stripes * shape.k
        slot = spread.randrange(count) if spread else number * count // len(pieces)
        slots.setdefault((slot // shape.k + 1, slot % shape.k), []).append(piece)
    sealed: list[list[tuple[int, bytes]]] = [[] for _ in range(shape.k)]
    for stripe in range(1, shape.stripes + 1):
        paths = [folder / f"{stripe}-{position}" for position in range(shape.k + shape.m)]
        for position in range(shape.k):
            held = slots.get((stripe, position), [])
            summary = _segment(paths[position], shape, recipients, held)
            sealed[position].append((stripe, summary.sealed_index))
            for (number, _, plain), member in zip(held, summary.members, strict=True):
                made.payloads.append(Payload(number, position, stripe, member, plain))
        encode_parity(paths[: shape.k], paths[shape.k :], shape.block_size, k=shape.k)
        for position, path in enumerate(paths):
            made.files[position].append(path.read_bytes())
            path.unlink()
    table = _stripes(made)
    for position in set(range(shape.k + shape.m)) - set(open_positions):
        made.files[position].append(_closing(folder, made, position, table, sealed))
    return made


def _pieces(sources: Sequence[Source], cut: int) -> Iterator[tuple[int, MemberMeta, bytes]]:
    for number, one in enumerate(sources):
        parts = -(-len(one.data) // cut)
        if parts <= 1:
            yield number, one.meta, one.data
            continue
        whole = hashlib.sha256(one.data).hexdigest()
        for part in range(1, parts + 1):
            meta = replace(
                one.meta,
                part=part,
                parts=parts,
                object_size=len(one.data),
                object_sha256=whole if part == parts else None,
            )
            yield number, meta, one.data[(part - 1) * cut : part * cut]


def _label(shape: Shape, position: int, recipients: Recipients) -> Label:
    return Label(
        barcode=f"TF{position:04}L9",
        cluster=CLUSTER,
        tape_set=SET,
        k=shape.k,
        m=shape.m,
        position=position,
        block_size=shape.block_size,
        created_at=AT,
        recipients=recipients.names,
    )


def _segment(
    path: Path,
    shape: Shape,
    recipients: Recipients,
    held: Sequence[tuple[int, MemberMeta, bytes]],
) -> SegmentSummary:
    with SegmentWriter(path, block_size=shape.block_size, recipients=recipients) as writer:
        for _, meta, plain in held:
            writer.add(meta, io.BytesIO(plain), size=len(plain))
        return writer.finish()


def _stripes(made: TapeSet) -> tuple[Stripe, ...]:
    size = made.shape.block_size
    return tuple(
        Stripe(
            stripe,
            tuple(
                StripeMember(
                    label.position,
                    label.barcode,
                    len(files[stripe]) // size,
                    hashlib.sha256(files[stripe]).hexdigest(),
                )
                for label, files in zip(made.labels, made.files, strict=True)
            ),
        )
        for stripe in range(1, made.shape.stripes + 1)
    )


def _closing(
    folder: Path,
    made: TapeSet,
    position: int,
    table: tuple[Stripe, ...],
    sealed: list[list[tuple[int, bytes]]],
) -> bytes:
    label, shape = made.labels[position], made.shape
    if label.is_parity:
        return encode_stripe_table(
            StripeTable(label.barcode, SET, shape.k, shape.m, position, shape.block_size, table)
        )
    own = tuple(
        TapeFile(stripe.stripe, stripe.members[position].blocks, stripe.members[position].sha256)
        for stripe in table
    )
    path = folder / "closing"
    index = VolumeIndex(label.barcode, SET, own)
    write_volume_index(path, index, sealed[position], shape.block_size)
    return path.read_bytes()
