"""Read: byte ranges of tape files from a drive, in the order in which they lie."""

from collections.abc import Iterator

from restore_lib.errors import EndOfData, MediumError
from restore_lib.library.base import Drive

_READ_THROUGH = 8


class TapeReader:
    """Reads ranges of a mounted volume, keeping the last block for the range that follows."""

    def __init__(self, drive: Drive, block_size: int) -> None:
        """``block_size`` is in bytes, as the label has it; ``bad`` collects unreadable blocks."""
        self._drive = drive
        self._block_size = block_size
        self._at: tuple[int, int] | None = None
        self._kept: tuple[int, int, bytes] | None = None
        self.bad: set[tuple[int, int]] = set()

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
        at = self._at
        near = at is not None and at[0] == file and 0 <= number - at[1] <= _READ_THROUGH
        if at is None or not near or not self._read_through(number - at[1]):
            self._drive.locate(file, number)

    def _read_through(self, count: int) -> bool:
        """Pass over some blocks; False when one of them can't be read or a filemark comes."""
        try:
            return all(self._drive.read() is not None for _ in range(count))
        except (EndOfData, MediumError):
            return False

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
