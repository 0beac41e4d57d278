"""Files on their way into a folder: written aside, flushed together, then given their names."""

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from restore_lib.errors import DigestMismatch, ObjectNameRefused, StoreUnavailable
from restore_lib.model.clock import Clock
from restore_lib.model.objects import display_key
from restore_lib.stores import paths
from restore_lib.stores.aside import Aside, LocalDraft, Mapped
from restore_lib.stores.checking import checked
from restore_lib.stores.descend import open_folder, opened
from restore_lib.stores.flush import can_flush_file_system, flush_file_system

_FEW = 8
"""So many files are flushed one by one; more of them with all of their file system."""
_NAMING_ATTEMPTS = 10
_DRAFTS = 4
"""Drafts may take one part of so many of the room that is left."""


@dataclass(frozen=True, slots=True)
class _Added:
    """A file that is complete but for its name."""

    key: bytes
    parts: tuple[bytes, ...]
    unless: Callable[[], bool] | None
    file: Aside


class LocalGroup:
    """A ``stores.base.Group`` of files below ``root``.

    On the disk, the content of every file comes before its name, and all names have come when
    ``finish`` returns.
    """

    def __init__(
        self,
        store: str,
        root: int,
        aside: int,
        clock: Clock,
        mapped: Mapped,
    ) -> None:
        """``root`` and ``aside`` are descriptors: of the store, and of its unfinished files."""
        self._store = store
        self._root = root
        self._aside = aside
        self._clock = clock
        self._mapped = mapped
        self._waiting: list[_Added] = []
        self._drafted = 0
        self._together = False
        self._folder: tuple[bytes, ...] | None = None
        self._held = contextlib.ExitStack()
        self._parent = -1

    def add(
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
        """Write a file aside, whole, with its time and mode; a draft of this group is one."""
        parts = paths.split_key(key, self._store)
        if isinstance(chunks, LocalDraft):
            file = chunks.taken(size=size, sha256=sha256)
        else:
            file = self._written(key, checked(chunks, key=key, size=size, sha256=sha256))
        try:
            with self._mapped(key):
                file.finish(modified_at, paths.mode_of(metadata))
                if len(self._waiting) >= _FEW:
                    self._leave(file)
        except BaseException:
            file.drop()
            raise
        self._waiting.append(_Added(key, parts, unless, file))

    def draft(self, key: bytes, size: int) -> LocalDraft | None:
        """Give an unfinished file that takes content in any order, if there is room for it.

        What a killed process leaves so takes a part of the room, not all of it.
        """
        paths.split_key(key, self._store)
        with self._mapped(key):
            disk = os.fstatvfs(self._root)
        if self._drafted + size > disk.f_bavail * disk.f_frsize // _DRAFTS:
            return None
        self._drafted += size
        return LocalDraft(self._new(key), key, self._mapped)

    def finish(self) -> dict[bytes, ObjectNameRefused | DigestMismatch]:
        """Give all files their names, durably; return those that are refused, by key.

        Refused is a name where a folder stands in a file's place or a file in a folder's.
        """
        refused: dict[bytes, ObjectNameRefused | DigestMismatch] = {}
        named: set[tuple[bytes, ...]] = set()
        self._flush_files()
        for one in self._waiting:
            try:
                with self._mapped(one.key):
                    if self._name(one):
                        named.add(one.parts[:-1])
            except ObjectNameRefused as error:
                refused[one.key] = error
        self._flush_folders(named)
        self.abandon()
        return refused

    def abandon(self) -> None:
        """Remove what has no name."""
        for one in self._waiting:
            one.file.drop()
        self._waiting.clear()
        self._together = False
        self._let_go()

    def _new(self, key: bytes) -> Aside:
        with self._mapped(key):
            return Aside(self._aside, paths.temp_name(self._clock.now()))

    def _written(self, key: bytes, chunks: Iterable[bytes]) -> Aside:
        file = self._new(key)
        try:
            done = 0
            for chunk in chunks:
                with self._mapped(key):
                    file.write(done, chunk)
                done += len(chunk)
        except BaseException:
            file.drop()
            raise
        return file

    def _leave(self, file: Aside) -> None:
        """Close a file that is flushed with its file system, or at once where that can't be."""
        self._together = can_flush_file_system()
        if not self._together:
            os.fsync(file.descriptor)
        file.leave()

    def _flush_files(self) -> None:
        with self._mapped(None):
            if self._together:
                flush_file_system(self._root)
            for one in self._waiting:
                if one.file.descriptor >= 0:
                    if not self._together:
                        os.fsync(one.file.descriptor)
                    one.file.close()

    def _flush_folders(self, folders: Iterable[tuple[bytes, ...]]) -> None:
        """Flush folders; one that has vanished since has nothing to keep."""
        with self._mapped(None):
            if self._together:
                flush_file_system(self._root)
                return
            for folder in folders:
                with (
                    suppress(FileNotFoundError, NotADirectoryError),
                    opened(open_folder(self._root, folder)) as descriptor,
                ):
                    os.fsync(descriptor)

    def _name(self, one: _Added) -> bool:
        """Move a file to its name, but for what stands there; tell whether it has it.

        Another process may be removing empty folders.
        """
        for _ in range(_NAMING_ATTEMPTS):
            with suppress(FileNotFoundError):
                self._enter(one.parts[:-1])
                if one.unless is not None and self._stands(one.parts[-1]) and one.unless():
                    return False
                one.file.name(self._parent, one.parts[-1])
                return True
            self._let_go()
        shown = display_key(one.key)
        raise StoreUnavailable(
            f"Store {self._store}: the folder for {shown} vanishes while it is used.",
            remedy="see what else removes files in the store; the task goes on where it was",
            store=self._store,
            key=shown,
        )

    def _stands(self, name: bytes) -> bool:
        try:
            os.lstat(name, dir_fd=self._parent)
        except FileNotFoundError:
            return False
        return True

    def _enter(self, folder: tuple[bytes, ...]) -> None:
        """Hold ``folder`` open; it is made when it is not there."""
        if folder == self._folder:
            return
        self._let_go()
        durable = not self._together
        self._parent = open_folder(self._root, folder, create=True, durable=durable)
        self._held.callback(os.close, self._parent)
        self._folder = folder

    def _let_go(self) -> None:
        self._folder = None
        self._held.close()
