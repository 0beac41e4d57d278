"""A virtual tape drive: a SIMH image under a head, with a fence and its volume's faults."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from restore_lib.errors import LeaseLost, LibraryOffline, MediumError, VolumeFull
from restore_lib.library.base import Position, Range
from restore_lib.library.bay import Bay, Fence
from restore_lib.library.faults import Faults, read_faults, write_faults
from restore_lib.library.simh import TapeImage, framed_size


class VirtualDrive:
    """The mount of one volume in one drive, good until the drive is loaded or unloaded again.

    Each operation runs under the drive's lock, after a look whether this mount is still the newest
    and the volume still there: LeaseLost when another mount has come, LibraryOffline when the drive
    is empty or dead. So nothing is ever written to a volume that has left the drive.
    """

    def __init__(self, bay: Bay, image: Path, fence: Fence, capacity_bytes: int) -> None:
        self.number = bay.number
        self._bay = bay
        self._fence = fence
        self._faults = read_faults(image)
        self._image = TapeImage(image, writable=True)
        self._capacity_bytes = min(capacity_bytes, self._faults.capacity_bytes or capacity_bytes)
        self._volume = image.stem
        self._place = str(image)
        self._blocks_done = 0

    def close(self) -> None:
        """Let go of the volume; every later operation raises LeaseLost."""
        self._fence = Fence(-1, 0)
        self._image.close()

    def barcode(self) -> str | None:
        """Return the barcode of the volume in the drive."""
        image = self._bay.image()
        return image.stem if image else None

    def rewind(self) -> None:
        """Go to the beginning of the tape."""
        with self._held():
            self._image.rewind()

    def locate(self, file: int, block: int = 0) -> None:
        """Go to block ``block`` of tape file ``file``; EndOfData when the tape ends before."""
        with self._held(medium=True):
            self._image.locate(file, block)

    def space_to_end(self) -> Position:
        """Go to the end of data, behind the last filemark or record, and return where that is."""
        with self._held(medium=True):
            return self._image.space_to_end()

    def position(self) -> Position:
        """Return where the head is."""
        with self._held():
            return self._image.position

    def read(self) -> bytes | None:
        """Read one block; None at a filemark, which is passed; EndOfData at the end of data."""
        with self._held(medium=True):
            here = self._image.position
            if self._faults.hit(here.file, here.block):
                raise MediumError(
                    f"Block {here.block} of file {here.file} on {self._volume} is unreadable.",
                    volume=self._volume,
                )
            self._wear()
            block = self._image.read()
            self._blocks_done += block is not None
            return block

    def write(self, block: bytes) -> None:
        """Write one block here; all that was behind is gone. VolumeFull when it does not fit."""
        with self._held(medium=True):
            if self._image.offset + framed_size(len(block)) > self._capacity_bytes:
                raise VolumeFull(
                    f"The volume {self._volume} has no room for {len(block)} bytes more.",
                    volume=self._volume,
                )
            self._wear()
            self._image.write(block)
            self._blocks_done += 1

    def write_filemark(self) -> None:
        """End the tape file and flush: on return all that was written is on the medium.

        There is always room for it, as tapes have behind their early-warning mark.
        """
        with self._held(medium=True):
            self._image.write_filemark()

    def geometry(self) -> None:
        """Return None: on an image each block is as near as any other."""

    def recommended_order(self, ranges: Sequence[Range]) -> None:
        """Return None: there is nothing to recommend."""

    @contextlib.contextmanager
    def _held(self, *, medium: bool = False) -> Iterator[None]:
        """Hold the drive for one operation; one that touches the medium fails if that is bad."""
        with self._bay.locked():
            if self._bay.fence() != self._fence:
                self.close()
                raise LeaseLost(f"Drive {self.number} was loaded or unloaded by a newer holder.")
            self._bay.check_alive()
            if not self._image.is_at(self._place):
                raise LibraryOffline(
                    f"The volume {self._volume} is no longer in drive {self.number}.",
                    remedy="load it again",
                )
            if medium and self._faults.unreadable:
                raise MediumError(
                    f"The volume {self._volume} can't be read at all.",
                    volume=self._volume,
                )
            yield

    def _wear(self) -> None:
        """Let the drive die if its volume's faults say so, once."""
        fault = self._faults.drive_dies
        if fault is None or self._blocks_done < fault.after_blocks:
            return
        self._bay.die()
        write_faults(
            self._image.path,
            Faults.model_validate(self._faults.model_dump() | {"drive_dies": None}),
        )
        self._bay.check_alive()
