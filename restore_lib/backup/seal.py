"""Seal: pieces of objects into one segment, or the parity of a stripe, wherever that is run."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

from restore_lib.backup.pack import Piece, meta_of
from restore_lib.backup.sources import Sources
from restore_lib.config_tables import StoreConfig
from restore_lib.errors import ObjectUnreadable
from restore_lib.model.extents import NewExtent
from restore_lib.model.objects import StoredObject
from restore_lib.stores.open import open_store
from restore_lib.tape.age import Recipients
from restore_lib.tape.members import Member
from restore_lib.tape.parity import TapeFileSummary, encode_parity
from restore_lib.tape.segment import SegmentSummary, SegmentWriter
from restore_lib.workers import Workers, cores

_OBJECT_WORK = 64 << 10


class Selected(NamedTuple):
    """A piece that has to go to tape.

    ``replaces`` is the version of its object that it takes over from; in a repack, the extent.
    """

    piece: Piece
    replaces: int | None


@dataclass(frozen=True, slots=True)
class SegmentOrder:
    """A segment to write: the file it becomes, and what it holds."""

    path: Path
    number: int
    position: int
    selected: tuple[Selected, ...]

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle in plain tuples: of many small objects this takes most of the hand-over."""
        rows = [(tuple(piece.source), *piece[1:], replaces) for piece, replaces in self.selected]
        return _unpickled_order, (self.path, self.number, self.position, rows)

    @property
    def size(self) -> int:
        """The plaintext's bytes."""
        return sum(one.piece.size for one in self.selected)

    @property
    def work(self) -> int:
        """What sealing it costs, in bytes of a large object; each object costs some of them."""
        return self.size + _OBJECT_WORK * len(self.selected)

    @property
    def is_cut(self) -> bool:
        """Whether it holds a part of an object that other segments hold the rest of."""
        return any(one.piece.parts > 1 for one in self.selected)


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A segment on the staging disk, before its stripe is protected."""

    position: int
    path: Path
    sealed_index: bytes
    index_offset: int

    @classmethod
    def of(cls, order: SegmentOrder, summary: SegmentSummary) -> Self:
        """Return the segment that was written to order."""
        return cls(order.position, order.path, summary.sealed_index, summary.index_offset)


@dataclass(frozen=True, slots=True)
class StagedFile:
    """One tape file on the staging disk; a parity file has no index.

    ``checksum`` is what its read-back is compared with (see ``FileDigest``).
    """

    position: int
    path: Path
    blocks: int
    sha256: str
    checksum: str
    sealed_index: bytes | None
    index_offset: int | None


@dataclass(frozen=True, slots=True)
class Sealed:
    """A written segment, the extents in it, and why objects are not, by key."""

    file: SealedFile
    extents: tuple[NewExtent, ...]
    failures: dict[bytes, str]


class Payload(NamedTuple):
    """What a segment holds of the piece ``selected[at]`` of its order, small enough to hand over.

    ``object_sha256`` is of the whole object, known with its last piece.
    """

    at: int
    member: str
    offset: int
    size: int
    sha256: str
    object_sha256: str | None
    stored_size: int
    stored_sha256: str

    @classmethod
    def of(cls, at: int, member: Member) -> Self:
        """Return what is handed over of a segment's member."""
        whole = member.sha256 if member.meta.part is None else member.meta.object_sha256
        return cls(
            at,
            member.name,
            member.offset,
            member.size,
            member.sha256,
            whole,
            member.stored_size,
            member.stored_sha256,
        )


@dataclass(frozen=True, slots=True)
class Written:
    """A written segment as the process that wrote it tells of it, to whom has the order."""

    file: SealedFile
    payloads: list[tuple[object, ...]]
    failures: dict[bytes, str]

    def sealed(self, order: SegmentOrder) -> Sealed:
        """Return the same with the extents of the order's objects."""
        payloads = map(Payload._make, self.payloads)
        extents = [
            _extent(order.selected[payload.at], payload, order.number, order.position)
            for payload in payloads
        ]
        return Sealed(self.file, tuple(extents), self.failures)


