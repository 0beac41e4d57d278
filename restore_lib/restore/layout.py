"""Where the tape files of one volume lie, in bytes from the beginning of its tape."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from restore_lib.library.base import Position, Range
from restore_lib.library.lto import Geometry
from restore_lib.restore.order import Stretch


@dataclass(frozen=True)
class Layout:
    """The tape files behind a label, by their length in blocks; the label itself counts as nothing.

    Blocks are addressed by tape file and number, as a drive does.
    """

    geometry: Geometry
    block_size: int
    lengths: Mapping[int, int]
    _starts: dict[int, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Add up where each tape file begins."""
        files = sorted(self.lengths)
        starts = accumulate((self.lengths[file] for file in files), initial=0)
        object.__setattr__(self, "_starts", dict(zip(files, starts, strict=False)))

    def offset(self, file: int, block: int) -> int:
        """Return the byte of the tape at which a block begins."""
        return (self._starts[file] + block) * self.block_size

    def stretch(self, blocks: Range) -> Stretch:
        """Return the bytes of a range of blocks."""
        return Stretch(self._at(blocks.first), self._at(blocks.last) + self.block_size)

    def reads_through(self, here: tuple[int, int], there: tuple[int, int]) -> bool:
        """Whether reading on from one block to another is at least as quick as a locate."""
        return self.geometry.reads_through(self.offset(*here), self.offset(*there))

    def _at(self, position: Position) -> int:
        return self.offset(position.file, position.block)
