"""The age file format, version 1, for X25519 recipients: its header and its payload.

As https://age-encryption.org/v1 (C2SP) has it. Every primitive is OpenSSL's, by ``cryptography``:
a byte takes a third of the time that pyrage needs, and it is what backups and restores spend most
on. Tests hold this against pyrage and the ``age`` program, in both directions.
"""

import os
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from typing import Final

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

CHUNK: Final = 64 * 1024
"""Bytes of plaintext under one tag."""
TAG: Final = 16
NONCE: Final = 16
"""Bytes before the first chunk of a payload."""
MAX_HEADER: Final = 64 * 1024
"""Bytes that a header may have: room for several hundred recipients."""
_VERSION = b"age-encryption.org/v1\n"
_MAC_MARK = b"--- "
_MAC_LINE = len(_MAC_MARK) + 43 + 1
_STANZA = len(b"-> X25519 ") + 2 * (43 + 1)
_COLUMNS = 64
_ZERO_NONCE = bytes(12)
_KEY = 32
_FILE_KEY = 16


class Damaged(Exception):
    """The file is not as an age program wrote it; the text says where."""


class NoMatch(Exception):
    """No recipient of the file is one of the identities that were given."""


def header_size(recipients: int) -> int:
    """Return the bytes of a header that ``write_header`` makes for a number of recipients."""
    return len(_VERSION) + _STANZA * recipients + _MAC_LINE


def write_header(recipients: Iterable[X25519PublicKey]) -> tuple[bytes, bytes]:
    """Make a file key; return the header that wraps it for each recipient, and the key."""
    file_key = os.urandom(_FILE_KEY)
    stanzas = [_wrap(file_key, recipient) for recipient in recipients]
    text = b"".join((_VERSION, *stanzas, _MAC_MARK[:-1]))
    return b"".join((text, b" ", _encoded(_mac(file_key, text).finalize()), b"\n")), file_key


def header_end(data: bytes) -> int:
    """Return where the header ends that ``data`` begins with; -1 when more of it is needed.

    Damaged when ``data`` does not begin with one.
    """
    if not data.startswith(_VERSION[: len(data)]):
        raise Damaged("it does not begin as an age file")
    mark = data.find(b"\n" + _MAC_MARK)
    end = -1 if mark < 0 else data.find(b"\n", mark + 1) + 1
    if end <= 0:
        if len(data) > MAX_HEADER:
            raise Damaged("its header does not end")
        return -1
    return end


def read_header(header: bytes, identities: Sequence[X25519PrivateKey]) -> bytes:
    """Return the file key of a whole header; NoMatch when no identity opens it, or Damaged.

    A recipient's stanza that is damaged may look like one for somebody else.
    """
    mark = header.rindex(b"\n" + _MAC_MARK) + 1
    text, mac = header[: mark + len(_MAC_MARK) - 1], header[mark + len(_MAC_MARK) : -1]
    stanzas = _stanzas(header[len(_VERSION) : mark].split(b"\n")[:-1])
    for share, body in stanzas:
        for identity in identities:
            file_key = _unwrap(share, body, identity)
            if file_key is not None:
                _check_mac(file_key, text, mac)
                return file_key
    raise NoMatch


class Payload:
    """The chunks of one payload, in order: each is sealed, or opened, once.

    A chunk's nonce is its number and whether it is the last one, so that none can be left out,
    moved or cut away unnoticed.
    """

    def __init__(self, file_key: bytes, nonce: bytes) -> None:
        self._aead = ChaCha20Poly1305(_derive(file_key, nonce, b"payload"))
        self._number = 0

    def seal(self, plaintext: bytes, *, last: bool) -> bytes:
        """Return the next chunks as stored; all but the last of a payload are whole."""
        view = memoryview(plaintext)
        chunks = [view[start : start + CHUNK] for start in range(0, len(view), CHUNK)] or [view]
        return b"".join(
            self._aead.encrypt(self._nonce(last and chunk is chunks[-1]), chunk, None)
            for chunk in chunks
        )

    def open(self, stored: bytes | memoryview, *, last: bool) -> bytes:
        """Return the plaintext of the next chunks; Damaged unless all of it is authentic."""
        view = memoryview(stored)
        size = CHUNK + TAG
        chunks = [view[start : start + size] for start in range(0, len(view), size)] or [view]
        if len(chunks[-1]) < TAG or (len(chunks[-1]) == TAG and (self._number or len(chunks) > 1)):
            raise Damaged("its last chunk is cut short")
        try:
            return b"".join(
                self._aead.decrypt(self._nonce(last and chunk is chunks[-1]), chunk, None)
                for chunk in chunks
            )
        except InvalidTag:
            raise Damaged(f"chunk {self._number - 1} is not authentic") from None

    def _nonce(self, last: bool) -> bytes:
        nonce = (self._number << 8 | last).to_bytes(12, "big")
        self._number += 1
        return nonce


