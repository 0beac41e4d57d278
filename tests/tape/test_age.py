import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_lib.errors import ConfigError, DigestMismatch, KeyUnusable
from restore_lib.tape.age import (
    Recipients,
    ciphertext_size,
    decrypt,
    decrypt_stream,
    encrypt,
    encrypt_stream,
    load_identities,
    new_identity,
)
from tests.tape.conftest import Keys


class Broken:
    """A stream that fails after some bytes."""

    def __init__(self, good: int) -> None:
        self.good = good

    def read(self, size: int = -1, /) -> bytes:
        self.good -= size
        if self.good < 0:
            raise LookupError("the source broke")
        return bytes(size)

    def write(self, data: bytes, /) -> int:
        self.good -= len(data)
        if self.good < 0:
            raise LookupError("the sink broke")
        return len(data)


@given(data=st.binary(max_size=300), repeat=st.sampled_from([1, 1000]))
def test_what_is_encrypted_comes_back(keys: Keys, data: bytes, repeat: int) -> None:
    plaintext = data * repeat
    ciphertext = encrypt(plaintext, keys.recipients)
    assert decrypt(ciphertext, keys.identities, what="it") == plaintext
    assert len(ciphertext) <= ciphertext_size(len(plaintext), 1)


def test_every_recipient_can_open_it(keys: Keys, other_keys: Keys) -> None:
    both = Recipients.parse([keys.recipient, other_keys.recipient])
    for _ in range(200):
        ciphertext = encrypt(b"x", both)
        assert len(ciphertext) <= ciphertext_size(1, 2)
    for holder in (keys, other_keys):
        assert decrypt(ciphertext, holder.identities, what="it") == b"x"


def test_streams_and_bytes_are_the_same_format(keys: Keys) -> None:
    plaintext = bytes(range(256)) * 2000
    sink, back = io.BytesIO(), io.BytesIO()
    encrypt_stream(io.BytesIO(plaintext), sink, keys.recipients)
    assert decrypt(sink.getvalue(), keys.identities, what="it") == plaintext
    decrypt_stream(
        io.BytesIO(encrypt(plaintext, keys.recipients)), back, keys.identities, what="it"
    )
    assert back.getvalue() == plaintext


def test_a_wrong_key_is_told_from_damage(keys: Keys, other_keys: Keys) -> None:
    ciphertext = encrypt(bytes(1000), keys.recipients)
    with pytest.raises(KeyUnusable, match="objects/1") as refused:
        decrypt(ciphertext, other_keys.identities, what="objects/1")
    assert other_keys.recipient in str(refused.value)
    assert "SECRET" not in str(refused.value)
    with pytest.raises(KeyUnusable, match="no identity"):
        decrypt(ciphertext, [], what="objects/1")


@pytest.mark.parametrize("cut", [0, 1, 30, 150, 200, 400, -1, -16, -100])
def test_a_short_ciphertext_is_damage(keys: Keys, cut: int) -> None:
    ciphertext = encrypt(bytes(1000), keys.recipients)
    with pytest.raises(DigestMismatch, match="objects/1"):
        decrypt(ciphertext[:cut], keys.identities, what="objects/1")


def test_an_altered_ciphertext_is_damage(keys: Keys) -> None:
    ciphertext = bytearray(encrypt(bytes(200_000), keys.recipients))
    ciphertext[100_000] ^= 1
    with pytest.raises(DigestMismatch, match="objects/1"):
        decrypt(bytes(ciphertext), keys.identities, what="objects/1")


@pytest.mark.parametrize("good", [0, 100_000])
def test_what_a_stream_raises_passes_unchanged(keys: Keys, good: int) -> None:
    ciphertext = encrypt(bytes(300_000), keys.recipients)
    whole = io.BytesIO
    with pytest.raises(LookupError, match="the source broke"):
        encrypt_stream(Broken(good), whole(), keys.recipients)
    with pytest.raises(LookupError, match="the sink broke"):
        encrypt_stream(whole(bytes(300_000)), Broken(good), keys.recipients)
    with pytest.raises(LookupError, match="the sink broke"):
        decrypt_stream(whole(ciphertext), Broken(good), keys.identities, what="it")
    with pytest.raises(LookupError, match="the source broke"):
        decrypt_stream(Broken(0), whole(), keys.identities, what="it")


def test_a_bad_recipient_is_named(keys: Keys) -> None:
    with pytest.raises(ConfigError, match="age1nonsense"):
        Recipients.parse([keys.recipient, "age1nonsense"])
    with pytest.raises(ConfigError, match="No age recipient"):
        Recipients.parse([])


def test_a_secret_given_as_recipient_is_not_shown(keys: Keys) -> None:
    secret = keys.path.read_text().splitlines()[-1]
    with pytest.raises(ConfigError) as refused:
        Recipients.parse([secret])
    assert secret not in str(refused.value)
    assert "age-keygen -y" in refused.value.remedy


def test_an_identity_file_may_hold_several_with_comments(tmp_path: Path) -> None:
    (first, one), (second, two) = new_identity(), new_identity()
    path = tmp_path / "keys.txt"
    path.write_text(f"# the operating key\n\n{first}\n  \n{second}")
    assert [identity.recipient for identity in load_identities(path)] == [one, two]


def test_a_secret_is_never_in_a_repr(keys: Keys) -> None:
    (identity,) = keys.identities
    secret = keys.path.read_text().splitlines()[-1]
    for shown in (repr(identity), str(identity), f"{identity}", repr([identity])):
        assert keys.recipient in shown
        assert secret not in shown


def test_an_unusable_identity_file_is_named(tmp_path: Path) -> None:
    missing, empty, bad, binary = (tmp_path / name for name in ("none", "empty", "bad", "bin"))
    empty.write_text("# nothing here\n")
    bad.write_text("# a comment\nAGE-SECRET-KEY-1TYPO\n")
    binary.write_bytes(b"\xff\xfe")
    for path in (missing, empty, bad, binary, tmp_path):
        with pytest.raises(KeyUnusable, match=str(path)) as refused:
            load_identities(path)
        assert refused.value.remedy
        assert "TYPO" not in str(refused.value)
    with pytest.raises(KeyUnusable, match="Line 2"):
        load_identities(bad)
