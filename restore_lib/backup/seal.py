"""Seal: pieces of objects into one segment, or the parity of a stripe, wherever that is run."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from restore_lib.backup.pack import Piece, meta_of
from restore_lib.catalog.stripes import NewExtent
from restore_lib.config import StoreConfig
from restore_lib.errors import ObjectUnreadable
from restore_lib.model.objects import display_key
from restore_lib.stores.base import Store
from restore_lib.stores.open import open_store
from restore_lib.tape.age import Recipients
from restore_lib.tape.members import Member
from restore_lib.tape.parity import ParitySummary, encode_parity
from restore_lib.tape.segment import SegmentWriter
from restore_lib.workers import Workers, cores


@dataclass(frozen=True, slots=True)
class Selected:
    """A piece that has to go to tape, and the version of its object that it takes over from."""

    piece: Piece
    replaces: int | None


@dataclass(frozen=True, slots=True)
class SegmentOrder:
    """A segment to write: the file it becomes, and what it holds."""

    path: Path
    number: int
    position: int
    selected: tuple[Selected, ...]

    @property
    def size(self) -> int:
        """The plaintext's bytes."""
        return sum(one.piece.size for one in self.selected)

    @property
    def is_cut(self) -> bool:
        """Whether it holds a part of an object that other segments hold the rest of."""
        return any(one.piece.parts > 1 for one in self.selected)


@dataclass(frozen=True, slots=True)
class StagedFile:
    """One tape file on the staging disk; a parity file has no index."""

    position: int
    path: Path
    blocks: int
    sha256: str
    sealed_index: bytes | None
    index_offset: int | None


@dataclass(frozen=True, slots=True)
class Sealed:
    """A written segment, the extents in it, and why objects are not, by key."""

    file: StagedFile
    extents: tuple[NewExtent, ...]
    failures: dict[bytes, str]


@dataclass
class Sources:
    """Reads objects piece by piece; a cut object stays open from its first to its last piece.

    One whose name has more than ``longest_key`` bytes can't be read: the catalog can't hold it.
    """

    store: Store
    longest_key: int | None = None
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _stream: BinaryIO | None = None
    _whole: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def open(self, piece: Piece) -> "_Part":
        """Return a reader of the piece's bytes; ObjectUnreadable when its object can't be read."""
        key = piece.source.key
        if self.longest_key is not None and len(key) > self.longest_key:
            raise ObjectUnreadable(
                f"{display_key(key)} has a name of {len(key)} bytes; the catalog's database holds "
                f"names of up to {self.longest_key}."
            )
        if piece.part == 1:
            self.close()
            opened = self.store.open(key, version=piece.source.version)
            self._stream = self._open.enter_context(opened)
            self._whole = hashlib.sha256()
        if self._stream is None:
            raise ObjectUnreadable(f"{display_key(key)} is not open any more.")
        return _Part(self._stream, piece, self._whole)

    def digest(self) -> str:
        """Return the SHA-256 (hex) of all that was read of the open object."""
        return self._whole.hexdigest()

    def close(self) -> None:
        """Close the object that is open, if any."""
        self._open.close()
        self._stream = None


class _Part:
    """The bytes of one piece; the last piece reads on, so that a grown object is noticed."""

    def __init__(self, stream: BinaryIO, piece: Piece, whole: "hashlib._Hash") -> None:
        self._stream = stream
        self._left = piece.size
        self._last = piece.is_last
        self._whole = whole if piece.parts > 1 else None

    def read(self, size: int = -1, /) -> bytes:
        if not self._last:
            size = self._left if size < 0 else min(size, self._left)
        data = self._stream.read(size)
        self._left -= len(data)
        if self._whole is not None:
            self._whole.update(data)
        return data


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

    def seal(self, order: SegmentOrder) -> Sealed:
        """Write a segment of all its objects that can be read."""
        extents: list[NewExtent] = []
        failures: dict[bytes, str] = {}
        with SegmentWriter(
            order.path, block_size=self._block_size, recipients=self._recipients
        ) as writer:
            for selected in order.selected:
                key = selected.piece.source.key
                if selected.piece.part > 1 and key == self._broken:
                    continue
                try:
                    member = self._add(writer, selected.piece)
                except ObjectUnreadable as error:
                    failures[key] = error.message
                    self._broken = key
                else:
                    extents.append(_extent(selected, member, order.number, order.position))
            summary = writer.finish()
        file = StagedFile(
            order.position,
            order.path,
            summary.blocks,
            summary.sha256,
            summary.sealed_index,
            summary.index_offset,
        )
        return Sealed(file, tuple(extents), failures)

    def protect(self, data: Sequence[Path], outputs: Sequence[Path]) -> list[ParitySummary]:
        """Compute the parity of a stripe's segments."""
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
        """Begin, or do, what ``Sealer.seal`` does."""
        ...

    def protect(
        self, data: Sequence[Path], outputs: Sequence[Path], size: int
    ) -> "Future[list[ParitySummary]]":
        """Begin, or do, what ``Sealer.protect`` does; ``size`` is that of the data."""
        ...


class SealingHere:
    """Seals in this very thread: what is small is done before a process has started."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def seal(self, order: SegmentOrder) -> "Future[Sealed]":
        """Seal now."""
        done: Future[Sealed] = Future()
        done.set_result(self._sealer.seal(order))
        return done

    def protect(
        self,
        data: Sequence[Path],
        outputs: Sequence[Path],
        size: int,  # noqa: ARG002 - protocol's
    ) -> "Future[list[ParitySummary]]":
        """Compute parity now."""
        done: Future[list[ParitySummary]] = Future()
        done.set_result(self._sealer.protect(data, outputs))
        return done


class SealingAside:
    """Seals in one process for each core."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def seal(self, order: SegmentOrder) -> "Future[Sealed]":
        """Hand the order to a process; all cut objects go to the first one, in their order."""
        lane = 0 if order.is_cut else None
        return self._workers.submit("seal", order, weight=order.size, lane=lane)

    def protect(
        self, data: Sequence[Path], outputs: Sequence[Path], size: int
    ) -> "Future[list[ParitySummary]]":
        """Hand the stripe to a process; parity costs about a third of sealing."""
        return self._workers.submit("protect", data, outputs, weight=size // 3)


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


def _extent(selected: Selected, member: Member, number: int, position: int) -> NewExtent:
    piece = selected.piece
    whole = member.sha256 if piece.parts == 1 else member.meta.object_sha256
    return NewExtent(
        source=piece.source,
        part=piece.part,
        parts=piece.parts,
        object_sha256=whole,
        position=position,
        stripe=number,
        member=member.name,
        offset=member.offset,
        size=member.size,
        sha256=member.sha256,
        stored_size=member.stored_size,
        stored_sha256=member.stored_sha256,
        replaces=selected.replaces,
    )