def _wrap(file_key: bytes, recipient: X25519PublicKey) -> bytes:
    ephemeral = X25519PrivateKey.generate()
    share = ephemeral.public_key().public_bytes_raw()
    salt = share + recipient.public_bytes_raw()
    key = _derive(ephemeral.exchange(recipient), salt, b"age-encryption.org/v1/X25519")
    body = ChaCha20Poly1305(key).encrypt(_ZERO_NONCE, file_key, None)
    return b"".join((b"-> X25519 ", _encoded(share), b"\n", _encoded(body), b"\n"))


def _unwrap(share: bytes, body: bytes, identity: X25519PrivateKey) -> bytes | None:
    """Return the file key of a stanza, or None when it is for another recipient."""
    try:
        secret = identity.exchange(X25519PublicKey.from_public_bytes(share))
    except ValueError:
        raise Damaged("an X25519 share in its header is of low order") from None
    salt = share + identity.public_key().public_bytes_raw()
    key = _derive(secret, salt, b"age-encryption.org/v1/X25519")
    try:
        return ChaCha20Poly1305(key).decrypt(_ZERO_NONCE, body, None)
    except InvalidTag:
        return None


def _stanzas(lines: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """Return share and body of each X25519 stanza; those of other kinds are passed over."""
    found: list[tuple[bytes, bytes]] = []
    at = 0
    while at < len(lines):
        kind, *arguments = _words(lines[at])
        ended = next((n for n in range(at + 1, len(lines)) if len(lines[n]) < _COLUMNS), None)
        if ended is None or any(len(line) > _COLUMNS for line in lines[at + 1 : ended]):
            raise Damaged("a stanza of its header does not end")
        body = _decoded(b"".join(lines[at + 1 : ended + 1]))
        if kind == b"X25519":
            share = _decoded(arguments[0]) if len(arguments) == 1 else b""
            if (len(share), len(body)) != (_KEY, _FILE_KEY + TAG):
                raise Damaged("an X25519 stanza of its header has another form")
            found.append((share, body))
        at = ended + 1
    return found


def _words(line: bytes) -> list[bytes]:
    mark, *words = line.split(b" ")
    if mark != b"->" or not words or not all(words):
        raise Damaged("a stanza of its header does not begin as one")
    return words


def _check_mac(file_key: bytes, text: bytes, mac: bytes) -> None:
    try:
        _mac(file_key, text).verify(_decoded(mac))
    except InvalidSignature:
        raise Damaged("its header is not authentic") from None


def _mac(file_key: bytes, text: bytes) -> HMAC:
    mac = HMAC(_derive(file_key, None, b"header"), SHA256())
    mac.update(text)
    return mac


def _derive(secret: bytes, salt: bytes | None, info: bytes) -> bytes:
    return HKDF(SHA256(), _KEY, salt, info).derive(secret)


def _encoded(data: bytes) -> bytes:
    return b64encode(data).rstrip(b"=")


def _decoded(text: bytes) -> bytes:
    """Decode base64 without padding; only the one form that encodes the bytes is taken."""
    try:
        data = b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except ValueError:
        data = b""
    if _encoded(data) != text:
        raise Damaged("its header holds what is not base64")
    return data