class Sealer:
    """Writes the segments it is ordered to, from one store.

    The parts of a cut object have to come to one sealer, one after the other.
    """

    def __init__(
        self, sources: Sources, store_name: str, recipients: Recipients, block_size: int
    ) -> None:
        self._sources = sources
        self._store_name = store_name
        self._recipients = recipients
        self._block_size = block_size
        self._broken: bytes | None = None

    @classmethod
    def opened(
        cls,
        name: str,
        config: StoreConfig,
        longest_key: int | None,
        recipients: Sequence[str],
        block_size: int,
    ) -> Self:
        """Return a sealer, in whichever process, that opens the store for itself."""
        sources = Sources(open_store(name, config), longest_key)
        return cls(sources, name, Recipients.parse(recipients), block_size)

    def write(self, order: SegmentOrder) -> Written:
        """Write a segment of all its objects that can be read."""
        payloads: list[tuple[object, ...]] = []
        failures: dict[bytes, str] = {}
        with SegmentWriter(
            order.path, block_size=self._block_size, recipients=self._recipients
        ) as writer:
            for at, (piece, _) in enumerate(order.selected):
                key = piece.source.key
                if piece.part > 1 and key == self._broken:
                    continue
                try:
                    member = self._add(writer, piece)
                except ObjectUnreadable as error:
                    failures[key] = error.message
                    self._broken = key
                else:
                    payloads.append(tuple(Payload.of(at, member)))
            summary = writer.finish()
        return Written(SealedFile.of(order, summary), payloads, failures)

    def protect(self, data: Sequence[Path], outputs: Sequence[Path]) -> list[TapeFileSummary]:
        """Compute the parity of a stripe's segments, and the digests of all its tape files."""
        return encode_parity(data, outputs, block_size=self._block_size)

    def close(self) -> None:
        """Close the object that is open, if any."""
        self._sources.close()

    def _add(self, writer: SegmentWriter, piece: Piece) -> Member:
        read = False
        try:
            member = writer.add(
                meta_of(self._store_name, piece),
                self._sources.open(piece),
                size=piece.size,
                object_digest=self._sources.digest if piece.parts > 1 and piece.is_last else None,
            )
            read = True
        finally:
            if piece.is_last or not read:
                self._sources.close()
        return member


class Sealing(Protocol):
    """Where segments are sealed and protected."""

    def seal(self, order: SegmentOrder) -> "Future[Sealed]":
        """Begin, or do, what ``Sealer.write`` does."""
        ...

    def protect(
        self, data: Sequence[Path], outputs: Sequence[Path], size: int
    ) -> "Future[list[TapeFileSummary]]":
        """Begin, or do, what ``Sealer.protect`` does; ``size`` is that of the data."""
        ...


class SealingHere:
    """Seals in this very thread: what is small is done before a process has started."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def seal(self, order: SegmentOrder) -> "Future[Sealed]":
        """Seal now."""
        done: Future[Sealed] = Future()
        done.set_result(self._sealer.write(order).sealed(order))
        return done

    def protect(
        self,
        data: Sequence[Path],
        outputs: Sequence[Path],
        size: int,  # noqa: ARG002 - protocol's
    ) -> "Future[list[TapeFileSummary]]":
        """Compute parity now."""
        done: Future[list[TapeFileSummary]] = Future()
        done.set_result(self._sealer.protect(data, outputs))
        return done


class SealingAside:
    """Seals in one process for each core."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def seal(self, order: SegmentOrder) -> "Future[Sealed]":
        """Hand the order to a process; all cut objects go to the first one, in their order."""
        lane = 0 if order.is_cut else None
        written = self._workers.submit("write", order, weight=order.work, lane=lane)
        sealed: Future[Sealed] = Future()

        def end(done: "Future[Written]") -> None:
            try:
                sealed.set_result(done.result().sealed(order))
            except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
                sealed.set_exception(error)

        written.add_done_callback(end)
        return sealed

    def protect(
        self, data: Sequence[Path], outputs: Sequence[Path], size: int
    ) -> "Future[list[TapeFileSummary]]":
        """Hand the stripe to a process; this costs about half of sealing."""
        return self._workers.submit("protect", data, outputs, weight=size // 2)


@contextlib.contextmanager
def sealing_aside(
    name: str,
    config: StoreConfig,
    longest_key: int | None,
    recipients: Sequence[str],
    block_size: int,
) -> Iterator[Sealing]:
    """Give processes that each open the store for themselves."""
    sealer = (name, config, longest_key, recipients, block_size)
    with Workers(cores(), Sealer.opened, *sealer) as workers:
        yield SealingAside(workers)


def extent_of(selected: Selected, member: Member, number: int, position: int) -> NewExtent:
    """Return the extent that a member of segment ``position`` of stripe ``number`` will be."""
    return _extent(selected, Payload.of(0, member), number, position)


def _extent(selected: Selected, payload: Payload, number: int, position: int) -> NewExtent:
    piece = selected.piece
    return NewExtent(
        source=piece.source,
        part=piece.part,
        parts=piece.parts,
        object_sha256=payload.object_sha256,
        position=position,
        stripe=number,
        member=payload.member,
        offset=payload.offset,
        size=payload.size,
        sha256=payload.sha256,
        stored_size=payload.stored_size,
        stored_sha256=payload.stored_sha256,
        replaces=selected.replaces,
    )


def _unpickled_order(
    path: Path, number: int, position: int, rows: Iterable[tuple[Any, ...]]
) -> SegmentOrder:
    selected = [
        Selected(Piece(StoredObject._make(source), *cut), replaces)
        for source, *cut, replaces in rows
    ]
    return SegmentOrder(path, number, position, tuple(selected))
