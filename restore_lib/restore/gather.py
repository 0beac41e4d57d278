"""Gather: blocks from several volumes onto the staging disk, and lost ones from parity.

What a row lacks is decided row by row: blocks of a lost volume, and blocks that could not be read,
are rebuilt from any k others of their row, so that volumes of a set may be damaged in different
places, also more than m of them.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from restore_lib.catalog.batches import BatchExtent, BatchItem
from restore_lib.errors import DriveBusy, MediumError
from restore_lib.restore.read import TapeReader
from restore_lib.tape.parity import Rebuilder
from restore_lib.tape.streams import disk_errors

StripeFiles = Mapping[tuple[str, int, int], tuple[str, int]]
_Row = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class SetShape:
    """Data and parity volumes of a tape set, and its block size in bytes."""

    k: int
    m: int
    block_size: int


@dataclass
class Gathered:
    """Blocks on the staging disk, by (barcode, tape file, block); those that failed are named."""

    folder: Path
    _where: dict[tuple[str, int, int], int] = field(default_factory=dict)
    _bad: set[tuple[str, int, int]] = field(default_factory=set)
    _files: dict[str, BinaryIO] = field(default_factory=dict)

    def collect(
        self,
        barcode: str,
        wanted: Iterable[tuple[int, int]],
        reader: TapeReader,
        patience: int | None = None,
    ) -> bool:
        """Read (tape file, block) pairs of a mounted volume; return whether all could be read.

        What was collected before stays. After ``patience`` bad blocks, where given, the rest is
        left. DiskFull when the staging disk has no room for more.
        """
        if barcode not in self._files:
            self._files[barcode] = (self.folder / barcode).open("w+b")
        file = self._files[barcode]
        whole = True
        with disk_errors(self.folder / barcode):
            file.seek(0, os.SEEK_END)
            for number, block in sorted(wanted):
                try:
                    data = next(reader.blocks(number, block, 1))
                except MediumError:
                    whole = False
                    self._bad.add((barcode, number, block))
                    if len(reader.bad) == patience:
                        break
                    continue
                self._where[barcode, number, block] = file.tell()
                file.write(data)
            file.flush()
        return whole

    def has(self, barcode: str, number: int, block: int) -> bool:
        """Whether a block was collected."""
        return (barcode, number, block) in self._where

    def bad_blocks(self, barcode: str) -> int:
        """Return how many blocks of a volume could not be read."""
        return sum(name == barcode for name, _, _ in self._bad)

    def was_tried(self, barcode: str, number: int, block: int) -> bool:
        """Whether a block was collected, or could not be read."""
        return (barcode, number, block) in self._bad or self.has(barcode, number, block)

    def block(self, barcode: str, number: int, block: int, size: int) -> bytes:
        """Return a collected block; MediumError when it could not be read."""
        offset = self._where.get((barcode, number, block))
        if offset is None:
            raise MediumError(
                f"Block {block} of tape file {number} of volume {barcode} can't be read.",
                volume=barcode,
            )
        file = self._files[barcode]
        file.seek(offset)
        return file.read(size)

    def close(self) -> None:
        """Close the staging files."""
        for file in self._files.values():
            file.close()


class Sourcing:
    """Where each block of the extents in a gathering batch comes from: its volume, or k others."""

    def __init__(
        self, volumes: Iterable[str], shapes: Mapping[str, SetShape], files: StripeFiles
    ) -> None:
        """``files`` gives (barcode, blocks) by (tape set, stripe, position)."""
        self._volumes = tuple(volumes)
        self._shapes = shapes
        self._files = files
        self._rebuilders = {
            name: Rebuilder(shape.k, shape.m, shape.block_size) for name, shape in shapes.items()
        }
        self._kept: tuple[tuple[str, int, int, int], bytes] | None = None

    def gather(
        self,
        extents: Sequence[BatchExtent],
        gathered: Gathered,
        collect: Callable[[str, set[tuple[int, int]]], None],
        visits: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Collect the blocks of ``extents``, and of each row that lacks one, k others.

        ``collect(barcode, wanted)`` is called for the volumes in their order, and once more for
        those that rebuild what could not be read, the soundest first. A volume of which nothing is
        needed is asked only if the caller ``visits`` it for a purpose of its own. No block is asked
        for again that was read or could not be. A volume that is in use is asked for after the
        others; DriveBusy when it still is: call it again.
        """
        short = self._short((e for e in extents if e.barcode not in self._volumes), gathered)
        busy: list[str] = []

        def take(barcode: str) -> None:
            own = self._own(extents, barcode, gathered)
            wanted = own | self._helping(short, gathered, barcode)
            if wanted or visits(barcode):
                collect(barcode, wanted)

        for barcode in self._volumes:
            try:
                take(barcode)
            except DriveBusy:
                busy.append(barcode)
        for barcode in busy:
            take(barcode)
        short = self._short(extents, gathered)
        for barcode in sorted(self._volumes, key=gathered.bad_blocks):
            if wanted := self._helping(short, gathered, barcode):
                collect(barcode, wanted)

    def is_rebuilt(self, item: BatchItem, gathered: Gathered) -> bool:
        """Whether parity stands in for a block of this object."""
        return any(
            not self._is_at_hand(extent, row, gathered)
            for extent in item.extents
            for row in self._rows(extent)
        )

    def payload(self, extent: BatchExtent, gathered: Gathered) -> Iterator[bytes]:
        """Yield the stored bytes of an extent; MediumError when too few blocks could be read."""
        size = self._shapes[extent.tape_set].block_size
        skip = extent.offset % size
        left = extent.stored_size
        for row in self._rows(extent):
            piece = self._block(extent, row, gathered)[skip : skip + left]
            left -= len(piece)
            skip = 0
            yield piece

    def _rows(self, extent: BatchExtent) -> range:
        size = self._shapes[extent.tape_set].block_size
        end = extent.offset + max(extent.stored_size, 1)
        return range(extent.offset // size, -(-end // size))

    def _own(
        self, extents: Iterable[BatchExtent], barcode: str, gathered: Gathered
    ) -> set[tuple[int, int]]:
        """Return the blocks of a volume that hold ``extents`` and were not tried yet."""
        return {
            (extent.stripe, row)
            for extent in extents
            if extent.barcode == barcode
            for row in self._rows(extent)
            if not gathered.was_tried(barcode, extent.stripe, row)
        }

    def _short(self, extents: Iterable[BatchExtent], gathered: Gathered) -> set[_Row]:
        """Return the rows in which a block of an extent was not collected."""
        return {
            (extent.tape_set, extent.stripe, row)
            for extent in extents
            for row in self._rows(extent)
            if not self._is_at_hand(extent, row, gathered)
        }

    def _helping(
        self, short: Iterable[_Row], gathered: Gathered, barcode: str
    ) -> set[tuple[int, int]]:
        """Return the blocks of a volume that rows need which have fewer than k so far."""
        return {
            (stripe, row)
            for tape_set, stripe, row in short
            if self._has_block(tape_set, stripe, row, barcode)
            and not gathered.was_tried(barcode, stripe, row)
            and len(self._found(tape_set, stripe, row, gathered)) < self._shapes[tape_set].k
        }

    def _has_block(self, tape_set: str, stripe: int, row: int, barcode: str) -> bool:
        return any(
            name == barcode and row < blocks
            for _, (name, blocks) in self._members(tape_set, stripe)
        )

    def _members(self, tape_set: str, stripe: int) -> Iterator[tuple[int, tuple[str, int]]]:
        shape = self._shapes[tape_set]
        for position in range(shape.k + shape.m):
            yield position, self._files[tape_set, stripe, position]

    def _found(
        self, tape_set: str, stripe: int, row: int, gathered: Gathered
    ) -> list[tuple[int, str]]:
        """Return (position, barcode) of a row's known blocks; past a file's end they are zeros."""
        return [
            (position, barcode)
            for position, (barcode, blocks) in self._members(tape_set, stripe)
            if row >= blocks or gathered.has(barcode, stripe, row)
        ]

    def _is_at_hand(self, extent: BatchExtent, row: int, gathered: Gathered) -> bool:
        return gathered.has(extent.barcode, extent.stripe, row)

    def _block(self, extent: BatchExtent, row: int, gathered: Gathered) -> bytes:
        size = self._shapes[extent.tape_set].block_size
        if self._is_at_hand(extent, row, gathered):
            return gathered.block(extent.barcode, extent.stripe, row, size)
        place = (extent.tape_set, extent.stripe, extent.position, row)
        if self._kept is None or self._kept[0] != place:
            self._kept = place, self._rebuild(extent, row, gathered)
        return self._kept[1]

    def _rebuild(self, extent: BatchExtent, row: int, gathered: Gathered) -> bytes:
        shape = self._shapes[extent.tape_set]
        found = self._found(extent.tape_set, extent.stripe, row, gathered)
        if len(found) < shape.k:
            raise MediumError(
                f"Block {row} of tape file {extent.stripe} of volume {extent.barcode} can't be "
                f"read, and of its row in set {extent.tape_set} only {len(found)} of the "
                f"{shape.k} blocks that rebuild it.",
                volume=extent.barcode,
            )
        blocks = {
            position: gathered.block(barcode, extent.stripe, row, shape.block_size)
            if gathered.has(barcode, extent.stripe, row)
            else bytes(shape.block_size)
            for position, barcode in found[: shape.k]
        }
        rebuilt = self._rebuilders[extent.tape_set].rebuild(blocks, [extent.position])
        return rebuilt[extent.position]
