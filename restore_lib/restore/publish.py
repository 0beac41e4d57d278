"""Verify and publish: payloads become objects of the target store, or a named outcome."""

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Self

from restore_lib.catalog.batches import BatchExtent, BatchItem
from restore_lib.catalog.requests import Outcome
from restore_lib.errors import DigestMismatch, KeyUnusable, ObjectNameRefused, ObjectUnreadable
from restore_lib.model.states import ItemState, Overwrite, Way
from restore_lib.restore.handover import handed_over
from restore_lib.restore.read import Pieces
from restore_lib.stores.base import Draft, Group, Store
from restore_lib.tape.age import Identity
from restore_lib.tape.members import Member, MemberMeta
from restore_lib.tape.payload import Decompressor, restore_payload, unseal_stream
from restore_lib.tape.streams import Writable, disk_errors

_CHUNK = 1 << 20
_IN_MEMORY = 8 << 20
_GROUP_OBJECTS = 500
_GROUP_BYTES = 64 << 20
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")

Source = Callable[[BatchExtent], Iterable[bytes]]
"""Gives the stored bytes of an extent, each time that it is called."""


@dataclass
class _Added:
    item: BatchItem
    outcome: Outcome


class Publisher:
    """Brings verified objects into a store under one overwrite policy; a context manager.

    Objects are published in groups: ``add`` them until ``full``, then ``finish``. Leaving it
    without ``finish`` may leave out what was added since.
    """

    def __init__(
        self, store: Store, overwrite: Overwrite, identities: Sequence[Identity], folder: Path
    ) -> None:
        """Objects of more than 8 MiB from an alternate store pass through ``folder``."""
        self._store = store
        self._overwrite = overwrite
        self._identities = identities
        self._folder = folder
        self._decompressor = Decompressor()
        self._held = contextlib.ExitStack()
        self._group: Group | None = None
        self._added: list[_Added] = []
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    @property
    def full(self) -> bool:
        """Whether so much was added that it is time to ``finish``."""
        return len(self._added) >= _GROUP_OBJECTS or self._size >= _GROUP_BYTES

    def standing(self, item: BatchItem) -> Outcome | None:
        """Return the outcome that needs no read, or None: the object has to be brought back.

        An object that stands at the target with the wanted content is verified there; another one
        is kept under the policy ``never``. A name that the target can't hold fails the item. Where
        the wanted content is not known, ``copy`` looks for itself. What a killed process has put
        there may not be safe yet: call ``secure`` before it counts.
        """
        if item.sha256 is None:
            return None
        try:
            found = None if self._overwrite is Overwrite.ALWAYS else self._store.head(item.key)
        except ObjectNameRefused as error:
            return failed(item, error)
        if found is None:
            return None
        if found.size == item.size and self._digest(item.key) == item.sha256:
            return Outcome(item.id, ItemState.RESTORED, Way.PRESENT)
        if self._overwrite is Overwrite.NEVER:
            return Outcome(item.id, ItemState.KEPT, error="another object stands there")
        return None

    def secure(self, outcomes: Iterable[Outcome]) -> None:
        """Make safe what is to count as brought back because it stands there."""
        if any(outcome.way is Way.PRESENT for outcome in outcomes):
            self._store.secure()

    def add(self, item: BatchItem, read: Source, way: Way) -> None:
        """Decrypt and verify one object from its extents, to be published by ``finish``.

        Nothing of it is visible in the store before all of it is verified. Under the policy
        ``never``, what has come to stand there meanwhile is kept. When the digest of the whole
        object is wrong, its extents are read again to tell why: raises DigestMismatch and
        KeyUnusable as ``restore_payload`` does, and what ``read`` raises. If they are sound, the
        object is to be tried again.
        """
        added = _Added(item, Outcome(item.id, ItemState.RESTORED, way))
        try:
            self._take(added, self._plaintext(item, read))
        except (DigestMismatch, KeyUnusable) as error:
            self._check(item, read)
            added.outcome = _again(item, error)
        self._keep(added)

    def draft(self, item: BatchItem) -> AbstractContextManager[Draft] | None:
        """Give a place at the target for content that comes in any order, where there is one.

        It has to be left before the publisher is.
        """
        try:
            return self._entered().draft(item.key, item.size or 0)
        except ObjectNameRefused:
            return None

    def place(self, draft: Draft, extent: BatchExtent, offset: int, read: Source) -> None:
        """Decrypt one extent to byte ``offset`` of its object.

        Raises DigestMismatch, KeyUnusable (also for a damaged extent) and what ``read`` raises; it
        may be placed again.
        """
        end = offset + extent.size
        plain = handed_over(lambda sink: self._unseal([extent], read, sink))
        with contextlib.closing(plain):
            for chunk in plain:
                if offset + len(chunk) > end:
                    raise _not_as_backed_up(extent)
                draft.write(offset, chunk)
                offset += len(chunk)
        if offset != end:
            raise _not_as_backed_up(extent)

    def add_draft(self, item: BatchItem, draft: Draft, way: Way) -> None:
        """Verify one object whose extents have all been placed, to be published by ``finish``.

        As ``add``, but the extents are not read again: raises DigestMismatch when it is another.
        """
        added = _Added(item, Outcome(item.id, ItemState.RESTORED, way))
        self._take(added, draft)
        self._keep(added)

    def finish(self) -> list[tuple[BatchItem, Outcome]]:
        """Publish what was added since the last time; return what became of each, in order.

        When it returns, the objects are safely in the store, also those that stood there.
        """
        added, self._added, self._size = self._added, [], 0
        if self._group is None:
            return [(one.item, one.outcome) for one in added]
        try:
            refused = self._group.finish()
        except BaseException:
            self._group = None
            raise
        for one in added:
            error = refused.get(one.item.key)
            if isinstance(error, ObjectNameRefused):
                one.outcome = failed(one.item, error)
            elif error is not None:
                one.outcome = _again(one.item, error)
        self.secure(one.outcome for one in added)
        return [(one.item, one.outcome) for one in added]

    def copy(self, item: BatchItem, source: Store) -> Outcome | None:
        """Publish an object as an alternate store has it; None when it has none of this name.

        Where a digest is known, another content is passed over: it is not the object.
        """
        try:
            if (found := source.head(item.key)) is None:
                return None
        except ObjectNameRefused:
            return None
        if item.size is not None and found.size != item.size:
            return None
        with disk_errors(self._folder), self._spool() as spool:
            digest = hashlib.sha256()
            with source.open(item.key, version=found.version) as stream:
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
                    spool.write(chunk)
            if item.sha256 not in {None, digest.hexdigest()}:
                return None
            exact = BatchItem(
                item.id,
                item.attempts,
                item.key,
                found.size,
                digest.hexdigest(),
                found.modified_at,
                found.content_type,
                found.metadata,
                (),
            )
            if (standing := self.standing(exact)) is not None:
                self.secure([standing])
                return standing
            return self._put(exact, spool, Way.ALTERNATE)

    def _take(self, added: _Added, content: Iterable[bytes]) -> None:
        item = added.item

        def stands() -> bool:
            if (kept := self.standing(item)) is not None:
                added.outcome = kept
            return kept is not None

        try:
            self._entered().add(
                item.key,
                content,
                size=item.size or 0,
                sha256=item.sha256 or "",
                modified_at=item.modified_at,
                content_type=item.content_type,
                metadata=item.metadata,
                unless=stands if self._overwrite is Overwrite.NEVER else None,
            )
        except ObjectNameRefused as error:
            added.outcome = failed(item, error)

    def _keep(self, added: _Added) -> None:
        self._added.append(added)
        self._size += added.item.size or 0

    def _entered(self) -> Group:
        if self._group is None:
            self._group = self._held.enter_context(self._store.group())
        return self._group

    def _leave(self) -> None:
        self._group = None
        self._added.clear()
        self._held.close()

    def _plaintext(self, item: BatchItem, read: Source) -> Iterable[bytes]:
        if sum(max(extent.size, extent.stored_size) for extent in item.extents) > _IN_MEMORY:
            return handed_over(lambda sink: self._unseal(item.extents, read, sink))
        return [self._unsealed(extent, read) for extent in item.extents]

    def _unsealed(self, extent: BatchExtent, read: Source) -> bytes:
        return self._decompressor.unseal(
            b"".join(read(extent)),
            self._identities,
            compressed=_is_compressed(extent),
            size=extent.size,
            what=_what(extent),
        )

    def _unseal(self, extents: Iterable[BatchExtent], read: Source, sink: Writable) -> None:
        for extent in extents:
            unseal_stream(
                Pieces(read(extent)),
                sink,
                self._identities,
                compressed=_is_compressed(extent),
                what=_what(extent),
            )

    def _check(self, item: BatchItem, read: Source) -> None:
        for extent in item.extents:
            source = Pieces(read(extent))
            restore_payload(_member(item, extent), source, _Nowhere(), self._identities)

    def _put(self, item: BatchItem, spool: IO[bytes], way: Way) -> Outcome:
        size = spool.tell()
        spool.seek(0)
        try:
            self._store.put(
                item.key,
                _chunks(spool),
                size=size,
                sha256=item.sha256 or "",
                modified_at=item.modified_at,
                content_type=item.content_type,
                metadata=item.metadata,
            )
        except ObjectNameRefused as error:
            return failed(item, error)
        except DigestMismatch as error:
            return _again(item, error)
        return Outcome(item.id, ItemState.RESTORED, way)

    def _spool(self) -> IO[bytes]:
        return tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, dir=str(self._folder))

    def _digest(self, key: bytes) -> str | None:
        digest = hashlib.sha256()
        try:
            with self._store.open(key) as stream:
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
        except ObjectUnreadable:
            return None
        return digest.hexdigest()


