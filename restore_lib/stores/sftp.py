"""A folder on an SSH server as a store."""

import contextlib
import functools
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

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
from restore_lib.stores import sftp_protocol as sftp
from restore_lib.stores.checking import checked
from restore_lib.stores.one_by_one import OneByOne
from restore_lib.stores.sftp_connection import LOST, Server, SftpConnection
from restore_lib.stores.sftp_protocol import Attributes, BlockWriter, SftpChannel, SftpStatus
from restore_lib.stores.streams import sequential
from restore_lib.stores.walking import Bounds, Child, walk

_LATEST_TIME = 0xFFFFFFFF
_PUBLISH_ATTEMPTS = 10


class SftpStore:
    """Regular files below ``root`` on an SFTP server; keys are their relative paths, in bytes.

    The server's host key has to be in ``known_hosts``, else HostKeyRefused. Symbolic links below
    ``root`` are neither followed nor listed; SFTP can't keep someone who works on the server at the
    same moment from putting one in the way. ``root`` has to be there, so that an unmounted disk is
    StoreUnavailable and not an empty store. A lost connection is StoreUnavailable; the next call
    makes a new one.

    ``put`` writes to a file in ``.tapeflow-tmp``, flushes it to the server's disk where the server
    offers that, and renames it: a crash on either side leaves the old object or the new one. Where
    the server offers no atomic replacement, replacing is Refused. SFTP can't flush a folder: in a
    power cut on the server, a file system without a journal may forget the newest names. What a
    crash leaves in ``.tapeflow-tmp`` is never listed and is removed by the first ``put`` of a later
    store object, once it is a day old. Times are kept in whole seconds, of the metadata the
    permission bits ("mode"). Files have no versions and no content type.
    """

    lists_metadata = True

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        user: str,
        root: str,
        *,
        known_hosts: Path,
        key_file: Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self._root = root.rstrip("/").encode() or b"/"
        self._temp = self._path(paths.TEMP_DIR)
        self._connection = SftpConnection(name, Server(host, port, user, known_hosts, key_file))
        self._clock = clock or SystemClock()
        self._temp_ready = False

    def list(
        self, prefix: bytes = b"", *, after: bytes | None = None, until: bytes | None = None
    ) -> Iterator[StoredObject]:
        """Yield the regular files in ascending byte order of their keys, folder by folder.

        Raises ConfigError for a folder that may not be read: its objects are not gone.
        """
        for key, attributes in walk(self._children, Bounds(prefix, after, until)):
            yield _describe(key, attributes)

    def head(self, key: bytes) -> StoredObject | None:
        """Return size, time and mode of the file ``key``, or None when there is none."""
        parts = paths.split_key(key, self.name)
        with self._connection.channel() as channel, self._mapped(key):
            found = self._find(channel, parts)
        return _describe(key, found) if found else None

    @contextlib.contextmanager
    def open(self, key: bytes, *, version: str | None = None) -> Iterator[BinaryIO]:
        """Open the file ``key``; a file that changes before its end is read is ObjectUnreadable."""
        parts = paths.split_key(key, self.name)
        if version is not None:
            raise self._unreadable(key, f"a folder keeps no version {version}")
        mapped = functools.partial(self._reading, key)
        with self._connection.channel() as channel:
            with mapped():
                if self._find(channel, parts) is None:
                    raise self._unreadable(key, "there is no such file")
                handle = channel.open_file(self._path(key))
            try:
                with mapped():
                    before = channel.fstat(handle)
                with sequential(
                    functools.partial(_take, channel.read_all(handle, before.size), bytearray()),
                    mapped,
                    functools.partial(self._check_unchanged, channel, handle, key, before),
                ) as stream:
                    yield stream
            finally:
                _tidy(channel, handle)

    def put(
        self,
        key: bytes,
        chunks: Iterable[bytes],
        *,
        size: int,
        sha256: str,
        modified_at: datetime | None = None,
        content_type: str | None = None,  # noqa: ARG002 - the protocol's; files have none
        metadata: Mapping[str, str] | None = None,
        unless: Callable[[], bool] | None = None,
    ) -> None:
        """Write the file ``key`` whole or not at all, with its time and mode.

        Raises DigestMismatch, DiskFull where the server tells its free space, ObjectNameRefused
        where a folder stands in a file's place or a file in a folder's.
        """
        parts = paths.split_key(key, self.name)
        temp = self._temp + b"/" + paths.temp_name(self._clock.now())
        with self._connection.channel() as channel:
            with self._mapped(key):
                self._check_place(channel, key, parts)
                handle = self._create_temp(channel, temp)
            try:
                writer = BlockWriter(channel, handle)
                for chunk in checked(chunks, key=key, size=size, sha256=sha256):
                    with self._mapped(key), self._room(channel, size):
                        writer.write(chunk)
                with self._mapped(key), self._room(channel, size):
                    writer.finish()
                    _finish(channel, handle, modified_at, paths.mode_of(metadata))
                if unless is not None and unless():
                    _tidy(channel, None, temp)
                    return
                with self._mapped(key):
                    self._publish(channel, temp, key, parts)
            except BaseException:
                _tidy(channel, handle, temp)
                raise

    def group(self) -> contextlib.AbstractContextManager[OneByOne]:
        """Give a group whose objects are put one after the other."""
        return OneByOne.of(self)

    def delete(self, key: bytes) -> None:
        """Remove the file ``key`` and the folders it leaves empty; no error when it is gone."""
        parts = paths.split_key(key, self.name)
        with self._connection.channel() as channel, self._mapped(key):
            if self._find(channel, parts) is None:
                return
            with _Tolerating(sftp.NO_SUCH_FILE):
                channel.remove_file(self._path(key))
            with _Tolerating(sftp.NO_SUCH_FILE, sftp.FAILURE, sftp.PERMISSION_DENIED):
                for depth in range(len(parts) - 1, 0, -1):
                    channel.remove_folder(self._path(b"/".join(parts[:depth])))

    def secure(self) -> None:
        """Do nothing: a file is flushed before it has its name; the protocol flushes no folders."""

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _path(self, key: bytes) -> bytes:
        return self._root.rstrip(b"/") + b"/" + key

    def _children(self, folder: bytes) -> Iterator[Child[Attributes]]:
        with self._connection.channel() as channel, self._mapped(folder):
            if not folder:
                self._check_root(channel)
            with _Tolerating(sftp.NO_SUCH_FILE):
                for name, attributes in channel.list_folder(self._path(folder)):
                    if attributes.is_file:
                        yield Child(name, False, attributes)
                    elif attributes.is_dir and (folder or name != paths.TEMP_DIR):
                        yield Child(name, True, attributes)

    def _check_root(self, channel: SftpChannel) -> None:
        found = channel.stat(self._root)
        if found is None or not found.is_dir:
            raise StoreUnavailable(
                f"The folder {display_key(self._root)} of store {self.name} is not there.",
                remedy="mount its disk on the server, or create the folder if the store is new",
                store=self.name,
            )

    def _look(self, channel: SftpChannel, parts: Sequence[bytes]) -> Sequence[Attributes | None]:
        found = channel.lstat_path(self._root.rstrip(b"/"), parts)
        if found[0] is None:
            self._check_root(channel)
        return found

    def _find(self, channel: SftpChannel, parts: Sequence[bytes]) -> Attributes | None:
        found = self._look(channel, parts)[-1]
        return found if found and found.is_file else None

    def _check_place(
        self, channel: SftpChannel, key: bytes, parts: Sequence[bytes]
    ) -> Sequence[Attributes | None]:
        """Return what is on the way to ``key``; raise when it can't be written."""
        *folders, place = self._look(channel, parts)
        if any(folder and not folder.is_dir for folder in folders):
            raise paths.name_refused(key, self.name, "needs a folder where a file or link stands")
        if place and place.is_dir:
            raise paths.name_refused(key, self.name, "is that of a folder there")
        if place and not channel.offers(sftp.POSIX_RENAME):
            raise Refused(
                f"Store {self.name} can't replace {display_key(key)} safely.",
                remedy=f"use a server that offers {sftp.POSIX_RENAME.decode()}, as OpenSSH does, "
                "or delete the object first",
                store=self.name,
            )
        return folders

    def _create_temp(self, channel: SftpChannel, temp: bytes) -> bytes:
        if not self._temp_ready:
            with _Tolerating(sftp.FAILURE):
                channel.make_folder(self._temp, 0o700)
            folder = self._look(channel, [paths.TEMP_DIR])[0]
            if folder is None or not folder.is_dir:
                raise Refused(
                    f"Store {self.name}: {display_key(self._temp)} is not a folder.",
                    remedy="remove what stands there",
                    store=self.name,
                )
            self._sweep(channel)
        self._temp_ready = False
        handle = channel.create_file(temp)
        self._temp_ready = True
        return handle

    def _sweep(self, channel: SftpChannel) -> None:
        now = self._clock.now()
        for name, attributes in tuple(channel.list_folder(self._temp)):
            if paths.is_left_over(name, attributes.mtime, now):
                with _Tolerating(sftp.NO_SUCH_FILE):
                    channel.remove_file(self._temp + b"/" + name)

    def _publish(
        self, channel: SftpChannel, temp: bytes, key: bytes, parts: Sequence[bytes]
    ) -> None:
        """Move the finished file to its name; another process may be removing empty folders."""
        for _ in range(_PUBLISH_ATTEMPTS):
            with _Tolerating(sftp.NO_SUCH_FILE):
                channel.rename(temp, self._path(key))
                return
            with _Tolerating(sftp.NO_SUCH_FILE, sftp.FAILURE):
                for depth, folder in enumerate(self._check_place(channel, key, parts), 1):
                    if folder is None:
                        channel.make_folder(self._path(b"/".join(parts[:depth])))
        raise StoreUnavailable(
            f"Store {self.name}: the folder for {display_key(key)} can't be made, or vanishes.",
            store=self.name,
        )

    def _check_unchanged(
        self, channel: SftpChannel, handle: bytes, key: bytes, before: Attributes
    ) -> None:
        if channel.fstat(handle) != before:
            raise self._unreadable(key, "it changed while it was read")

    def _unreadable(self, key: bytes, problem: str) -> ObjectUnreadable:
        shown = display_key(key)
        return ObjectUnreadable(
            f"{shown} can't be read from store {self.name}: {problem}.", store=self.name, key=shown
        )

    @contextlib.contextmanager
    def _room(self, channel: SftpChannel, size: int) -> Iterator[None]:
        """Tell a full disk, which SFTP calls a failure like any other, by its free space."""
        try:
            yield
        except SftpStatus as status:
            if status.code != sftp.FAILURE or not channel.offers(sftp.STATVFS):
                raise
            if channel.free_bytes(self._temp) > size:
                raise
            raise DiskFull(
                f"Store {self.name} is full: {display_key(self._root)}.", store=self.name
            ) from status

    @contextlib.contextmanager
    def _reading(self, key: bytes) -> Iterator[None]:
        with self._mapped(key):
            try:
                yield
            except SftpStatus as status:
                raise self._unreadable(key, f"{status}") from status

    @contextlib.contextmanager
    def _mapped(self, key: bytes) -> Iterator[None]:
        try:
            yield
        except (SftpStatus, *LOST) as error:
            raise self._translate(error, key) from error

    def _translate(self, error: Exception, key: bytes) -> TapeflowError:
        where = display_key(self._path(key))
        code = error.code if isinstance(error, SftpStatus) else None
        if code == sftp.BAD_MESSAGE:
            return paths.name_refused(key, self.name, f"is refused by the server ({error})")
        if code == sftp.PERMISSION_DENIED:
            return ConfigError(
                f"Store {self.name} may not use {where}: {error}.",
                remedy="give the user that logs in read and write permission there",
                store=self.name,
            )
        problem = str(error) or type(error).__name__
        return StoreUnavailable(f"Store {self.name}: {where}: {problem}.", store=self.name)


