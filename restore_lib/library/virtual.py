"""A virtual tape library: folders are its places, SIMH images its volumes.

Under the library's root::

    library/slot-0001/  one folder a storage slot    library/ie-01/  one an import/export slot
    library/drive-0/    one a drive                  dock/           what trucks bring and take

A volume is ``<barcode>.tap`` in one of them. Where it lies is where it is: there is no other state
of places, and a move is one rename. ``library/.last`` notes for each volume where it was moved
last: that is where it is looked for first.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Self

from restore_lib.errors import (
    DriveBusy,
    LibraryOffline,
    Refused,
    VolumeAbsent,
)
from restore_lib.library.base import Drive, Element, ElementKind
from restore_lib.library.bay import Bay, single_image
from restore_lib.library.places import (
    IMAGE_SUFFIX,
    check_barcode,
    create_blank,
    holding,
    images_in,
    locked,
    move_image,
)
from restore_lib.library.virtual_drive import VirtualDrive

_ROBOT_SECONDS = 120.0


class VirtualLibrary:
    """The library at ``root``, with slots, drives and import/export slots as ``create`` made them.

    Volumes take ``capacity_bytes`` of image each. Any number of processes may use one library:
    there is one robot, which makes one move at a time. The constructor raises LibraryOffline when
    there is no library at ``root``, or one of another shape.
    """

    def __init__(
        self, root: Path, *, slots: int, drives: int, import_export: int, capacity_bytes: int
    ) -> None:
        self.root = root
        self.drives = drives
        self._capacity_bytes = capacity_bytes
        self._folder = root / "library"
        self._dock = root / "dock"
        self._last = self._folder / ".last"
        self._slots = [f"{self._folder}/slot-{n:04}" for n in range(1, slots + 1)]
        self._doors = [f"{self._folder}/ie-{n:02}" for n in range(1, import_export + 1)]
        self._bays = [Bay(self._folder / f"drive-{n}", n) for n in range(drives)]
        self._mounts: dict[int, VirtualDrive] = {}
        self._homes: dict[int, Path] = {}
        self._first_empty = 0
        self._check_shape()

    @classmethod
    def create(
        cls, root: Path, *, slots: int, drives: int, import_export: int, capacity_bytes: int
    ) -> Self:
        """Set up the folders of a library at ``root``, or those that are missing, and open it."""
        folder = root / "library"
        for name in [f"slot-{n:04}" for n in range(1, slots + 1)]:
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name in [f"ie-{n:02}" for n in range(1, import_export + 1)]:
            (folder / name).mkdir(parents=True, exist_ok=True)
        for n in range(drives):
            Bay(folder / f"drive-{n}", n).create()
        (root / "dock").mkdir(exist_ok=True)
        (folder / ".robot").touch()
        return cls(
            root,
            slots=slots,
            drives=drives,
            import_export=import_export,
            capacity_bytes=capacity_bytes,
        )

    def add_blank(self, barcodes: Iterable[str]) -> None:
        """Put blank volumes into free slots, as a person does through the library's door.

        Refused, with none put in, when a barcode is malformed or known here, or slots are short.
        """
        wanted = list(barcodes)
        with self._robot():
            there = self._all_barcodes()
            for barcode in wanted:
                check_barcode(barcode)
                if barcode in there:
                    raise Refused(
                        f"There is a volume {barcode} already.", remedy="choose another barcode"
                    )
                there.add(barcode)
            free = self._free_slots(len(wanted))
            if len(free) < len(wanted):
                raise _no_slot(f"for {len(wanted)} blank volumes, {len(free)} are free")
            for slot, barcode in zip(free, wanted, strict=True):
                create_blank(slot, barcode)

    def inventory(self) -> list[Element]:
        """Return all elements with the barcodes in them; LibraryOffline when it can't tell."""
        with self._robot():
            places = [
                (ElementKind.STORAGE, enumerate(self._slots, start=1)),
                (ElementKind.IMPORT_EXPORT, enumerate(self._doors, start=1)),
                (ElementKind.DRIVE, enumerate(self._bay_folders())),
            ]
            return [
                Element(kind, number, image.stem if (image := single_image(Path(folder))) else None)
                for kind, folders in places
                for number, folder in folders
            ]

    def loaded(self) -> dict[int, str]:
        """Return the drives that hold a volume, each with its barcode."""
        with self._robot():
            return {bay.number: image.stem for bay in self._bays if (image := bay.image())}

    def load(self, barcode: str, drive: int, token: int) -> Drive:
        """Move a volume into a drive, under fencing token ``token``.

        What is in the drive is put back first. Raises VolumeAbsent when the volume is in no
        element, DriveBusy when it is in another drive, LibraryOffline when the drive, or the one
        the volume is in, is dead, and LeaseLost when the drive has seen a newer token.
        """
        bay = self._bay(drive)
        with self._robot():
            image = self._find_inside(barcode)
            self._check_reachable(image, bay)
            with bay.locked():
                fence = bay.claim(token)
                self._forget(drive)
                if image.parent != bay.folder:
                    self._put_back(bay)
                    self._homes[drive] = image.parent
                    image = self._move(image, bay.folder)
                mount = VirtualDrive(bay, image, fence, self._capacity_bytes)
        self._mounts[drive] = mount
        return mount

    def unload(self, drive: int, token: int) -> None:
        """Put the volume in the drive, if any, back into a storage slot.

        Raises LibraryOffline when the drive is dead, LeaseLost when it has seen a newer token, and
        Refused when no slot is free.
        """
        bay = self._bay(drive)
        with self._robot(), bay.locked():
            bay.claim(token)
            self._forget(drive)
            self._put_back(bay)

    def export(self, barcode: str) -> None:
        """Move a volume from its slot through an import/export slot to the dock.

        Nothing happens to a volume that is on the dock already, so it can be done again after a
        crash. Raises VolumeAbsent when the volume is in no element, DriveBusy when it is in a
        drive, and Refused when all import/export slots are taken.
        """
        with self._robot():
            image = self._find(barcode)
            if image and image.parent == self._dock:
                return
            if image is None:
                raise _absent(barcode)
            if str(image.parent) in self._bay_folders():
                raise DriveBusy(f"The volume {barcode} is in a drive.", volume=barcode)
            if str(image.parent) not in self._doors:
                image = self._move(image, self._free_door())
            self._move(image, self._dock)

    def dock(self) -> set[str]:
        """Return the barcodes that a scan of the dock finds."""
        return {image.stem for image in images_in(self._dock)}

    def admit(self, barcode: str) -> None:
        """Take a volume from the dock through an import/export slot into a storage slot.

        Nothing happens to a volume that is in a slot or a drive already, so it can be done again
        after a crash. Raises VolumeAbsent when the volume is not on the dock, and Refused when all
        import/export or storage slots are taken.
        """
        with self._robot():
            image = self._find(barcode)
            if image is None:
                raise VolumeAbsent(
                    f"The volume {barcode} is not on the dock.", remedy="recall it", volume=barcode
                )
            if image.parent != self._dock and str(image.parent) not in self._doors:
                return
            slots = self._free_slots(1)
            if not slots:
                raise _no_slot(f"for {barcode}")
            if image.parent == self._dock:
                image = self._move(image, self._free_door())
            self._move(image, slots[0])

    def repair_drive(self, drive: int) -> None:
        """Make a dead drive answer again, as its operator does; its volume stays in it."""
        self._bay(drive).repair()

    def _robot(self) -> contextlib.AbstractContextManager[None]:
        return locked(self._folder / ".robot", "robot of the virtual library", _ROBOT_SECONDS)

    def _check_shape(self) -> None:
        if not self._dock.is_dir() or not self._folder.is_dir():
            raise LibraryOffline(
                f"There is no virtual library at {self.root}.",
                remedy="create it with `tapeflow library create`, or correct [library] path",
            )
        places = (*self._slots, *self._doors, *self._bay_folders())
        wanted = {place.rpartition("/")[2] for place in places}
        names = os.listdir(self._folder)  # noqa: PTH208  a Path for each name is slow here
        found = {name for name in names if name.startswith(("slot-", "ie-", "drive-"))}
        if wrong := sorted(wanted ^ found):
            raise LibraryOffline(
                f"The virtual library at {self.root} is not of the shape asked for: {wrong[0]} is "
                f"{'missing' if wrong[0] in wanted else 'too many'}.",
                remedy="correct [library], or add what is missing with `tapeflow library create`",
            )

    def _bay(self, drive: int) -> Bay:
        if not 0 <= drive < self.drives:
            raise Refused(
                f"There is no drive {drive}.", remedy=f"use a drive from 0 to {self.drives - 1}"
            )
        return self._bays[drive]

    def _bay_folders(self) -> list[str]:
        return [str(bay.folder) for bay in self._bays]

    def _all_folders(self) -> list[str]:
        return [*self._slots, *self._doors, *self._bay_folders(), str(self._dock)]

    def _all_barcodes(self) -> set[str]:
        return {image.stem for folder in self._all_folders() for image in images_in(Path(folder))}

    def _move(self, image: Path, folder: Path) -> Path:
        """Move an image, and note where to."""
        moved = move_image(image, folder)
        noted = self._last / image.stem
        with contextlib.suppress(OSError):  # it saves a search, no more
            self._last.mkdir(exist_ok=True)
            noted.write_text(folder.name, "ascii")
        return moved

    def _find(self, barcode: str) -> Path | None:
        """Return the image of ``barcode``, in an element or on the dock.

        Refused if it is at two places, which is looked for where it is not noted, or not found
        where it was.
        """
        check_barcode(barcode)
        with contextlib.suppress(OSError, ValueError):
            place = (self._last / barcode).read_text("ascii")
            parent = self._dock if place == self._dock.name else self._folder / place
            if (parent / f"{barcode}{IMAGE_SUFFIX}").exists():
                return parent / f"{barcode}{IMAGE_SUFFIX}"
        found = holding(self._all_folders(), f"{barcode}{IMAGE_SUFFIX}")
        if len(found) > 1:
            places = " and in ".join(image.parent.name for image in found)
            raise Refused(
                f"The volume {barcode} is in {places}.",
                remedy="find out which is the true one, and move the other out of the library",
                volume=barcode,
            )
        return found[0] if found else None

    def _find_inside(self, barcode: str) -> Path:
        image = self._find(barcode)
        if image is None or image.parent == self._dock:
            raise _absent(barcode)
        return image

    def _check_reachable(self, image: Path, bay: Bay) -> None:
        """Raise unless the robot can bring ``image`` to ``bay`` and has a slot to put it back."""
        for other in self._bays:
            if image.parent == other.folder != bay.folder:
                other.check_alive()
                raise DriveBusy(
                    f"The volume {image.stem} is in drive {other.number}.", volume=image.stem
                )
        if str(image.parent) in self._doors and not self._free_slots(1):
            raise _no_slot(f"for {image.stem}")

    def _free_slots(self, wanted: int) -> list[Path]:
        """Return up to ``wanted`` empty slots; as many more stay for the volumes in drives."""
        loaded = sum(bay.image() is not None for bay in self._bays)
        empty = list(islice(self._empty_slots(), loaded + wanted))
        return empty[: max(0, len(empty) - loaded)]

    def _empty_slots(self) -> Iterator[Path]:
        """Yield the empty slots, beginning where the last search found the first of them."""
        first = self._first_empty
        order = chain(range(first, len(self._slots)), range(first))
        empty = (n for n in order if not images_in(Path(self._slots[n])))
        for place, number in enumerate(empty):
            if place == 0:
                self._first_empty = number
            yield Path(self._slots[number])

    def _free_door(self) -> Path:
        for door in map(Path, self._doors):
            if not images_in(door):
                return door
        raise Refused(
            "All import/export slots are taken.", remedy="admit or export the volumes in them"
        )

    def _put_back(self, bay: Bay) -> None:
        """Put the volume in a drive where it came from, or where that is taken, elsewhere."""
        image = bay.image()
        if image is None:
            return
        home = self._homes.pop(bay.number, None)
        if home is None or str(home) in self._doors or images_in(home):
            home = next(self._empty_slots(), None)
        if home is None:
            raise _no_slot(f"for {image.stem} in drive {bay.number}")
        self._move(image, home)

    def _forget(self, drive: int) -> None:
        if mount := self._mounts.pop(drive, None):
            mount.close()


def _absent(barcode: str) -> VolumeAbsent:
    return VolumeAbsent(
        f"The volume {barcode} is not in the library.", remedy="recall it", volume=barcode
    )


def _no_slot(what: str) -> Refused:
    return Refused(f"No storage slot is free {what}.", remedy="export volumes to make room")