def failed(item: BatchItem, error: ObjectNameRefused | ObjectUnreadable) -> Outcome:
    """Return the outcome of an item that no other try can help."""
    return Outcome(item.id, ItemState.FAILED, error_code=error.code, error=str(error))


def _again(item: BatchItem, error: DigestMismatch | KeyUnusable) -> Outcome:
    return Outcome(item.id, ItemState.PENDING, error_code=error.code, error=error.message)


def _not_as_backed_up(extent: BatchExtent) -> DigestMismatch:
    return DigestMismatch(f"The plaintext of {_what(extent)} is not what was backed up.")


class _Nowhere:
    def write(self, data: bytes, /) -> int:
        return len(data)


def _chunks(spool: IO[bytes]) -> Iterator[bytes]:
    while chunk := spool.read(_CHUNK):
        yield chunk


def _is_compressed(extent: BatchExtent) -> bool:
    return ".zst." in extent.member


def _what(extent: BatchExtent) -> str:
    return f"{extent.member} ({extent.tape_set})"


def _member(item: BatchItem, extent: BatchExtent) -> Member:
    name = Path(extent.member).name
    return Member(
        ordinal=int(name.split(".")[0]),
        compressed=_is_compressed(extent),
        size=extent.size,
        sha256=extent.sha256,
        stored_size=extent.stored_size,
        stored_sha256=extent.stored_sha256,
        offset=extent.offset,
        meta=MemberMeta(
            store=extent.tape_set,
            key=item.key,
            version=None,
            modified_at=item.modified_at or _EPOCH,
        ),
    )
