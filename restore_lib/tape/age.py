"""Encryption and decryption with age (X25519), by pyrage.

Secrets never appear in a ``repr``, a message or a log.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pyrage

from restore_lib.errors import ConfigError, DigestMismatch, KeyUnusable
from restore_lib.tape.streams import CHUNK, Readable, Writable

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_SECRET_PREFIX = "AGE-SECRET-KEY-"  # noqa: S105  # how every age identity begins; not one
_NO_MATCH = "No matching keys found"
_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class Recipients:
    """The public keys that everything on a volume is encrypted to."""

    names: tuple[str, ...]
    keys: tuple[pyrage.x25519.Recipient, ...] = field(repr=False, compare=False)

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

    key: pyrage.x25519.Identity
    recipient: str

    def __repr__(self) -> str:
        return f"Identity(recipient={self.recipient!r})"


class _Guarded:
    """A stream handed to pyrage; keeps the exception that pyrage would turn into its own."""

    def __init__(self, stream: Readable | Writable) -> None:
        self._stream = stream
        self.error: BaseException | None = None

    def read(self, size: int = -1, /) -> bytes:
        try:
            return cast("Readable", self._stream).read(size)
        except BaseException as error:
            self.error = error
            raise

    def write(self, data: bytes, /) -> int:
        try:
            cast("Writable", self._stream).write(data)
        except BaseException as error:
            self.error = error
            raise
        return len(data)

    def flush(self) -> None:
        pass


class _Raw(io.RawIOBase):
    """A guarded stream under a buffer, since pyrage asks for a few KiB at a time."""

    def __init__(self, guarded: _Guarded) -> None:
        super().__init__()
        self._guarded: _Guarded | None = guarded

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer).cast("B")
        data = self._guarded.read(len(view)) if self._guarded else b""
        view[: len(data)] = data
        return len(data)

    def write(self, data: "ReadableBuffer", /) -> int:
        taken = bytes(data)
        return self._guarded.write(taken) if self._guarded else len(taken)

    def let_go(self) -> None:
        """Pass nothing on from now on, whatever the buffer above still holds."""
        self._guarded = None


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
    return bytes(pyrage.encrypt(plaintext, recipients.keys))


def encrypt_stream(source: Readable, sink: Writable, recipients: Recipients) -> None:
    """Encrypt ``source`` to its end into ``sink``; what either raises passes unchanged."""
    reader, writer = _Guarded(source), _Guarded(sink)
    try:
        pyrage.encrypt_io(reader, writer, recipients.keys)
    except (pyrage.EncryptError, OSError):
        _raise_original(reader, writer)
        raise


def decrypt(ciphertext: bytes, identities: Sequence[Identity], *, what: str) -> bytes:
    """Return the plaintext of ``ciphertext``; errors as in ``decrypt_stream``."""
    plaintext = io.BytesIO()
    try:
        pyrage.decrypt_io(io.BytesIO(ciphertext), plaintext, _keys(identities, what))
    except (pyrage.DecryptError, OSError) as error:
        raise _undecrypted(error, identities, what) from error
    return plaintext.getvalue()


def decrypt_stream(
    source: Readable, sink: Writable, identities: Sequence[Identity], *, what: str
) -> None:
    """Decrypt ``source`` to its end into ``sink``; what either raises passes unchanged.

    Every chunk that reaches ``sink`` is authentic, but only a return says that it was all.
    ``what`` names the ciphertext in messages. Raises KeyUnusable when no identity opens it, and
    DigestMismatch when it is cut short or altered.
    """
    keys = _keys(identities, what)
    reader, writer = _Guarded(source), _Guarded(sink)
    outlet = _Raw(writer)
    try:
        buffered = io.BufferedWriter(outlet, CHUNK)
        pyrage.decrypt_io(io.BufferedReader(_Raw(reader), CHUNK), buffered, keys)
        buffered.flush()
    except (pyrage.DecryptError, OSError) as error:
        _raise_original(reader, writer)
        raise _undecrypted(error, identities, what) from error
    finally:
        outlet.let_go()


def ciphertext_bound(size: int, recipients: int) -> int:
    """Return the most bytes that ``size`` bytes make when encrypted to ``recipients`` keys.

    age's header has 70 bytes, 98 for each recipient and a random stanza ("grease") of up to 205,
    taken as 256; then a nonce of 16 bytes, and a tag of 16 for each begun 64 KiB.
    """
    chunks = max(1, -(-size // _CHUNK))
    return size + 70 + 98 * recipients + 256 + 16 + 16 * chunks


def _recipient(name: str) -> pyrage.x25519.Recipient:
    if name.strip().upper().startswith(_SECRET_PREFIX):
        raise ConfigError(
            "A secret key stands where an age recipient belongs.",
            remedy="replace it with its public key (`age-keygen -y`), and take the secret away",
        )
    try:
        return pyrage.x25519.Recipient.from_str(name)
    except pyrage.RecipientError as error:
        raise ConfigError(
            f"{name!r} is not an age X25519 recipient.",
            remedy="give the public key that `age-keygen` printed; it begins with `age1`",
        ) from error


def _identity(line: str, path: Path, number: int) -> Identity:
    try:
        key = pyrage.x25519.Identity.from_str(line)
    except pyrage.IdentityError:
        raise KeyUnusable(
            f"Line {number} of identity file {path} is not an age X25519 identity.",
            remedy=f"each line there is a comment or `{_SECRET_PREFIX}1…`, as from `age-keygen`",
        ) from None
    return Identity(key, str(key.to_public()))


def _keys(identities: Sequence[Identity], what: str) -> list[pyrage.x25519.Identity]:
    if not identities:
        raise KeyUnusable(f"There is no identity to open {what} with.")
    return [identity.key for identity in identities]


def _undecrypted(
    error: Exception, identities: Sequence[Identity], what: str
) -> KeyUnusable | DigestMismatch:
    if str(error) == _NO_MATCH:
        known = ", ".join(identity.recipient for identity in identities)
        return KeyUnusable(f"No identity given opens {what}; tried {known}.")
    return DigestMismatch(f"The ciphertext of {what} is damaged: {error}.")


def _raise_original(*guarded: _Guarded) -> None:
    for stream in guarded:
        if stream.error is not None:
            raise stream.error from None
