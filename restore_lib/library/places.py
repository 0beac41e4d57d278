"""The folders that a virtual library's places are, and the images in them."""

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from restore_lib.errors import LibraryOffline, Refused, VolumeAbsent
from restore_lib.library.faults import faults_path

IMAGE_SUFFIX = ".tap"

_BARCODE = re.compile(r"[A-Z0-9][A-Z0-9-]{0,31}")
_POLL_SECONDS = 0.005


def check_barcode(barcode: str) -> None:
    """Raise Refused unless ``barcode`` can stand on a cartridge: A-Z, 0-9 and hyphens, 1 to 32."""
    if not _BARCODE.fullmatch(barcode):
        raise Refused(
            f"{barcode!r} is not a barcode.",
            remedy="use 1 to 32 of A-Z, 0-9 and -, a letter or digit first",
        )


def images_in(folder: Path) -> list[Path]:
    """Return the tape images in ``folder`` by name; LibraryOffline when it can't be read."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208  a Path for each name is slow here
    except OSError as error:
        raise LibraryOffline(
            f"The virtual library's folder {folder} can't be read: {error.strerror}.",
            remedy="create the library with `tapeflow library create`, or correct [library] path",
        ) from error
    return [folder / n for n in names if n.endswith(IMAGE_SUFFIX) and not n.startswith(".")]


def move_image(image: Path, folder: Path) -> Path:
    """Move ``image`` into ``folder`` at one instant, its faults with it, and return its new path.

    After a crash the image is at one of the two places, with its faults; what is left of them at
    the other one concerns no image, and is removed by the next move there. Raises VolumeAbsent when
    the image has gone meanwhile.
    """
    target = folder / image.name
    here, there = faults_path(image), faults_path(target)
    try:
        there.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            there.hardlink_to(here)
        image.rename(target)
        here.unlink(missing_ok=True)
        _sync_folders(image.parent, folder)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not image.exists():
            raise VolumeAbsent(
                f"The volume {image.stem} is no longer in {image.parent.name}.", volume=image.stem
            ) from error
        raise LibraryOffline(
            f"The volume {image.stem} can't be moved from {image.parent} to {folder}: "
            f"{error.strerror}.",
            remedy="check permissions, and that all of the virtual library is on one file system",
        ) from error
    return target


def holding(folders: Iterable[str], name: str) -> list[Path]:
    """Return the paths of the files called ``name`` in ``folders``, of which there may be many."""
    return [Path(folder, name) for folder in folders if os.access(f"{folder}/{name}", os.F_OK)]


def create_blank(folder: Path, barcode: str) -> None:
    """Put a blank volume into ``folder``."""
    try:
        (folder / f"{barcode}{IMAGE_SUFFIX}").open("xb").close()
    except OSError as error:
        raise LibraryOffline(
            f"No blank volume can be put into {folder}: {error.strerror}.",
            remedy="check the permissions and the disk under the virtual library",
        ) from error
    _sync_folders(folder)


@contextlib.contextmanager
def locked(path: Path | str, owner: str, timeout: float) -> Iterator[None]:
    """Hold the lock file at ``path``, waiting up to ``timeout`` seconds for ``owner`` to be free.

    The lock ends with the process that holds it, however that ends. Raises LibraryOffline when it
    is not free in time, or when there is no such lock file.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise LibraryOffline(f"The {owner} does not answer: {path}: {error.strerror}.") from error
    try:
        deadline = time.monotonic() + timeout
        while not _try_lock(handle):
            if time.monotonic() > deadline:
                raise LibraryOffline(f"The {owner} has been busy for {timeout:g} seconds.")
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync_folders(*folders: Path) -> None:
    for folder in folders:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
