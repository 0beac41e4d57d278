"""A folder of files as a store."""

import contextlib
import errno
import functools
import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from restore_lib.errors import (
    ConfigError,
    DiskFull,
    ObjectUnreadable,
    Refused,
    StoreUnavailable,
    TapeflowError,
)
from restore_lib.model.clock import Clock, SystemClock
from restore_lib.model.objects import StoredObject, display_key
from restore_lib.stores import paths
from restore_lib.stores.descend import open_folder, opened, remove_empty
from restore_lib.stores.flush import can_flush_file_system, flush_file_system
from restore_lib.stores.local_group import LocalGroup
from restore_lib.stores.walking import Bounds, Child, walk

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
_BAD_NAME = {errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENAMETOOLONG, errno.EILSEQ}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


class LocalStore:
    """Regular files below ``root``; keys are their relative paths.

    Symbolic links are neither followed nor listed, so nothing outside of ``root`` is ever read,
    written or removed. ``root`` has to be there, so that an unmounted disk is StoreUnavailable and
    not an empty store: choose a folder below the mount point. Only ``create`` makes it.

    ``put`` writes to a file in ``.tapeflow-tmp``, flushes it to the disk, renames it and flushes
    the folder: when it returns, the object survives a power cut, and a crash at any moment leaves
    the old object or the new one. A ``group`` does each step for all its files. What a crash leaves
    in ``.tapeflow-tmp`` is never listed and is removed by the first ``put`` of a later store
    object, once it is a day old. Of the metadata, the permission bits ("mode") are kept. Files have
    no versions and no content type.
    """

    lists_metadata = True

    def __init__(
        self, name: str, root: Path, *, create: bool = False, clock: Clock | None = None
    ) -> None:
        self.name = name
        self._root = root
        self._clock = clock or SystemClock()
        self._swept = False
        if create:
            with self._mapped(None):
                root.mkdir(parents=True, exist_ok=True)

    def list(
        self, prefix: bytes = b"", *, after: bytes | None = None, until: bytes | None = None
    ) -> Iterator[StoredObject]:
        """Yield the regular files in ascending byte order of their keys, streaming.

        Raises ConfigError for a folder that may not be read: its objects are not gone.
        """
        with self._open_root() as root, contextlib.ExitStack() as held:
            folder, descriptor = None, -1
            walking = walk(functools.partial(self._children, root), Bounds(prefix, after, until))
            for key, name in walking:
                parent = key[: -len(name)]
                try:
                    if parent != folder:
                        held.close()
                        parts = tuple(key.split(b"/")[:-1])
                        folder, descriptor = None, self._existing_folder(root, parts)
                        if descriptor < 0:
                            continue
                        held.callback(os.close, descriptor)
                        folder = parent
                    found = _describe(key, name, descriptor)
                except OSError as error:  # not by ``_mapped``: this is done for each file
                    raise self._translate(error, key) from error
                if found:
                    yield found

    def head(self, key: bytes) -> StoredObject | None:
        """Return size, time and mode of the file ``key``, or None when there is none."""
        parts = paths.split_key(key, self.name)
        with self._open_root() as root, self._mapped(key):
            descriptor = self._existing_folder(root, parts[:-1])
            if descriptor < 0:
                return None
            with opened(descriptor) as parent:
                return _describe(key, parts[-1], parent)

    def open(
        self, key: bytes, *, version: str | None = None
    ) -> contextlib.AbstractContextManager[BinaryIO]:
        """Open the file ``key``; a file that changes before its end is read is ObjectUnreadable."""
        parts = paths.split_key(key, self.name)
        if version is not None:
            raise self._unreadable(key, f"a folder keeps no version {version}")
        descriptor = self._open_file(key, parts)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise self._unreadable(key, "it is not a regular file")
        except BaseException:
            os.close(descriptor)
            raise
        problem = functools.partial(self._unreadable, key)
        return cast("BinaryIO", _OpenFile(descriptor, found, problem))

    def put(
        self,
        key: bytes,
        chunks: Iterable[bytes],
        *,
        size: int,
        sha256: str,
        modified_at: datetime | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        unless: Callable[[], bool] | None = None,
    ) -> None:
        """Write the file ``key`` whole or not at all, with its time and mode.

        Raises DigestMismatch, DiskFull, or ObjectNameRefused where a folder stands in a file's
        place or a file in a folder's.
        """
        paths.split_key(key, self.name)
        with self.group() as group:
            group.add(
                key,
                chunks,
                size=size,
                sha256=sha256,
                modified_at=modified_at,
                content_type=content_type,
                metadata=metadata,
                unless=unless,
            )
            for refusal in group.finish().values():
                raise refusal

    @contextlib.contextmanager
    def group(self) -> Iterator[LocalGroup]:
        """Give a group of files that are flushed together, by their file system if many."""
        with self._open_root() as root, self._open_temp(root) as aside:
            group = LocalGroup(self.name, root, aside, self._clock, self._mapped)
            try:
                yield group
            finally:
                group.abandon()

    def delete(self, key: bytes) -> None:
        """Remove the file ``key`` and the folders it leaves empty; no error when it is gone."""
        parts = paths.split_key(key, self.name)
        with self._open_root() as root, self._mapped(key):
            descriptor = self._existing_folder(root, parts[:-1])
            if descriptor < 0:
                return
            with opened(descriptor) as parent:
                if _describe(key, parts[-1], parent) is None:
                    return
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(parts[-1], dir_fd=parent)
                os.fsync(parent)
            remove_empty(root, parts[:-1])

    def secure(self) -> None:
        """Flush the file system, or where that can't be done alone, all of them."""
        with self._open_root() as root, self._mapped(None):
            if can_flush_file_system():
                flush_file_system(root)
            else:
                os.sync()

    def close(self) -> None:
        """Do nothing: no descriptor outlives a call."""

    def _open_file(self, key: bytes, parts: tuple[bytes, ...]) -> int:
        """Return a descriptor of whatever is at ``key``, for reading."""
        root = self._root_descriptor()
        folder = -1
        try:
            folder = open_folder(root, parts[:-1])
            return os.open(parts[-1], _FILE, dir_fd=folder)
        except OSError as error:
            raise self._unreadable(key, os.strerror(error.errno or 0)) from error
        finally:
            os.close(root)
            if folder >= 0:
                os.close(folder)

    def _root_descriptor(self) -> int:
        try:
            return os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise StoreUnavailable(
                f"The folder {self._root} of store {self.name} is not there.",
                remedy="mount its disk, or create the folder if the store is new",
                store=self.name,
            ) from None
        except OSError as error:
            raise self._translate(error, None) from error

    def _open_root(self) -> contextlib.AbstractContextManager[int]:
        return opened(self._root_descriptor())

    @contextlib.contextmanager
    def _open_temp(self, root: int) -> Iterator[int]:
        with self._mapped(None):
            with contextlib.suppress(FileExistsError):
                os.mkdir(paths.TEMP_DIR, 0o700, dir_fd=root)
            try:
                descriptor = open_folder(root, [paths.TEMP_DIR])
            except NotADirectoryError:
                raise Refused(
                    f"Store {self.name}: {self._root}/{paths.TEMP_DIR.decode()} is not a folder.",
                    remedy="remove what stands there",
                    store=self.name,
                ) from None
        with opened(descriptor):
            if not self._swept:
                self._sweep(descriptor)
                self._swept = True
            yield descriptor

    def _sweep(self, folder: int) -> None:
        now = self._clock.now()
        with self._mapped(None), os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    modified = entry.stat(follow_symlinks=False).st_mtime
                    if paths.is_left_over(os.fsencode(entry.name), modified, now):
                        os.unlink(entry.name, dir_fd=folder)

    def _children(self, root: int, folder: bytes) -> Iterator[Child[bytes]]:
        with self._mapped(folder):
            descriptor = self._existing_folder(root, tuple(folder.split(b"/")[:-1]))
            if descriptor < 0:
                return
            with opened(descriptor), os.scandir(descriptor) as entries:
                for entry in entries:
                    name = os.fsencode(entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        if folder or name != paths.TEMP_DIR:
                            yield Child(name, True, name)
                    elif entry.is_file(follow_symlinks=False):
                        yield Child(name, False, name)

    @staticmethod
    def _existing_folder(root: int, parts: tuple[bytes, ...]) -> int:
        """Return a descriptor of the folder, or -1 when it is not there (any more)."""
        try:
            return open_folder(root, parts)
        except OSError as error:
            if error.errno in _ABSENT:
                return -1
            raise

    def _unreadable(self, key: bytes, problem: str) -> ObjectUnreadable:
        shown = display_key(key)
        return ObjectUnreadable(
            f"{shown} can't be read from store {self.name}: {problem}.", store=self.name, key=shown
        )

    @contextlib.contextmanager
    def _mapped(self, key: bytes | None) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._translate(error, key) from error

    def _translate(self, error: OSError, key: bytes | None) -> TapeflowError:
        shown = display_key(key or b"")
        problem = os.strerror(error.errno or 0)
        where = f"{self._root}/{shown}" if key else str(self._root)
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return DiskFull(f"Store {self.name} is full: {where}: {problem}.", store=self.name)
        if key is not None and error.errno in _BAD_NAME:
            return paths.name_refused(
                key, self.name, f"clashes with what is there, or its disk refuses it ({problem})"
            )
        if error.errno in _DENIED:
            return ConfigError(
                f"Store {self.name} may not use {where}: {problem}.",
                remedy="give the user that runs Tapeflow read and write permission there",
                store=self.name,
            )
        if error.errno in {errno.EXDEV, errno.EFBIG}:
            return Refused(
                f"Store {self.name} can't hold {where}: {problem}.",
                remedy="make the file system mounted there a store of its own",
                store=self.name,
            )
        return StoreUnavailable(f"Store {self.name}: {where}: {problem}.", store=self.name)


class _OpenFile(io.RawIOBase):
    """A regular file while it is read, and its descriptor, which is closed with it.

    A read that fails raises what ``problem`` makes of why.
    """

    def __init__(
        self,
        descriptor: int,
        before: os.stat_result,
        problem: Callable[[str], ObjectUnreadable],
    ) -> None:
        self._descriptor = descriptor
        self._before = before
        self._problem = problem

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._descriptor)

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            return self.readall()
        try:
            data = os.read(self._descriptor, size)
            if size and not data:
                self._check_unchanged()
        except OSError as error:
            raise self._problem(os.strerror(error.errno or 0)) from error
        return data

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def _check_unchanged(self) -> None:
        before, now = self._before, os.fstat(self._descriptor)
        if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise self._problem("it changed while it was read")


def _describe(key: bytes, name: bytes, parent: int) -> StoredObject | None:
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    microseconds = status.st_mtime_ns // 1000
    return StoredObject(
        key=key,
        size=status.st_size,
        modified_at=paths.from_microseconds(microseconds),
        etag=f"{microseconds:x}",
        metadata={"mode": f"{stat.S_IMODE(status.st_mode):04o}"},
    )
