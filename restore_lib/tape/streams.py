"""Byte streams: the small protocols that this package asks for, and blocks read as a stream."""

import contextlib
import errno
import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import xxhash

from restore_lib.errors import DiskFull

CHUNK = 1 << 20


class Readable(Protocol):
    """Anything that gives bytes in order, such as a file, a socket or a drive."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes; empty only at the end."""
        ...


class Writable(Protocol):
    """Anything that takes bytes in order."""

    def write(self, data: bytes, /) -> object:
        """Take all of ``data``."""
        ...


class BlockReader:
    """The blocks of one tape file as a stream, counted and digested as they pass.

    ``blocks`` and ``sha256`` (hex) tell of the blocks taken so far; of the whole tape file once the
    stream has been read to its end.
    """

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._source: Iterator[bytes] = iter(blocks)
        self._digest = hashlib.sha256()
        self._block = b""
        self._taken = 0
        self.blocks = 0

    @property
    def sha256(self) -> str:
        """Digest (hex) of the blocks taken so far."""
        return self._digest.hexdigest()

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes, never across a block; empty only at the end."""
        if size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        while self._taken == len(self._block):
            block = next(self._source, None)
            if block is None:
                return b""
            self._digest.update(block)
            self.blocks += 1
            self._block, self._taken = block, 0
        data = self._block[self._taken : self._taken + size]
        self._taken += len(data)
        return data


def read_exactly(stream: Readable, size: int) -> bytes:
    """Return ``size`` bytes, or fewer when the stream ends before."""
    data = stream.read(size)
    if len(data) == size or not data:
        return data
    parts = [data]
    missing = size - len(data)
    while missing and (data := stream.read(missing)):
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)


def digest_of(stream: Readable) -> tuple[int, str]:
    """Read ``stream`` to its end; return its size in bytes and its SHA-256 (hex)."""
    digest = FileDigest()
    while data := stream.read(CHUNK):
        digest.update(data)
    return digest.size, digest.sha256


class FileDigest:
    """What is recorded of a tape file as it is made, and what its read-back is compared with.

    ``size`` is in bytes. ``sha256`` (hex) is for the record. ``checksum`` (hex, XXH3 of 128 bits)
    tells accidents from what was written as surely and costs next to nothing; it is never kept.
    """

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._checksum = new_checksum()
        self.size = 0

    def update(self, data: "bytes | memoryview") -> None:
        """Count and digest ``data`` behind all before."""
        self._sha256.update(data)
        self._checksum.update(data)
        self.size += len(data)

    @property
    def sha256(self) -> str:
        """Digest of all so far."""
        return self._sha256.hexdigest()

    @property
    def checksum(self) -> str:
        """Checksum of all so far."""
        return self._checksum.hexdigest()


def new_checksum() -> xxhash.xxh3_128:
    """Return a fresh checksum such as ``FileDigest`` keeps."""
    return xxhash.xxh3_128()


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn "no space left" and "quota exceeded" into DiskFull that names ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"There is no room for {path}.") from error
        raise


class Aside:
    """A SHA-256 that a thread computes, at most one chunk behind; ``close`` ends the thread."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="digest")
        self._chunk: Future[None] | None = None

    def update(self, data: bytes) -> None:
        """Have ``data`` digested behind all before."""
        self._wait()
        self._chunk = self._thread.submit(self._digest.update, data)

    def hexdigest(self) -> str:
        """Return the digest of all so far."""
        self._wait()
        return self._digest.hexdigest()

    def close(self) -> None:
        """End the thread; the digest is not used afterwards."""
        self._thread.shutdown()

    def _wait(self) -> None:
        if self._chunk is not None:
            self._chunk.result()
