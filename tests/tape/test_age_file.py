"""Held against two other implementations: pyrage (Rust) and the age program (Go)."""

import subprocess
from base64 import b64encode
from pathlib import Path

import pyrage
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from restore_lib.tape.age import Recipients, ciphertext_size, decrypt, encrypt
from restore_lib.tape.age_file import (
    CHUNK,
    MAX_HEADER,
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
from tests.support.programs import require_program
from tests.tape.conftest import Keys

SIZES = st.one_of(
    st.integers(0, 300),
    st.builds(
        lambda chunks, more: max(0, chunks * CHUNK + more), st.integers(0, 3), st.integers(-2, 2)
    ),
)
IDENTITY = X25519PrivateKey.from_private_bytes(bytes(range(32)))


def theirs(keys: Keys) -> pyrage.x25519.Identity:
    return pyrage.x25519.Identity.from_str(keys.path.read_text().splitlines()[-1])


def written() -> tuple[bytes, bytes]:
    return write_header([IDENTITY.public_key()])


@given(size=SIZES, seed=st.binary(min_size=1, max_size=3))
def test_pyrage_opens_what_is_encrypted_here_and_the_other_way_round(
    keys: Keys, other_keys: Keys, size: int, seed: bytes
) -> None:
    plaintext = (seed * size)[:size]
    both = Recipients.parse([other_keys.recipient, keys.recipient])
    ours = encrypt(plaintext, both)
    assert len(ours) == ciphertext_size(size, 2)
    assert pyrage.decrypt(ours, [theirs(keys)]) == plaintext
    assert pyrage.decrypt(ours, [theirs(other_keys)]) == plaintext
    recipients = [theirs(other_keys).to_public(), theirs(keys).to_public()]
    assert decrypt(pyrage.encrypt(plaintext, recipients), keys.identities, what="it") == plaintext


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 40 * CHUNK, 16 * CHUNK + 5])
def test_the_age_program_opens_it_and_the_other_way_round(
    keys: Keys, tmp_path: Path, size: int
) -> None:
    require_program("age")
    plaintext = (bytes(range(251)) * (size // 251 + 1))[:size]
    plain, sealed = tmp_path / "plain", tmp_path / "sealed"
    sealed.write_bytes(encrypt(plaintext, keys.recipients))
    opened = subprocess.run(["age", "-d", "-i", keys.path, sealed], check=True, capture_output=True)
    assert opened.stdout == plaintext
    plain.write_bytes(plaintext)
    subprocess.run(["age", "-r", keys.recipient, "-o", sealed, plain], check=True)
    assert decrypt(sealed.read_bytes(), keys.identities, what="it") == plaintext


def test_the_header_has_the_size_that_is_told_and_gives_the_key() -> None:
    others = [X25519PrivateKey.generate().public_key() for _ in range(3)]
    header, file_key = write_header([*others, IDENTITY.public_key()])
    assert len(header) == header_size(4) == header_end(header) == header_end(header + b"\n---")
    assert read_header(header, [X25519PrivateKey.generate(), IDENTITY]) == file_key
    with pytest.raises(NoMatch):
        read_header(header, [X25519PrivateKey.generate()])


def test_a_header_that_has_not_come_whole_is_waited_for() -> None:
    header, _ = written()
    assert {header_end(header[:size]) for size in range(len(header))} == {-1}


@pytest.mark.parametrize(
    "data", [b"\x00", b"age-encryption.org/v2\n", b"age-encryption.org/v1\n" + bytes(MAX_HEADER)]
)
def test_what_is_no_header_is_not_waited_for(data: bytes) -> None:
    with pytest.raises(Damaged):
        header_end(data)


def stanza(kind: str, body: bytes) -> bytes:
    text = b64encode(body).rstrip(b"=")
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    if not lines or len(lines[-1]) == 64:
        lines.append(b"")
    return b"-> " + kind.encode() + b"\n" + b"\n".join(lines) + b"\n"


@pytest.mark.parametrize("size", [0, 10, 47, 48, 49, 96, 200])
def test_stanzas_of_other_kinds_are_passed_over(size: int) -> None:
    """The MAC covers them, so what was added behind it is told."""
    header, _ = written()
    first = header.index(b"\n") + 1
    strange = header[:first] + stanza("grease-x 7 y", bytes(size)) + header[first:]
    with pytest.raises(Damaged, match="not authentic"):
        read_header(strange, [IDENTITY])
    with pytest.raises(NoMatch):
        read_header(strange, [X25519PrivateKey.generate()])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"-> X25519 ", b"->X25519 "),
        (b"-> X25519 ", b"-> X25519  "),
        (b"-> X25519 ", b"-> X25519 more "),
        (b"-> X25519 ", b"-> X25519 A"),
        (b"-> X25519 ", b"-> X25519 *"),
        (b"-> X25519 ", b"-> other\n" + b"A" * 65 + b"\n-> X25519 "),
        (b"\n--- ", b"A\n--- "),
        (b"\n--- ", b"\n-> other\n" + b"A" * 64 + b"\n--- "),
        (b"--- ", b"--- A"),
    ],
)
def test_a_header_of_another_form_is_damaged(before: bytes, after: bytes) -> None:
    header, _ = written()
    assert before in header
    with pytest.raises(Damaged, match="header"):
        read_header(header.replace(before, after), [IDENTITY])


