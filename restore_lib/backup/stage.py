"""Protect: pieces of objects into segments on the staging disk, stripe by stripe, with parity."""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from restore_lib.backup.pack import Geometry, Piece, bound, meta_of
from restore_lib.catalog.stripes import NewExtent
from restore_lib.errors import ObjectUnreadable
from restore_lib.model.objects import display_key
from restore_lib.model.progress import Progress
from restore_lib.stores.base import Store
from restore_lib.tape.age import Recipients
from restore_lib.tape.members import Member
from restore_lib.tape.parity import encode_parity
from restore_lib.tape.segment import SegmentWriter


@dataclass(frozen=True, slots=True)
class Selected:
    """A piece that has to go to tape, and the version of its object that it takes over from."""

    piece: Piece
    replaces: int | None


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
class StagedStripe:
    """All tape files of one stripe, by position, and the extents in them."""

    number: int
    files: tuple[StagedFile, ...]
    extents: tuple[NewExtent, ...]

    def renumbered(self, number: int) -> "StagedStripe":
        """Return the same stripe as number ``number`` of another set; its files stay the same."""
        extents = tuple(replace(extent, stripe=number) for extent in self.extents)
        return replace(self, number=number, extents=extents)

    def remove(self) -> None:
        """Remove its files from the staging disk."""
        for file in self.files:
            file.path.unlink()


class Pieces:
    """The pieces of a job, one after the other, with a look at the next one."""

    def __init__(self, selected: Iterator[Selected]) -> None:
        self._selected = selected
        self.next = next(selected, None)

    def take(self) -> Selected:
        """Return the next piece and go on."""
        taken = self.next
        if taken is None:
            raise IndexError("no piece is left")
        self.next = next(self._selected, None)
        return taken

    def skip(self, key: bytes) -> None:
        """Drop the pieces of an object that can't be read."""
        while self.next is not None and self.next.piece.source.key == key:
            self.next = next(self._selected, None)


@dataclass
class Sources:
    """Reads objects piece by piece; a cut object stays open from its first to its last piece."""

    store: Store
    failures: dict[bytes, str] = field(default_factory=dict)
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _stream: BinaryIO | None = None
    _whole: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def open(self, piece: Piece) -> "_Part":
        """Return a reader of the piece's bytes; ObjectUnreadable when its object can't be read."""
        if piece.part == 1:
            self.close()
            opened = self.store.open(piece.source.key, version=piece.source.version)
            self._stream = self._open.enter_context(opened)
            self._whole = hashlib.sha256()
        if self._stream is None:
            raise ObjectUnreadable(f"{display_key(piece.source.key)} is not open any more.")
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


class Stager:
    """Stages the stripes of one tape set, as many as its volumes have room for."""

    def __init__(
        self,
        folder: Path,
        store_name: str,
        geometry: Geometry,
        recipients: Recipients,
        sources: Sources,
        progress: Progress,
    ) -> None:
        self._folder = folder
        self._store_name = store_name
        self._geometry = geometry
        self._recipients = recipients
        self._sources = sources
        self._progress = progress

    def stage(
        self, work: Pieces, *, first: int, used: int, target: int, most: int
    ) -> tuple[list[StagedStripe], bool]:
        """Stage pieces from ``work`` until it is empty, the set is full or ``most`` stripes are.

        ``first`` is the number of the first stripe, ``used`` the bytes already on each volume,
        ``target`` the wanted size of a segment in bytes. Return the stripes, and whether the set is
        full while there is more work.
        """
        staged: list[StagedStripe] = []
        geometry = self._geometry
        while work.next is not None and len(staged) < most:
            if (first > 1 or staged) and used + geometry.segment_size > geometry.volume_size:
                return staged, True
            stripe = self._stripe(work, first + len(staged), target)
            if stripe.extents:
                staged.append(stripe)
                used += max(self._bytes(file) for file in stripe.files)
        return staged, False

    def _bytes(self, file: StagedFile) -> int:
        return file.blocks * self._geometry.block_size + 2 * len(file.sealed_index or b"")

    def _stripe(self, work: Pieces, number: int, target: int) -> StagedStripe:
        files: list[StagedFile] = []
        extents: list[NewExtent] = []
        for position in range(self._geometry.k):
            file, held = self._segment(work, number, position, target)
            files.append(file)
            extents.extend(held)
        files.extend(self._parity(number, files))
        return StagedStripe(number, tuple(files), tuple(extents))

    def _segment(
        self, work: Pieces, number: int, position: int, target: int
    ) -> tuple[StagedFile, list[NewExtent]]:
        path = self._folder / f"stripe-{number:06d}-{position:02d}"
        extents: list[NewExtent] = []
        with SegmentWriter(
            path, block_size=self._geometry.block_size, recipients=self._recipients
        ) as writer:
            while (upcoming := work.next) is not None:
                grown = writer.size_bound + bound(
                    self._store_name, upcoming.piece, len(self._recipients.names)
                )
                if writer.members and grown > target:
                    break
                extent = self._add(writer, work, number, position)
                if extent is not None:
                    extents.append(extent)
            summary = writer.finish()
        file = StagedFile(
            position,
            path,
            summary.blocks,
            summary.sha256,
            summary.sealed_index,
            summary.index_offset,
        )
        return file, extents

    def _add(
        self, writer: SegmentWriter, work: Pieces, number: int, position: int
    ) -> NewExtent | None:
        selected = work.take()
        piece = selected.piece
        try:
            member = writer.add(
                meta_of(self._store_name, piece),
                self._sources.open(piece),
                size=piece.size,
                object_digest=self._sources.digest if piece.parts > 1 and piece.is_last else None,
            )
        except ObjectUnreadable as error:
            self._sources.failures[piece.source.key] = error.message
            self._sources.close()
            work.skip(piece.source.key)
            return None
        finally:
            if piece.is_last:
                self._sources.close()
        self._progress.advance(objects=int(piece.is_last), size=piece.size)
        return _extent(selected, member, number, position)

    def _parity(self, number: int, data: list[StagedFile]) -> list[StagedFile]:
        k, m = self._geometry.k, self._geometry.m
        paths = [self._folder / f"stripe-{number:06d}-{k + i:02d}" for i in range(m)]
        summaries = encode_parity(
            [file.path for file in data], paths, block_size=self._geometry.block_size
        )
        return [
            StagedFile(k + i, path, summary.blocks, summary.sha256, None, None)
            for i, (path, summary) in enumerate(zip(paths, summaries, strict=True))
        ]


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