def _describe(key: bytes, attributes: Attributes) -> StoredObject:
    return StoredObject(
        key=key,
        size=attributes.size,
        modified_at=paths.from_microseconds(attributes.mtime * 1_000_000),
        etag=f"{attributes.mtime:x}",
        metadata={"mode": f"{stat.S_IMODE(attributes.mode):04o}"},
    )


def _finish(
    channel: SftpChannel, handle: bytes, modified_at: datetime | None, mode: int | None
) -> None:
    seconds = None
    if modified_at is not None:
        seconds = min(max(paths.to_microseconds(modified_at) // 1_000_000, 0), _LATEST_TIME)
    channel.set_attributes(handle, mode=mode, mtime=seconds)
    if channel.offers(sftp.FSYNC):
        channel.fsync(handle)
    channel.close_file(handle)


def _take(blocks: Iterator[bytes], rest: bytearray, count: int) -> bytes:
    if not rest:
        rest += next(blocks, b"")
    data = bytes(rest[:count])
    del rest[:count]
    return data


class _Tolerating(contextlib.AbstractContextManager[None]):
    """Ends its block at a refusal with one of ``codes``, without an error."""

    def __init__(self, *codes: int) -> None:
        self._codes = codes

    def __exit__(self, *raised: object) -> bool:
        return any(isinstance(it, SftpStatus) and it.code in self._codes for it in raised)


def _tidy(channel: SftpChannel, handle: bytes | None, temp: bytes | None = None) -> None:
    """Close ``handle`` and remove ``temp`` as far as the server still answers."""
    if channel.broken:
        return
    with contextlib.suppress(*LOST):
        if handle is not None:
            with contextlib.suppress(SftpStatus):
                channel.close_file(handle)
        if temp is not None:
            with contextlib.suppress(SftpStatus):
                channel.remove_file(temp)
