"""A file that is not visible yet: written aside, to be given its name when it is whole."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from typing import Self

from restore_lib.stores import paths
from restore_lib.stores.checking import compare

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITE_BEHIND = 8 << 20
_CHUNK = 1 << 20

Mapped = Callable[[bytes | None], AbstractContextManager[None]]
"""Turns the OSError of a key into the store's error."""


class Aside:
    """An unfinished file in ``folder``; ``descriptor`` is -1 once it need not be open."""

    def __init__(self, folder: int, name: bytes) -> None:
        self._folder = folder
        self._name = name
        self.descriptor = os.open(name, _NEW, 0o666, dir_fd=folder)
        self._begun = self._done = 0

    def write(self, offset: int, data: bytes) -> None:
        """Write the whole of ``data`` at byte ``offset``.

        The disk begins with what was written in a row, so that the flush at the end has less to
        wait for.
        """
        if offset != self._done:
            self._write_behind(1)
            self._begun = offset
        self._done = offset + len(data)
        rest = memoryview(data)
        while rest:
            rest = rest[os.pwrite(self.descriptor, rest, self._done - len(rest)) :]
        self._write_behind(_WRITE_BEHIND)

    def finish(self, modified_at: datetime | None, mode: int | None) -> None:
        """Give it its mode and time."""
        if mode is not None:
            os.fchmod(self.descriptor, mode)
        if modified_at is not None:
            nanoseconds = paths.to_microseconds(modified_at) * 1000
            os.utime(self.descriptor, ns=(nanoseconds, nanoseconds))

    def leave(self) -> None:
        """Close a file that is flushed with its file system."""
        self._write_behind(_WRITE_BEHIND // 8)
        self.close()

    def close(self) -> None:
        """Close it."""
        descriptor, self.descriptor = self.descriptor, -1
        os.close(descriptor)

    def name(self, parent: int, name: bytes) -> None:
        """Give it its name in a folder, in place of what stands there."""
        os.rename(self._name, name, src_dir_fd=self._folder, dst_dir_fd=parent)
        self._name = b""

    def drop(self) -> None:
        """Remove it, unless it has its name."""
        if self.descriptor >= 0:
            with suppress(OSError):
                self.close()
        if self._name:
            with suppress(OSError):
                os.unlink(self._name, dir_fd=self._folder)

    def _write_behind(self, least: int) -> None:
        if (size := self._done - self._begun) >= least:
            os.posix_fadvise(self.descriptor, self._begun, size, os.POSIX_FADV_DONTNEED)
            self._begun = self._done


class LocalDraft:
    """A ``stores.base.Draft``: an unfinished file, hashed as far as it came in order.

    A context manager, which removes the file unless it was taken.
    """

    def __init__(self, file: Aside, key: bytes, mapped: Mapped) -> None:
        self._file: Aside | None = file
        self._key = key
        self._mapped = mapped
        self._digest = hashlib.sha256()
        self._hashed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.drop()

    def write(self, offset: int, data: bytes) -> None:
        """Put ``data`` at byte ``offset``."""
        with self._mapped(self._key):
            self._open.write(offset, data)
        if offset < self._hashed:
            self._digest, self._hashed = hashlib.sha256(), 0
        if offset == self._hashed:
            self._digest.update(data)
            self._hashed += len(data)

    def __iter__(self) -> Iterator[bytes]:
        return self._read(0)

    def taken(self, *, size: int, sha256: str) -> Aside:
        """Return the file, which is somebody else's from now on.

        Raises DigestMismatch unless it is the whole object; what came out of order is read again.
        """
        for chunk in self._read(self._hashed):
            self._digest.update(chunk)
            self._hashed += len(chunk)
        found = self._digest.hexdigest()
        compare(self._hashed, found, key=self._key, size=size, sha256=sha256)
        file, self._file = self._open, None
        return file

    @property
    def _open(self) -> Aside:
        if self._file is None:
            msg = "This draft was added."
            raise ValueError(msg)
        return self._file

    def _read(self, offset: int) -> Iterator[bytes]:
        while True:
            with self._mapped(self._key):
                chunk = os.pread(self._open.descriptor, _CHUNK, offset)
            if not chunk:
                return
            offset += len(chunk)
            yield chunk
