"""Folders below a root, reached part by part so that no symbolic link is ever followed."""

import contextlib
import os
from collections.abc import Iterator, Sequence

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def opened(descriptor: int) -> Iterator[int]:
    """Close ``descriptor`` at the end."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_folder(
    root: int, parts: Sequence[bytes], *, create: bool = False, durable: bool = True
) -> int:
    """Return a new descriptor of the folder ``parts`` below the folder ``root``.

    With ``create``, missing folders are made, and flushed if ``durable``. Raises the OSError of the
    first part that is missing, or is a file or a link instead of a folder.
    """
    current = os.dup(root)
    for part in parts:
        parent = current
        try:
            current = os.open(part, _FOLDER, dir_fd=parent)
        except FileNotFoundError:
            if not create:
                raise
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, dir_fd=parent)
                if durable:
                    os.fsync(parent)
            current = os.open(part, _FOLDER, dir_fd=parent)
        finally:
            os.close(parent)
    return current


def remove_empty(root: int, parts: Sequence[bytes]) -> None:
    """Remove the folder ``parts`` below ``root`` and those above it, as far as they are empty."""
    for depth in range(len(parts), 0, -1):
        try:
            with opened(open_folder(root, parts[: depth - 1])) as parent:
                os.rmdir(parts[depth - 1], dir_fd=parent)
        except OSError:
            return
