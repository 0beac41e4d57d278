"""Keys of age (X25519), and what is encrypted to them and decrypted with them.

Secrets never appear in a ``repr``, a message or a log.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

import pyrage
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from restore_lib.errors import ConfigError, DigestMismatch, KeyUnusable
from restore_lib.tape.age_file import (
    CHUNK,
    NONCE,
    TAG,
    Damaged,
    NoMatch,
    Payload,
    header_end,
    header_size,
    read_header,
    write_header,
)
from restore_lib.tape.streams import Readable, Writable, read_exactly

_SECRET_PREFIX = "AGE-SECRET-KEY-"  # noqa: S105  # how every age identity begins; not one
_AT_ONCE = 16
"""Chunks that are read, sealed and written together."""
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_BECH32_CHECKSUM = 6


@dataclass(frozen=True, slots=True)
class Recipients:
    """The public keys that everything on a volume is encrypted to."""

    names: tuple[str, ...]
    keys: tuple[X25519PublicKey, ...] = field(repr=False, compare=False)

    @classmethod
    def parse(cls, names: Sequence[str]) -> "Recipients":
        """Parse ``age1…`` strings; ConfigError names the bad one, or says that there is none."""
        if not names:
            raise ConfigError(
                "No age recipient is given.", remedy="name at least one `age1…` public key"
            )
        return cls(tuple(names), tuple(_recipient(name) for name in names))


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """One secret key, and the recipient that it opens; shows the recipient only."""

    key: X25519PrivateKey
    recipient: str

    def __repr__(self) -> str:
        return f"Identity(recipient={self.recipient!r})"


def new_identity() -> tuple[str, str]:
    """Make a key pair; return the text of its identity file, as age-keygen, and the recipient."""
    identity = pyrage.x25519.Identity.generate()
    recipient = str(identity.to_public())
    return f"# public key: {recipient}\n{identity}\n", recipient


def load_identities(path: Path) -> list[Identity]:
    """Read an identity file in the form of age-keygen; KeyUnusable when it holds no usable key."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        raise KeyUnusable(f"Identity file {path} can't be read: {reason}.") from error
    lines = enumerate(text.splitlines(), start=1)
    found = [
        _identity(line.strip(), path, number)
        for number, line in lines
        if line.strip() and not line.startswith("#")
    ]
    if not found:
        raise KeyUnusable(f"Identity file {path} holds no identity.")
    return found


def encrypt(plaintext: bytes, recipients: Recipients) -> bytes:
    """Return ``plaintext`` encrypted to every recipient."""
    header, file_key = write_header(recipients.keys)
    nonce = os.urandom(NONCE)
    return b"".join((header, nonce, Payload(file_key, nonce).seal(plaintext, last=True)))


def encrypt_stream(source: Readable, sink: Writable, recipients: Recipients) -> None:
    """Encrypt ``source`` to its end into ``sink``; what either raises passes unchanged."""
    header, file_key = write_header(recipients.keys)
    nonce = os.urandom(NONCE)
    payload = Payload(file_key, nonce)
    sink.write(header + nonce)
    for piece, last in _pieces(source, _AT_ONCE * CHUNK):
        sink.write(payload.seal(piece, last=last))


def decrypt(ciphertext: bytes, identities: Sequence[Identity], *, what: str) -> bytes:
    """Return the plaintext of ``ciphertext``; errors as in ``decrypt_stream``."""
    with _named(what, identities) as keys:
        end = header_end(ciphertext)
        if end < 0:
            raise Damaged("it ends in its header")
        file_key = read_header(ciphertext[:end], keys)
        payload = Payload(file_key, ciphertext[end : end + NONCE])
        return payload.open(memoryview(ciphertext)[end + NONCE :], last=True)


