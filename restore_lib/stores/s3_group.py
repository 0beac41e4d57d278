"""Small objects on their way into a bucket, several requests at a time."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Unpack

from restore_lib.errors import DigestMismatch, ObjectNameRefused
from restore_lib.stores.checking import checked

if TYPE_CHECKING:
    from restore_lib.stores.base import Content
    from restore_lib.stores.s3 import S3Store

SMALL = 1 << 20
REQUESTS = 8
"""Requests under way; twice as many objects of up to SMALL bytes are held in memory."""


class S3Group:
    """A ``stores.base.Group`` that waits for the service only in between and in ``finish``."""

    def __init__(self, store: "S3Store", pool: ThreadPoolExecutor) -> None:
        self._store = store
        self._pool = pool
        self._sent: deque[tuple[bytes, Future[None]]] = deque()
        self._refused: dict[bytes, ObjectNameRefused | DigestMismatch] = {}

    @classmethod
    @contextmanager
    def of(cls, store: "S3Store") -> Iterator["S3Group"]:
        """Give a group of a store, with its threads."""
        pool = ThreadPoolExecutor(REQUESTS, thread_name_prefix="s3-put")
        try:
            yield cls(store, pool)
        finally:
            pool.shutdown(cancel_futures=True)

    def add(self, key: bytes, chunks: Iterable[bytes], **what: "Unpack[Content]") -> None:
        """Begin to put a small object, or put a larger one."""
        size = what["size"]
        if size > SMALL:
            self._store.put(key, chunks, **what)
            return
        body = b"".join(checked(chunks, key=key, size=size, sha256=what["sha256"]))
        while len(self._sent) >= 2 * REQUESTS:
            self._wait()
        self._sent.append((key, self._pool.submit(self._store.put, key, [body], **what)))

    def draft(self, key: bytes, size: int) -> None:
        """Return None: content has to come in order."""

    def finish(self) -> dict[bytes, ObjectNameRefused | DigestMismatch]:
        """Wait for all that was sent; return what was refused, by key."""
        while self._sent:
            self._wait()
        refused, self._refused = self._refused, {}
        return refused

    def _wait(self) -> None:
        key, future = self._sent.popleft()
        try:
            future.result()
        except (ObjectNameRefused, DigestMismatch) as error:
            self._refused[key] = error
