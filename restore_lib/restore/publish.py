"""Verify and publish: payloads become objects of the target store, or a named outcome."""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO

from restore_lib.catalog.batches import BatchExtent, BatchItem
from restore_lib.catalog.requests import Outcome
from restore_lib.errors import DigestMismatch, ObjectNameRefused, ObjectUnreadable
from restore_lib.model.states import ItemState, Overwrite, Way
from restore_lib.stores.base import Store
from restore_lib.tape.age import Identity
from restore_lib.tape.members import Member, MemberMeta
from restore_lib.tape.payload import restore_payload
from restore_lib.tape.streams import Readable, disk_errors

_CHUNK = 1 << 20
_IN_MEMORY = 8 << 20
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


class Publisher:
    """Brings verified objects into a store under one overwrite policy."""

    def __init__(
        self, store: Store, overwrite: Overwrite, identities: Sequence[Identity], folder: Path
    ) -> None:
        """Objects of more than 8 MiB pass through ``folder`` before they are published."""
        self._store = store
        self._overwrite = overwrite
        self._identities = identities
        self._folder = folder

    def standing(self, item: BatchItem) -> Outcome | None:
        """Return the outcome that needs no read, or None: the object has to be brought back.

        An object that stands at the target with the wanted content is verified there; another one
        is kept under the policy ``never``. A name that the target can't hold fails the item. Where
        the wanted content is not known, ``copy`` looks for itself.
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

    def publish(
        self, item: BatchItem, payloads: Iterable[tuple[BatchExtent, Readable]], way: Way
    ) -> Outcome:
        """Decrypt, verify and publish one object from its payloads in the order of its parts.

        Nothing of it is visible in the store before all of it is verified. Under the policy
        ``never``, what has come to stand there meanwhile is kept. Raises DigestMismatch
        and KeyUnusable as ``restore_payload`` does, and what the payloads' reads raise; DiskFull
        when the staging disk has no room. When the store got other bytes than were sent, the item
        is to be tried again.
        """
        with disk_errors(self._folder), self._spool() as spool:
            for extent, stored in payloads:
                restore_payload(_member(item, extent), stored, spool, self._identities)
            return self._kept(item) or self._put(item, spool, way)

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
            return self.standing(exact) or self._put(exact, spool, Way.ALTERNATE)

    def _kept(self, item: BatchItem) -> Outcome | None:
        """Look again, under the policy ``never``: hours may have passed since ``standing``."""
        return self.standing(item) if self._overwrite is Overwrite.NEVER else None

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
            return Outcome(item.id, ItemState.PENDING, error_code=error.code, error=error.message)
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


def _chunks(spool: IO[bytes]) -> Iterator[bytes]:
    while chunk := spool.read(_CHUNK):
        yield chunk


def _member(item: BatchItem, extent: BatchExtent) -> Member:
    name = Path(extent.member).name
    return Member(
        ordinal=int(name.split(".")[0]),
        compressed=".zst." in name,
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
