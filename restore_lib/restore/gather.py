"""Gather: blocks from several volumes onto the staging disk, and lost ones from parity."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from restore_lib.catalog.batches import BatchExtent, BatchItem
from restore_lib.errors import MediumError
from restore_lib.restore.read import TapeReader
from restore_lib.tape.parity import Rebuilder
from restore_lib.tape.streams import disk_errors

StripeFiles = Mapping[tuple[str, int, int], tuple[str, int]]


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
    _files: dict[str, BinaryIO] = field(default_factory=dict)

    def collect(self, barcode: str, wanted: Iterable[tuple[int, int]], reader: TapeReader) -> bool:
        """Read (tape file, block) pairs of a mounted volume; return whether all could be read.

        DiskFull when the staging disk has no room for them.
        """
        file = self._files[barcode] = (self.folder / barcode).open("w+b")
        whole = True
        with disk_errors(self.folder / barcode):
            for number, block in sorted(wanted):
                try:
                    data = next(reader.blocks(number, block, 1))
                except MediumError:
                    whole = False
                    continue
                self._where[barcode, number, block] = file.tell()
                file.write(data)
            file.flush()
        return whole

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
    """Where each extent of a gathering batch comes from: its own volume, or k others."""

    def __init__(
        self, volumes: Iterable[str], shapes: Mapping[str, SetShape], files: StripeFiles
    ) -> None:
        """``files`` gives (barcode, blocks) by (tape set, stripe, position)."""
        self._volumes = frozenset(volumes)
        self._shapes = shapes
        self._files = files
        self._rebuilders = {
            name: Rebuilder(shape.k, shape.m, shape.block_size) for name, shape in shapes.items()
        }
        self._kept: tuple[tuple[str, int, int, int], bytes] | None = None

    def wanted(self, items: Iterable[BatchItem]) -> dict[str, set[tuple[int, int]]]:
        """Return the (tape file, block) pairs to read from each volume."""
        wanted: dict[str, set[tuple[int, int]]] = {}
        for item in items:
            for extent in item.extents:
                for row in self._rows(extent):
                    for barcode, _ in self._sources(extent, row):
                        wanted.setdefault(barcode, set()).add((extent.stripe, row))
        return wanted

    def is_rebuilt(self, item: BatchItem) -> bool:
        """Whether parity stands in for a volume of this object."""
        return any(extent.barcode not in self._volumes for extent in item.extents)

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

    def _sources(self, extent: BatchExtent, row: int) -> Iterator[tuple[str, int]]:
        """Yield (barcode, position) of the volumes that a row of an extent is read from."""
        if extent.barcode in self._volumes:
            yield extent.barcode, extent.position
            return
        shape = self._shapes[extent.tape_set]
        for position in range(shape.k + shape.m):
            barcode, blocks = self._files[extent.tape_set, extent.stripe, position]
            if barcode in self._volumes and row < blocks:
                yield barcode, position

    def _block(self, extent: BatchExtent, row: int, gathered: Gathered) -> bytes:
        shape = self._shapes[extent.tape_set]
        size = shape.block_size
        if extent.barcode in self._volumes:
            return gathered.block(extent.barcode, extent.stripe, row, size)
        place = (extent.tape_set, extent.stripe, extent.position, row)
        if self._kept is None or self._kept[0] != place:
            self._kept = place, self._rebuild(extent, row, gathered)
        return self._kept[1]

    def _rebuild(self, extent: BatchExtent, row: int, gathered: Gathered) -> bytes:
        shape = self._shapes[extent.tape_set]
        blocks: dict[int, bytes] = {}
        missing: MediumError | None = None
        for position in range(shape.k + shape.m):
            barcode, length = self._files[extent.tape_set, extent.stripe, position]
            if barcode not in self._volumes or len(blocks) == shape.k:
                continue
            try:
                ended = row >= length
                blocks[position] = (
                    bytes(shape.block_size)
                    if ended
                    else gathered.block(barcode, extent.stripe, row, shape.block_size)
                )
            except MediumError as error:
                missing = error
        if missing is not None and len(blocks) < shape.k:
            raise missing
        rebuilt = self._rebuilders[extent.tape_set].rebuild(blocks, [extent.position])
        return rebuilt[extent.position]
