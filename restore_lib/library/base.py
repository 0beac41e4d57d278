"""The protocol of a tape library: SCSI's words and semantics, whatever the machine behind."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from restore_lib.library.lto import Geometry


class ElementKind(StrEnum):
    """Kinds of places a cartridge can be in, as SCSI media changers name them (SMC-3)."""

    STORAGE = "storage"
    IMPORT_EXPORT = "import_export"
    DRIVE = "drive"


@dataclass(frozen=True, slots=True)
class Element:
    """One place of a library and the barcode of the volume in it, or None when it is empty."""

    kind: ElementKind
    number: int
    barcode: str | None


@dataclass(frozen=True, slots=True)
class Position:
    """Where a drive's head is.

    ``file`` is the number of filemarks before it, ``block`` the number of blocks since the last
    filemark (or since the beginning of the tape).
    """

    file: int
    block: int


@dataclass(frozen=True, slots=True)
class Range:
    """Blocks that are read in one go: all from ``first`` to ``last``."""

    first: Position
    last: Position


class Drive(Protocol):
    """A tape drive with a volume in it, held under a lease.

    Sense data becomes errors: MEDIUM ERROR → MediumError, BLANK CHECK → EndOfData, NOT READY and
    HARDWARE ERROR → LibraryOffline, VOLUME OVERFLOW → VolumeFull, a newer fencing token →
    LeaseLost. An error leaves the head somewhere: locate before going on.
    """

    number: int

    def barcode(self) -> str | None:
        """Return the barcode of the volume in the drive."""
        ...

    def rewind(self) -> None:
        """Go to the beginning of the tape."""
        ...

    def locate(self, file: int, block: int = 0) -> None:
        """Go to block ``block`` of tape file ``file``; EndOfData when the tape ends before."""
        ...

    def space_to_end(self) -> Position:
        """Go to the end of data, behind the last filemark or record, and return where that is."""
        ...

    def position(self) -> Position:
        """Return where the head is."""
        ...

    def read(self) -> bytes | None:
        """Read one block; None at a filemark, which is passed; EndOfData at the end of data."""
        ...

    def write(self, block: bytes) -> None:
        """Write one block here; all that was behind is gone. VolumeFull when it does not fit."""
        ...

    def write_filemark(self) -> None:
        """End the tape file and flush: on return all that was written is on the medium."""
        ...

    def geometry(self) -> Geometry | None:
        """Return how the volume is laid out; None when a locate takes no time worth saving."""
        ...

    def recommended_order(self, ranges: Sequence[Range]) -> Sequence[int] | None:
        """Return the indexes of ``ranges`` in the order in which this drive reads them soonest.

        None when it recommends none. LTO drives do by GENERATE RECOMMENDED ACCESS ORDER.
        """
        ...


class Library(Protocol):
    """A robot with storage slots, import/export slots and drives, serving one dock.

    Each move is atomic: a volume is at exactly one place at any instant, also after a crash.
    """

    drives: int

    def inventory(self) -> list[Element]:
        """Return all elements with the barcodes in them; LibraryOffline when it can't tell."""
        ...

    def loaded(self) -> dict[int, str]:
        """Return the drives that hold a volume, each with its barcode."""
        ...

    def load(self, barcode: str, drive: int, token: int) -> Drive:
        """Move a volume into a drive and wait until it is ready, under fencing token ``token``.

        What is in the drive is put back first. Raises VolumeAbsent when the volume is in no
        element, DriveBusy when it is in another drive, LibraryOffline when the drive, or the one it
        is stuck in, is dead, LeaseLost when the drive has seen a newer token, MediumError when the
        drive can't thread the volume (an unreadable one may load and fail when it is read).
        """
        ...

    def unload(self, drive: int, token: int) -> None:
        """Put the volume in the drive, if any, back into a storage slot.

        Raises LibraryOffline when the drive is dead, LeaseLost when it has seen a newer token.
        """
        ...

    def export(self, barcode: str) -> None:
        """Move a volume from its slot through an import/export slot to the dock.

        Nothing happens to a volume that is on the dock already. Raises VolumeAbsent when it is in
        no element, DriveBusy when it is in a drive, Refused when no import/export slot is free.
        """
        ...

    def dock(self) -> set[str]:
        """Return the barcodes that a scan of the dock finds."""
        ...

    def admit(self, barcode: str) -> None:
        """Take a volume from the dock through an import/export slot into a storage slot.

        Nothing happens to a volume that is in a slot or a drive already. Raises VolumeAbsent when
        it is not on the dock, Refused when no import/export or storage slot is free.
        """
        ...
