"""A virtual drive's folder: its fence, its lock, and whether it is dead."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from restore_lib.errors import LeaseLost, LibraryOffline
from restore_lib.library.places import images_in, locked

_LOCK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Fence:
    """The highest token that a drive has seen, and how often it was loaded."""

    token: int
    loads: int


class Bay:
    """The folder of drive ``number``.

    What is decided under ``locked`` stays true until it ends, over all processes: so no write of an
    old holder comes in between a new holder's claim and its work.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder
        self.number = number
        self._lock_path = str(folder / ".lock")
        self._fence_path = str(folder / ".fence")
        self._dead_path = str(folder / ".dead")

    def create(self) -> None:
        """Set the folder up where it is missing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / ".lock").touch()

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Hold the drive against all other processes; LibraryOffline when it stays busy."""
        return locked(self._lock_path, f"drive {self.number}", _LOCK_SECONDS)

    def fence(self) -> Fence:
        """Return the newest claim on the drive."""
        try:  # asked for with each block, so by the shortest way
            handle = os.open(self._fence_path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                token, loads = os.read(handle, 100).split()
            finally:
                os.close(handle)
            return Fence(int(token), int(loads))
        except FileNotFoundError:
            return Fence(0, 0)
        except (OSError, ValueError) as error:
            raise LibraryOffline(
                f"Drive {self.number} does not know its holder: {self.folder / '.fence'}: {error}.",
                remedy="stop all Tapeflow tasks, remove the file, start them again",
            ) from error

    def claim(self, token: int) -> Fence:
        """Shut out all tokens older than ``token``, and earlier mounts under it too.

        LeaseLost when the drive has seen a newer one, LibraryOffline when the drive is dead.
        """
        seen = self.fence()
        if token < seen.token:
            raise LeaseLost(f"Drive {self.number} has a newer holder (token {seen.token}).")
        self.check_alive()
        claimed = Fence(token, seen.loads + 1)
        fresh = self.folder / ".fence.new"
        try:
            fresh.write_text(f"{claimed.token} {claimed.loads}\n", encoding="ascii")
            fresh.replace(self.folder / ".fence")
        except OSError as error:
            raise LibraryOffline(
                f"Drive {self.number} can't be claimed: {fresh}: {error.strerror}.",
                remedy="check the permissions and the disk under the virtual library",
            ) from error
        return claimed

    def check_alive(self) -> None:
        """Raise LibraryOffline when the drive is dead."""
        if os.path.exists(self._dead_path):  # noqa: PTH110 - as above
            raise LibraryOffline(
                f"Drive {self.number} is dead.",
                remedy=f"repair it, then `tapeflow library repair-drive {self.number}`",
            )

    def die(self) -> None:
        """Stop answering until ``repair``."""
        (self.folder / ".dead").touch()

    def repair(self) -> None:
        """Answer again; a volume that is stuck in the drive comes free with it."""
        (self.folder / ".dead").unlink(missing_ok=True)

    def image(self) -> Path | None:
        """Return the image of the volume in the drive; LibraryOffline when there are two."""
        return single_image(self.folder)


def single_image(folder: Path) -> Path | None:
    """Return the one image in a place, None when it is empty; LibraryOffline when it holds more."""
    images = images_in(folder)
    if len(images) > 1:
        names = " and ".join(image.stem for image in images)
        raise LibraryOffline(
            f"{folder} holds {names}: a place has room for one volume.",
            remedy="move all but one of them to an empty slot's folder",
        )
    return images[0] if images else None
