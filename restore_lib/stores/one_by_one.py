"""A group for stores that have nothing to gain from taking objects together."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from restore_lib.errors import DigestMismatch, ObjectNameRefused

if TYPE_CHECKING:
    from restore_lib.stores.base import Store


class OneByOne:
    """A ``stores.base.Group`` whose objects are each put as they are added."""

    def __init__(self, store: "Store") -> None:
        self._store = store

    @classmethod
    @contextmanager
    def of(cls, store: "Store") -> Iterator["OneByOne"]:
        """Give the group of a store."""
        yield cls(store)

    def add(
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
        """Put the object."""
        self._store.put(
            key,
            chunks,
            size=size,
            sha256=sha256,
            modified_at=modified_at,
            content_type=content_type,
            metadata=metadata,
            unless=unless,
        )

    def finish(self) -> dict[bytes, ObjectNameRefused | DigestMismatch]:
        """Return nothing: what was refused was raised by ``add``."""
        return {}