def test_a_share_of_low_order_is_damage() -> None:
    header, _ = written()
    start = header.index(b"-> X25519 ") + len(b"-> X25519 ")
    zero = header[:start] + b64encode(bytes(32)).rstrip(b"=") + header[start + 43 :]
    with pytest.raises(Damaged, match="low order"):
        read_header(zero, [IDENTITY])


def opened_header(header: bytes) -> bytes:
    end = header_end(header)
    if end < 0:
        raise Damaged("it ends in its header")
    return read_header(header[:end], [IDENTITY])


@given(at=st.integers(0, 200 - 1), bit=st.integers(0, 7))
def test_no_changed_bit_of_a_header_gives_a_key(at: int, bit: int) -> None:
    header, _ = written()
    at %= len(header)
    changed = header[:at] + bytes([header[at] ^ 1 << bit]) + header[at + 1 :]
    with pytest.raises((Damaged, NoMatch)):
        opened_header(changed)


def sealed(chunks: int, last: int = 100) -> list[bytes]:
    stored = Payload(bytes(16), bytes(NONCE)).seal(bytes((chunks - 1) * CHUNK + last), last=True)
    return [stored[at : at + CHUNK + TAG] for at in range(0, len(stored), CHUNK + TAG)]


def opened(chunks: list[bytes]) -> bytes:
    return Payload(bytes(16), bytes(NONCE)).open(b"".join(chunks), last=True)


def test_chunks_that_are_left_out_moved_or_cut_away_are_damage() -> None:
    a, b, c = sealed(3)
    assert opened([a, b, c]) == bytes(2 * CHUNK + 100)
    for wrong in ([a, b], [b, a, c], [a, c], [a, b, c[:-1]], [a, b, c[:TAG]], [a, b, c[:5]], []):
        with pytest.raises(Damaged):
            opened(wrong)


def test_an_empty_last_chunk_is_for_an_empty_payload_only() -> None:
    assert opened(sealed(1, last=0)) == b""
    payload = Payload(bytes(16), bytes(NONCE))
    whole = payload.seal(bytes(CHUNK), last=False)
    with pytest.raises(Damaged, match="cut short"):
        opened([whole, payload.seal(b"", last=True)])
    reader = Payload(bytes(16), bytes(NONCE))
    assert reader.open(whole, last=False) == bytes(CHUNK)
    with pytest.raises(Damaged, match="cut short"):
        reader.open(payload.seal(b"", last=True), last=True)


def test_a_chunk_is_sealed_under_its_number_and_whether_it_is_the_last() -> None:
    """The construction as the specification has it, written out once more."""
    key = HKDF(SHA256(), 32, bytes(NONCE), b"payload").derive(bytes(16))
    aead = ChaCha20Poly1305(key)
    first, second = sealed(2)
    assert aead.decrypt(bytes(11) + b"\x00", first, None) == bytes(CHUNK)
    assert aead.decrypt(bytes(10) + b"\x01\x01", second, None) == bytes(100)
