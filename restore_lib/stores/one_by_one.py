"""A group for stores that have nothing to gain from taking objects together."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Unpack

from restore_lib.errors import DigestMismatch, ObjectNameRefused

if TYPE_CHECKING:
    from restore_lib.stores.base import Content, Store


class OneByOne:
    """A ``stores.base.Group`` whose objects are each put as they are added."""

    def __init__(self, store: "Store") -> None:
        self._store = store

    @classmethod
    @contextmanager
    def of(cls, store: "Store") -> Iterator["OneByOne"]:
        """Give the group of a store."""
        yield cls(store)

    def add(self, key: bytes, chunks: Iterable[bytes], **what: "Unpack[Content]") -> None:
        """Put the object."""
        self._store.put(key, chunks, **what)

    def draft(self, key: bytes, size: int) -> None:
        """Return None: content has to come in order."""

    def finish(self) -> dict[bytes, ObjectNameRefused | DigestMismatch]:
        """Return nothing: what was refused was raised by ``add``."""
        return {}
