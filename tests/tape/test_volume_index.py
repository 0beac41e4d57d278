import hashlib
import io
import json
from pathlib import Path

import pytest

from restore_lib.errors import CorruptTapeFile, UnknownFormat
from restore_lib.tape import tar
from restore_lib.tape.volume_index import (
    Stripe,
    StripeMember,
    StripeTable,
    TapeFile,
    VolumeIndex,
    begins_closing_file,
    decode_stripe_table,
    encode_stripe_table,
    read_volume_index,
    sealed_name,
    write_volume_index,
)
from tests.tape.conftest import BLOCK

SEALED = [(1, b"first" * 300), (2, b"second")]
INDEX = VolumeIndex("TF0001L9", "set-0001", (TapeFile(1, 10, "ab" * 32), TapeFile(2, 0, "cd" * 32)))
TABLE = StripeTable(
    barcode="TF0005L9",
    tape_set="set-0001",
    k=2,
    m=1,
    position=2,
    block_size=BLOCK,
    stripes=(
        Stripe(
            1,
            (
                StripeMember(0, "TF0001L9", 10, "ab" * 32),
                StripeMember(1, "TF0002L9", 9, "cd" * 32),
                StripeMember(2, "TF0005L9", 10, "ef" * 32),
            ),
        ),
        Stripe(2, (StripeMember(0, "TF0001L9", 3, "01" * 32),)),
    ),
)


def read_all(data: bytes) -> tuple[VolumeIndex, list[tuple[int, bytes]]]:
    index, sealed = read_volume_index(io.BytesIO(data))
    return index, list(sealed)


def members_of(data: bytes) -> dict[str, bytes]:
    return {entry.name: entry.read() for entry in tar.entries(io.BytesIO(data))}


def test_a_closing_file_is_known_by_its_first_block(tmp_path: Path) -> None:
    write_volume_index(tmp_path / "index", INDEX, iter(SEALED), BLOCK)
    index, table = (tmp_path / "index").read_bytes()[:BLOCK], encode_stripe_table(TABLE)[:BLOCK]
    assert begins_closing_file(index, is_parity=False)
    assert begins_closing_file(table, is_parity=True)
    for block in (table, b"\xff" * BLOCK, b"VOLUME", b""):
        assert not begins_closing_file(block, is_parity=False)
    assert not begins_closing_file(index, is_parity=True)


