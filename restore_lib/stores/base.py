"""The protocol that every store keeps, and that one conformance suite tests."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import BinaryIO, Protocol, Required, TypedDict, Unpack

from restore_lib.errors import DigestMismatch, ObjectNameRefused
from restore_lib.model.objects import StoredObject


class Content(TypedDict, total=False):
    """What is told of an object that is put; ``size`` is in bytes, ``sha256`` hex."""

    size: Required[int]
    sha256: Required[str]
    modified_at: datetime | None
    content_type: str | None
    metadata: Mapping[str, str] | None
    unless: Callable[[], bool] | None


class Draft(Protocol):
    """One object whose content comes in any order; iterated, it gives what it has, in order."""

    def write(self, offset: int, data: bytes) -> None:
        """Put ``data`` at byte ``offset``; raises what ``put`` does."""
        ...

    def __iter__(self) -> Iterator[bytes]: ...


class Group(Protocol):
    """Objects on their way into a store together, each of another key, for one thread.

    What takes long for one small object, such as a flush, is done for all or side by side. Each is
    put as ``Store.put`` does it, at some time between its ``add`` and the end of ``finish``, and
    fails alone.
    """

    def add(self, key: bytes, chunks: Iterable[bytes], **what: Unpack[Content]) -> None:
        """Take one object in; raises what ``put`` does, and the others are not touched.

        All of ``chunks`` is taken before it returns. ``unless`` may be called in another thread.
        """
        ...

    def draft(self, key: bytes, size: int) -> AbstractContextManager[Draft] | None:
        """Give a draft of ``key`` for ``size`` bytes, or None where content has to come in order.

        Also None where the drafts of the group would take more than a quarter of the room that the
        store has left. Once all of it is there, the draft is added in place of chunks, which costs
        no other copy. Nothing of it is visible before, nor left behind when it is left, before the
        group is, without being added.
        """
        ...

    def finish(self) -> Mapping[bytes, ObjectNameRefused | DigestMismatch]:
        """Return when all are safely in but those that are refused, by key; take in others then.

        Any other error is raised; each object is then as before or as added, whole.
        """
        ...


class Store(Protocol):
    """A flat set of named objects.

    Every method raises StoreUnavailable when the store does not answer (after the client's own
    bounded retries) and ObjectNameRefused for a key that this store can't hold; keys that differ in
    any byte are different objects.
    """

    name: str
    lists_metadata: bool
    """Whether ``list`` gives content type and metadata; else only ``head`` does."""

    def list(
        self, prefix: bytes = b"", *, after: bytes | None = None, until: bytes | None = None
    ) -> Iterator[StoredObject]:
        """Yield the objects in ascending byte order of their keys, streaming.

        Only keys that begin with ``prefix`` and with ``after`` < key <= ``until``. Objects that
        come or go meanwhile may or may not be seen. Unfinished uploads are never seen.
        """
        ...

    def head(self, key: bytes) -> StoredObject | None:
        """Return what the store knows of ``key``, or None when there is no such object."""
        ...

    def open(self, key: bytes, *, version: str | None = None) -> AbstractContextManager[BinaryIO]:
        """Open ``key`` for one sequential read.

        Raises ObjectUnreadable when it is gone or can't be read.
        """
        ...

    def put(self, key: bytes, chunks: Iterable[bytes], **what: Unpack[Content]) -> None:
        """Write ``key`` whole or not at all, replacing what is there.

        The object appears under its name only when all ``size`` bytes with that ``sha256`` (hex)
        are safely in; DigestMismatch otherwise, DiskFull when the store is full. An exception
        from ``chunks`` leaves the store as it was, but for leftovers that ``list`` never shows and
        that a later ``put`` of the same key removes or that are documented to be swept. ``unless``
        is called just before the object appears, at least if another stands there, and when the
        answer is true it does not.
        """
        ...

    def group(self) -> AbstractContextManager[Group]:
        """Give a group; leaving it without ``finish`` may leave out what was added since."""
        ...

    def delete(self, key: bytes) -> None:
        """Remove ``key``; no error when it is not there."""
        ...

    def secure(self) -> None:
        """Return when all that can be listed now survives a power cut.

        So also what a process has put that was killed before its ``put`` or ``finish`` returned.
        """
        ...

    def close(self) -> None:
        """Release connections; the store is not used afterwards."""
        ...
