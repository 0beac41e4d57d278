"""Read: byte ranges of tape files from a drive, in the order in which they lie."""

from collections.abc import Iterable, Iterator, Sequence

from restore_lib.catalog.batches import BatchExtent, BatchItem
from restore_lib.errors import EndOfData, MediumError
from restore_lib.library.base import Drive, Position, Range
from restore_lib.restore.layout import Layout
from restore_lib.restore.order import order

_READ_THROUGH = 8


class Pieces:
    """Pieces of bytes as a stream; a ``tape.streams.Readable``."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes, never across a piece; empty only at the end."""
        if size < 0:
            return b"".join([self._rest, *self._pieces])
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


class TapeReader:
    """Reads ranges of a mounted volume, keeping the last block for the range that follows."""

    def __init__(self, drive: Drive, block_size: int, layout: Layout | None = None) -> None:
        """``block_size`` is in bytes, as the label has it; ``bad`` collects unreadable blocks.

        A volume without a ``layout`` is one on which a locate takes no time.
        """
        self._drive = drive
        self._block_size = block_size
        self._layout = layout
        self._at: tuple[int, int] | None = None
        self._kept: tuple[int, int, bytes] | None = None
        self.bad: set[tuple[int, int]] = set()

    def order(self, ranges: Sequence[Range]) -> Sequence[int]:
        """Return the indexes of ``ranges`` in the order in which to read them from the label on.

        It is what the drive recommends, else the cheapest that was found for the volume's layout,
        else the one in which they are given.
        """
        each = range(len(ranges))
        recommended = self._drive.recommended_order(ranges)
        if recommended is not None and sorted(recommended) == list(each):
            return recommended
        if self._layout is None:
            return each
        return order([self._layout.stretch(one) for one in ranges], 0, self._layout.geometry)

    def span(self, item: BatchItem) -> Range:
        """Return the blocks from the first to the last part of an object on this volume."""
        first, last = item.extents[0], item.extents[-1]
        end = last.offset + max(last.stored_size - 1, 0)
        return Range(
            Position(first.stripe, first.offset // self._block_size),
            Position(last.stripe, end // self._block_size),
        )

    def blocks(self, file: int, first: int, count: int) -> Iterator[bytes]:
        """Yield ``count`` blocks from block ``first`` of a tape file.

        MediumError when one can't be read, or when the tape file ends before.
        """
        for number in range(first, first + count):
            yield self._block(file, number)

    def range(self, file: int, offset: int, size: int) -> Iterator[bytes]:
        """Yield ``size`` bytes from byte ``offset`` of a tape file, in pieces of up to a block."""
        first = offset // self._block_size
        skip = offset - first * self._block_size
        for block in self.blocks(file, first, -(-(skip + size) // self._block_size)):
            piece = block[skip : skip + size]
            size -= len(piece)
            skip = 0
            yield piece

    def payload(self, extent: BatchExtent) -> Iterator[bytes]:
        """Yield the stored bytes of an extent on this volume."""
        return self.range(extent.stripe, extent.offset, extent.stored_size)

    def _block(self, file: int, number: int) -> bytes:
        if self._kept is not None and self._kept[:2] == (file, number):
            return self._kept[2]
        if (file, number) in self.bad:
            raise self._unreadable(file, number)
        try:
            self._go_to(file, number)
            block = self._drive.read()
        except (EndOfData, MediumError) as error:
            raise self._give_up(file, number) from error
        if block is None or len(block) != self._block_size:
            raise self._give_up(file, number)
        self._at = (file, number + 1)
        self._kept = (file, number, block)
        return block

    def _go_to(self, file: int, number: int) -> None:
        if not (self._is_near(file, number) and self._read_through(file, number)):
            self._drive.locate(file, number)

    def _is_near(self, file: int, number: int) -> bool:
        if self._at is None:
            return False
        if self._layout is not None:
            return self._layout.reads_through(self._at, (file, number))
        return self._at[0] == file and 0 <= number - self._at[1] <= _READ_THROUGH

    def _read_through(self, file: int, number: int) -> bool:
        """Pass over what lies before a block; False when something of it can't be read."""
        at = self._at
        try:
            while at is not None and at < (file, number):
                at = (at[0] + 1, 0) if self._drive.read() is None else (at[0], at[1] + 1)
        except (EndOfData, MediumError):
            return False
        return at == (file, number)

    def _give_up(self, file: int, number: int) -> MediumError:
        self._at = None
        self.bad.add((file, number))
        return self._unreadable(file, number)

    def _unreadable(self, file: int, number: int) -> MediumError:
        barcode = self._drive.barcode()
        return MediumError(
            f"Block {number} of tape file {file} of volume {barcode} can't be read.",
            volume=barcode,
        )


def in_order(reader: TapeReader, items: Sequence[BatchItem]) -> list[BatchItem]:
    """Return objects that lie on one volume in the order in which to read them."""
    found = [item for item in items if item.extents]
    ordered = [found[index] for index in reader.order([reader.span(item) for item in found])]
    return [*(item for item in items if not item.extents), *ordered]