@pytest.fixture
def written(tmp_path: Path) -> bytes:
    summary = write_volume_index(tmp_path / "index", INDEX, iter(SEALED), BLOCK)
    data = (tmp_path / "index").read_bytes()
    assert summary == TapeFile(3, len(data) // BLOCK, hashlib.sha256(data).hexdigest())
    assert len(data) % BLOCK == 0
    return data


def test_a_volume_index_reads_back(written: bytes) -> None:
    assert read_all(written) == (INDEX, SEALED)


def test_a_volume_without_segments_has_an_index_too(tmp_path: Path) -> None:
    empty = VolumeIndex("TF0001L9", "set-0001", ())
    write_volume_index(tmp_path / "index", empty, [], BLOCK)
    assert read_all((tmp_path / "index").read_bytes()) == (empty, [])


def test_a_volume_index_has_the_documented_members(written: bytes) -> None:
    members = members_of(written)
    assert list(members) == [
        "VOLUME-INDEX.json",
        "segments/00000001/INDEX.jsonl.zst.age",
        "segments/00000002/INDEX.jsonl.zst.age",
        "MANIFEST.sha256",
    ]
    assert json.loads(members["VOLUME-INDEX.json"]) == {
        "format": 1,
        "barcode": "TF0001L9",
        "tape_set": "set-0001",
        "segments": 2,
        "files": [
            {"file": 1, "blocks": 10, "sha256": "ab" * 32},
            {"file": 2, "blocks": 0, "sha256": "cd" * 32},
        ],
    }


@pytest.mark.parametrize("given", [SEALED[:1], SEALED[::-1], [*SEALED, (3, b"")]])
def test_indexes_that_do_not_fit_are_refused(
    tmp_path: Path, given: list[tuple[int, bytes]]
) -> None:
    with pytest.raises(ValueError, match="are needed"):
        write_volume_index(tmp_path / "index", INDEX, given, BLOCK)


def test_damage_to_a_volume_index_is_named(written: bytes) -> None:
    for payload, name in [(b"second", sealed_name(2)), (b'"TF0001L9"', "VOLUME-INDEX.json")]:
        damaged = bytearray(written)
        damaged[written.index(payload) + 3] ^= 1
        with pytest.raises(CorruptTapeFile, match=name):
            read_all(bytes(damaged))


@pytest.mark.parametrize("missing", ["VOLUME-INDEX.json", sealed_name(1), "MANIFEST.sha256"])
def test_a_volume_index_without_a_member_is_corrupt(written: bytes, missing: str) -> None:
    members = members_of(written)
    del members[missing]
    with pytest.raises(CorruptTapeFile, match=missing):
        read_all(tar.archive(members, BLOCK))


def test_a_volume_index_with_more_or_cut_short_is_corrupt(written: bytes) -> None:
    with pytest.raises(CorruptTapeFile, match="behind"):
        read_all(tar.archive(members_of(written) | {"more": b""}, BLOCK))
    for size in (0, 700, 2500):
        with pytest.raises(CorruptTapeFile):
            read_all(written[:size])


def test_a_wrong_count_of_segments_is_corrupt(written: bytes) -> None:
    members = members_of(written)
    header = json.loads(members["VOLUME-INDEX.json"]) | {"segments": 3}
    with pytest.raises(CorruptTapeFile, match="segments"):
        read_all(tar.archive(members | {"VOLUME-INDEX.json": json.dumps(header).encode()}, BLOCK))


def test_another_format_is_unknown(written: bytes) -> None:
    members = members_of(written) | {"VOLUME-INDEX.json": b'{"format": 2}'}
    with pytest.raises(UnknownFormat, match="format 2"):
        read_all(tar.archive(members, BLOCK))
    with pytest.raises(UnknownFormat, match="format 2"):
        decode_stripe_table(io.BytesIO(stripes(b'{"format": 2}')))


def stripes(data: bytes) -> bytes:
    manifest = tar.manifest_line("STRIPES.json", tar.sha256_of(data)).encode()
    return tar.archive({"STRIPES.json": data, "MANIFEST.sha256": manifest}, BLOCK)


def test_a_stripe_table_reads_back() -> None:
    encoded = encode_stripe_table(TABLE)
    assert len(encoded) % BLOCK == 0
    assert decode_stripe_table(io.BytesIO(encoded)) == TABLE


def test_damage_to_a_stripe_table_is_found() -> None:
    encoded = encode_stripe_table(TABLE)
    damaged = encoded.replace(b"TF0002L9", b"TF0003L9")
    with pytest.raises(CorruptTapeFile, match=r"STRIPES\.json"):
        decode_stripe_table(io.BytesIO(damaged))
    with pytest.raises(CorruptTapeFile, match=r"STRIPES\.json"):
        decode_stripe_table(io.BytesIO(tar.archive({"STRIPES.json": b"{}"}, BLOCK)))


@pytest.mark.parametrize("change", [{"k": 0}, {"stripes": [{}]}, {"stripes": [{"stripe": 1}]}])
def test_a_stripe_table_with_a_bad_field_is_corrupt(change: dict[str, object]) -> None:
    good = json.loads(members_of(encode_stripe_table(TABLE))["STRIPES.json"])
    with pytest.raises(CorruptTapeFile, match=r"STRIPES\.json"):
        decode_stripe_table(io.BytesIO(stripes(json.dumps(good | change).encode())))
