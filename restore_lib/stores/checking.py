"""Bytes on their way into a store, counted and hashed as they pass."""

import hashlib
from collections.abc import Iterable, Iterator

from restore_lib.errors import DigestMismatch
from restore_lib.model.objects import display_key


def checked(chunks: Iterable[bytes], *, key: bytes, size: int, sha256: str) -> Iterator[bytes]:
    """Pass ``chunks`` on; raise DigestMismatch unless they add up to ``size`` and ``sha256``.

    ``size`` is in bytes, ``sha256`` in hex. Too many bytes are noticed before the surplus is passed
    on, everything else at the end: whoever publishes what it got only after the last chunk never
    publishes wrong bytes.
    """
    digest = hashlib.sha256()
    seen = 0
    for chunk in chunks:
        seen += len(chunk)
        if seen > size:
            raise _mismatch(key, f"more than its {size} bytes arrived")
        digest.update(chunk)
        yield chunk
    compare(seen, digest.hexdigest(), key=key, size=size, sha256=sha256)


def compare(seen: int, found: str, *, key: bytes, size: int, sha256: str) -> None:
    """Raise DigestMismatch unless the ``seen`` bytes with the SHA-256 ``found`` are the object."""
    if seen != size:
        raise _mismatch(key, f"{seen} bytes instead of its {size} arrived")
    if found != sha256.lower():
        raise _mismatch(key, f"its SHA-256 is {found} instead of {sha256}")


def _mismatch(key: bytes, problem: str) -> DigestMismatch:
    return DigestMismatch(f"{display_key(key)} was not stored: {problem}.", key=display_key(key))
