"""Payloads: zstd where that makes them smaller, then age; and back again."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, cast

import zstandard

from restore_lib.errors import DigestMismatch, KeyUnusable
from restore_lib.tape.age import (
    Identity,
    Recipients,
    ciphertext_size,
    decrypt,
    decrypt_stream,
    encrypt,
    encrypt_stream,
)
from restore_lib.tape.members import Member
from restore_lib.tape.streams import CHUNK, Readable, Writable

SMALL = 1 << 20
_LEVEL = 3
_SAMPLE = 256 << 10


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a payload turned out to be: bytes and SHA-256 (hex), as stored and as plaintext."""

    size: int
    sha256: str
    stored_size: int
    stored_sha256: str


class Compressor:
    """Decides for each payload whether zstd makes it smaller; keeps zstd's state between them."""

    def __init__(self) -> None:
        self._zstd = zstandard.ZstdCompressor(level=_LEVEL)

    def seal(self, plaintext: bytes, recipients: Recipients) -> tuple[bytes, bool]:
        """Return a small payload as stored, and whether it is compressed."""
        packed = self._zstd.compress(plaintext)
        compressed = len(packed) < len(plaintext)
        return encrypt(packed if compressed else plaintext, recipients), compressed

    def worthwhile(self, head: bytes) -> bool:
        """Tell by its beginning whether a large payload is to be compressed."""
        sample = head[:_SAMPLE]
        return len(self._zstd.compress(sample)) < len(sample)

    def seal_stream(
        self, source: Readable, sink: Writable, recipients: Recipients, *, compressed: bool
    ) -> None:
        """Write a large payload as stored to ``sink``; what either stream raises passes."""
        if compressed:
            packed = self._zstd.stream_reader(cast("IO[bytes]", source), closefd=False)
            encrypt_stream(packed, sink, recipients)
        else:
            encrypt_stream(source, sink, recipients)


class Decompressor:
    """Turns small payloads back into plaintexts; keeps zstd's state between them.

    For one thread at a time.
    """

    def __init__(self) -> None:
        self._zstd = zstandard.ZstdDecompressor()

    def unseal(
        self,
        stored: bytes,
        identities: Sequence[Identity],
        *,
        compressed: bool,
        size: int,
        what: str,
    ) -> bytes:
        """Return the plaintext of a payload; of one with more than ``size`` bytes, a bit more.

        For a caller that compares it with a digest: of the bytes as stored nothing is compared.
        Raises as ``decode_payload`` does, but a damaged age header may look like a wrong key.
        """
        packed = decrypt(stored, identities, what=what)
        if not compressed:
            return packed
        try:
            if 0 <= zstandard.frame_content_size(packed) <= size:
                return self._zstd.decompress(packed)
            with self._zstd.stream_reader(packed) as plain:
                return plain.read(size + 1)
        except zstandard.ZstdError as error:
            raise _not_zstd(what, error) from error


class _Counted:
    """A stream in the middle, counting and digesting what is read through or written through."""

    def __init__(self, stream: Readable | Writable) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()
        self.size = 0

    def read(self, size: int = -1, /) -> bytes:
        data = cast("Readable", self._stream).read(size)
        self.digest.update(data)
        self.size += len(data)
        return data

    def write(self, data: bytes, /) -> int:
        self.digest.update(data)
        self.size += len(data)
        cast("Writable", self._stream).write(data)
        return len(data)


class _Unpacking:
    """A sink that decompresses into another, in bounded memory."""

    def __init__(self, sink: Writable, what: str) -> None:
        decompressor = zstandard.ZstdDecompressor()
        self._zstd = decompressor.stream_writer(cast("IO[bytes]", sink), closefd=False)
        self._what = what

    def write(self, data: bytes, /) -> int:
        try:
            return self._zstd.write(data)
        except zstandard.ZstdError as error:
            raise _not_zstd(self._what, error) from error


def stored_bound(size: int, recipients: int) -> int:
    """Return the most bytes that a payload of ``size`` bytes can take as stored."""
    packed = size if size <= SMALL else size + size // 256 + 64
    return ciphertext_size(packed, recipients)


def unseal_stream(
    source: Readable,
    sink: Writable,
    identities: Sequence[Identity],
    *,
    compressed: bool,
    what: str,
) -> None:
    """Write the plaintext of a large payload to ``sink``, in bounded memory.

    Raises as ``Decompressor.unseal`` does.
    """
    unpacked = _Unpacking(sink, what) if compressed else sink
    decrypt_stream(source, unpacked, identities, what=what)


def decode_payload(
    stored: Readable,
    writer: Writable,
    identities: Sequence[Identity],
    *,
    compressed: bool,
    what: str = "the payload",
) -> Decoded:
    """Decrypt, and decompress where ``compressed``, all of ``stored`` into ``writer``.

    Returns sizes and digests of both for the caller to compare; ``restore_payload`` does. What the
    streams raise passes unchanged. Raises KeyUnusable when no identity opens it and DigestMismatch
    when it is damaged; ``writer`` may then have got a part.
    """
    return _decode(_Counted(stored), writer, identities, compressed=compressed, what=what)


def restore_payload(
    member: Member, stored: Readable, writer: Writable, identities: Sequence[Identity]
) -> None:
    """Write the member's plaintext to ``writer``; a return says that every digest agrees.

    ``stored`` gives the ``stored_size`` bytes at the member's offset. Raises DigestMismatch when
    the bytes are not those that were backed up (a damaged age header included, which by itself
    looks like a wrong key), and KeyUnusable only when they are and no identity opens them.
    """
    what = f"{member.name} ({member.meta.store})"
    source = _Counted(stored)
    try:
        found = _decode(source, writer, identities, compressed=member.compressed, what=what)
    except KeyUnusable:
        while source.read(CHUNK):
            pass
        _check_stored(what, source.size, source.digest.hexdigest(), member)
        raise
    _check_stored(what, found.stored_size, found.stored_sha256, member)
    if (found.size, found.sha256) != (member.size, member.sha256):
        raise DigestMismatch(f"The plaintext of {what} is not what was backed up.")


def _decode(
    source: _Counted,
    writer: Writable,
    identities: Sequence[Identity],
    *,
    compressed: bool,
    what: str,
) -> Decoded:
    plain = _Counted(writer)
    unseal_stream(source, plain, identities, compressed=compressed, what=what)
    return Decoded(plain.size, plain.digest.hexdigest(), source.size, source.digest.hexdigest())


def _check_stored(what: str, size: int, sha256: str, member: Member) -> None:
    if (size, sha256) != (member.stored_size, member.stored_sha256):
        raise DigestMismatch(f"The stored bytes of {what} are not what was written.")


def _not_zstd(what: str, error: zstandard.ZstdError) -> DigestMismatch:
    return DigestMismatch(f"{what} does not decompress: {error}.")