def decrypt_stream(
    source: Readable, sink: Writable, identities: Sequence[Identity], *, what: str
) -> None:
    """Decrypt ``source`` to its end into ``sink``; what either raises passes unchanged.

    Every chunk that reaches ``sink`` is authentic, but only a return says that it was all.
    ``what`` names the ciphertext in messages. Raises KeyUnusable when no identity opens it, and
    DigestMismatch when it is cut short or altered.
    """
    with _named(what, identities) as keys:
        behind = _Behind(source)
        file_key = read_header(behind.header(), keys)
        payload = Payload(file_key, read_exactly(behind, NONCE))
        for piece, last in _pieces(behind, _AT_ONCE * (CHUNK + TAG)):
            sink.write(payload.open(piece, last=last))


def ciphertext_size(size: int, recipients: int) -> int:
    """Return the bytes that ``size`` bytes make when encrypted to ``recipients`` keys.

    The header, a nonce, and a tag for each begun 64 KiB.
    """
    chunks = max(1, -(-size // CHUNK))
    return size + header_size(recipients) + NONCE + TAG * chunks


@contextmanager
def _named(what: str, identities: Sequence[Identity]) -> Iterator[list[X25519PrivateKey]]:
    """Give the keys to open ``what`` with; why they can't is told with its name."""
    if not identities:
        raise KeyUnusable(f"There is no identity to open {what} with.")
    try:
        yield [identity.key for identity in identities]
    except NoMatch:
        known = ", ".join(identity.recipient for identity in identities)
        raise KeyUnusable(f"No identity given opens {what}; tried {known}.") from None
    except Damaged as error:
        raise DigestMismatch(f"The ciphertext of {what} is damaged: {error}.") from error


class _Behind:
    """A stream that is read past the header that it begins with."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._fetched = b""

    def header(self) -> bytes:
        while (end := header_end(self._fetched)) < 0:
            data = self._source.read(CHUNK)
            if not data:
                raise Damaged("it ends in its header")
            self._fetched += data
        header, self._fetched = self._fetched[:end], self._fetched[end:]
        return header

    def read(self, size: int = -1, /) -> bytes:
        if not self._fetched:
            return self._source.read(size)
        data, self._fetched = self._fetched[:size], self._fetched[size:]
        return data


def _pieces(source: Readable, size: int) -> Iterator[tuple[bytes, bool]]:
    """Yield a stream in pieces of ``size`` bytes, and whether each is the last; at least one."""
    piece = read_exactly(source, size)
    while len(piece) == size and (following := read_exactly(source, size)):
        yield piece, False
        piece = following
    yield piece, True


def _recipient(name: str) -> X25519PublicKey:
    if name.strip().upper().startswith(_SECRET_PREFIX):
        raise ConfigError(
            "A secret key stands where an age recipient belongs.",
            remedy="replace it with its public key (`age-keygen -y`), and take the secret away",
        )
    try:
        parsed = pyrage.x25519.Recipient.from_str(name)
    except pyrage.RecipientError as error:
        raise ConfigError(
            f"{name!r} is not an age X25519 recipient.",
            remedy="give the public key that `age-keygen` printed; it begins with `age1`",
        ) from error
    return X25519PublicKey.from_public_bytes(_raw(str(parsed)))


def _identity(line: str, path: Path, number: int) -> Identity:
    try:
        key = pyrage.x25519.Identity.from_str(line)
    except pyrage.IdentityError:
        raise KeyUnusable(
            f"Line {number} of identity file {path} is not an age X25519 identity.",
            remedy=f"each line there is a comment or `{_SECRET_PREFIX}1…`, as from `age-keygen`",
        ) from None
    return Identity(X25519PrivateKey.from_private_bytes(_raw(str(key))), str(key.to_public()))


def _raw(text: str) -> bytes:
    """Return the 32 bytes of a key that pyrage has read, from its Bech32 (BIP 173) text."""
    digits = text.lower()[text.rindex("1") + 1 : -_BECH32_CHECKSUM]
    bits = reduce(lambda value, digit: value << 5 | _BECH32.index(digit), digits, 0)
    return (bits >> (5 * len(digits) - 256)).to_bytes(32, "big")
