import hashlib
import io
import os

import pytest
import zstandard

from restore_lib.errors import DigestMismatch, KeyUnusable
from restore_lib.tape.age import encrypt
from restore_lib.tape.members import Member
from restore_lib.tape.payload import (
    SMALL,
    Compressor,
    Decompressor,
    decode_payload,
    restore_payload,
    stored_bound,
)
from tests.tape.conftest import Keys, meta

TEXT = b"neighbours stay together " * 400


def sealed(plaintext: bytes, keys: Keys) -> tuple[Member, bytes]:
    stored, compressed = Compressor().seal(plaintext, keys.recipients)
    digests = (hashlib.sha256(plaintext).hexdigest(), hashlib.sha256(stored).hexdigest())
    return Member(
        0, compressed, len(plaintext), digests[0], len(stored), digests[1], 512, meta()
    ), stored


@pytest.mark.parametrize("plaintext", [b"", b"x", os.urandom(5000), TEXT])
def test_a_small_payload_comes_back(keys: Keys, plaintext: bytes) -> None:
    member, stored = sealed(plaintext, keys)
    assert member.compressed == (plaintext == TEXT)
    assert len(stored) <= stored_bound(len(plaintext), 1)
    back = io.BytesIO()
    restore_payload(member, io.BytesIO(stored), back, keys.identities)
    assert back.getvalue() == plaintext


@pytest.mark.parametrize("compressed", [False, True])
def test_a_large_payload_comes_back_and_keeps_its_bound(keys: Keys, *, compressed: bool) -> None:
    plaintext = os.urandom(SMALL + 12345)
    stored, back = io.BytesIO(), io.BytesIO()
    Compressor().seal_stream(io.BytesIO(plaintext), stored, keys.recipients, compressed=compressed)
    assert len(stored.getvalue()) <= stored_bound(len(plaintext), 1)
    stored.seek(0)
    found = decode_payload(stored, back, keys.identities, compressed=compressed)
    assert back.getvalue() == plaintext
    assert (found.size, found.sha256) == (len(plaintext), hashlib.sha256(plaintext).hexdigest())
    assert found.stored_sha256 == hashlib.sha256(stored.getvalue()).hexdigest()
    assert found.stored_size == len(stored.getvalue())


def test_zeros_do_not_fill_the_memory(keys: Keys) -> None:
    class Largest:
        largest = 0

        def write(self, data: bytes, /) -> int:
            self.largest = max(self.largest, len(data))
            return len(data)

    packed = zstandard.compress(bytes(64 << 20))
    sink = Largest()
    stored = io.BytesIO(encrypt(packed, keys.recipients))
    assert decode_payload(stored, sink, keys.identities, compressed=True).size == 64 << 20
    assert sink.largest <= 1 << 20


@pytest.mark.parametrize("plaintext", [b"", b"x", os.urandom(5000), TEXT])
def test_a_small_payload_is_unsealed_in_memory(keys: Keys, plaintext: bytes) -> None:
    stored, compressed = Compressor().seal(plaintext, keys.recipients)
    size = len(plaintext)
    for limit in (size, 2 * size):
        found = Decompressor().unseal(
            stored, keys.identities, compressed=compressed, size=limit, what="it"
        )
        assert found == plaintext


@pytest.mark.parametrize("tells_its_size", [False, True])
def test_what_unpacks_to_more_than_it_should_does_not_fill_the_memory(
    keys: Keys, *, tells_its_size: bool
) -> None:
    compressor = zstandard.ZstdCompressor(write_content_size=tells_its_size)
    stored = encrypt(compressor.compress(bytes(64 << 20)), keys.recipients)
    found = Decompressor().unseal(stored, keys.identities, compressed=True, size=1000, what="it")
    assert found == bytes(1001)


@pytest.mark.parametrize("packed", [b"", b"not zstd at all", zstandard.compress(TEXT)[:-3]])
def test_what_is_not_zstd_is_not_unsealed(keys: Keys, packed: bytes) -> None:
    stored = encrypt(packed, keys.recipients)
    try:
        found = Decompressor().unseal(
            stored, keys.identities, compressed=True, size=len(TEXT), what="it"
        )
    except DigestMismatch as error:
        assert "it does not decompress" in error.message  # noqa: PT017 - one of two good ends
    else:
        assert len(found) < len(TEXT)


def test_any_altered_byte_is_found_and_never_taken_for_a_wrong_key(keys: Keys) -> None:
    member, stored = sealed(TEXT, keys)
    for at in range(len(stored)):
        damaged = bytearray(stored)
        damaged[at] ^= 0x20
        with pytest.raises(DigestMismatch, match=member.name):
            restore_payload(member, io.BytesIO(damaged), io.BytesIO(), keys.identities)


def test_a_wrong_key_on_sound_bytes_is_said_so(keys: Keys, other_keys: Keys) -> None:
    member, stored = sealed(TEXT, keys)
    with pytest.raises(KeyUnusable, match=member.name):
        restore_payload(member, io.BytesIO(stored), io.BytesIO(), other_keys.identities)


def test_another_payload_of_the_same_key_is_found(keys: Keys) -> None:
    member, _ = sealed(TEXT, keys)
    _, other = sealed(TEXT + b"!", keys)
    with pytest.raises(DigestMismatch, match="stored bytes"):
        restore_payload(member, io.BytesIO(other), io.BytesIO(), keys.identities)


@pytest.mark.parametrize("packed", [b"not zstd at all", zstandard.compress(TEXT)[:-3]])
def test_plaintext_that_is_not_what_the_index_says_is_found(keys: Keys, packed: bytes) -> None:
    stored = encrypt(packed, keys.recipients)
    digest = hashlib.sha256(stored).hexdigest()
    plain = hashlib.sha256(TEXT).hexdigest()
    member = Member(0, True, len(TEXT), plain, len(stored), digest, 512, meta())
    with pytest.raises(DigestMismatch, match=member.name):
        restore_payload(member, io.BytesIO(stored), io.BytesIO(), keys.identities)
