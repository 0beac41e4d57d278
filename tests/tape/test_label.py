import io
import json
import tarfile
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_lib.errors import CorruptTapeFile, ForeignTape, UnknownFormat
from restore_lib.tape import tar
from restore_lib.tape.label import Label, check_geometry, decode_label, encode_label
from tests.tape.conftest import WHEN

LABEL = Label(
    barcode="TF0001L9",
    cluster="example",
    tape_set="set-0001",
    k=4,
    m=2,
    position=1,
    block_size=262_144,
    created_at=WHEN,
    recipients=("age1operating", "age1escrow"),
)


def with_volume(**changes: object) -> bytes:
    members = {e.name: e.read() for e in tar.entries(io.BytesIO(encode_label(LABEL)))}
    volume = json.loads(members["VOLUME.json"]) | changes
    kept = {name: value for name, value in volume.items() if value is not None}
    return sealed(members | {"VOLUME.json": json.dumps(kept).encode()})


def sealed(members: dict[str, bytes]) -> bytes:
    """Return a label with these members and a manifest that is true of them."""
    own = {name: data for name, data in members.items() if name != tar.MANIFEST}
    lines = [tar.manifest_line(name, tar.sha256_of(data)) for name, data in own.items()]
    return tar.archive(own | {tar.MANIFEST: "".join(lines).encode()}, LABEL.block_size)


@given(
    k=st.integers(1, 28),
    m=st.integers(0, 4),
    block_size=st.integers(1, 2048).map(lambda n: n * 512),
    data=st.data(),
)
def test_a_label_parses_back(k: int, m: int, block_size: int, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, k + m - 1))
    label = replace(
        LABEL, k=k, m=m, position=position, block_size=block_size, cluster=data.draw(st.text())
    )
    encoded = encode_label(label)
    assert len(encoded) % block_size == 0
    assert decode_label(encoded) == label


def test_a_label_has_the_documented_members_and_fields() -> None:
    with tarfile.open(fileobj=io.BytesIO(encode_label(LABEL))) as archive:
        assert archive.getnames() == ["VOLUME.json", "RESTORE.txt", "MANIFEST.sha256"]
        file = archive.extractfile("VOLUME.json")
        assert file is not None
        assert json.load(file) == {
            "format": 1,
            "barcode": "TF0001L9",
            "cluster": "example",
            "tape_set": "set-0001",
            "k": 4,
            "m": 2,
            "position": 1,
            "block_size": 262_144,
            "code": "isa_l_rs_cauchy",
            "created_at": "2012-11-05T09:30:00.250000Z",
            "recipients": ["age1operating", "age1escrow"],
        }


@pytest.mark.parametrize(
    "data",
    [b"", b"VOL1ABC123" + bytes(502), bytes(4096), tar.archive({"etc/passwd": b"x"}, 512)],
)
def test_what_is_no_label_is_foreign(data: bytes) -> None:
    with pytest.raises(ForeignTape):
        decode_label(data)


def test_another_format_is_unknown_whatever_else_it_has() -> None:
    with pytest.raises(UnknownFormat, match="format 2"):
        decode_label(with_volume(format=2, code="other", barcode=None))


@pytest.mark.parametrize(
    "changes",
    [
        {"barcode": None},
        {"barcode": "a/b"},
        {"k": 0},
        {"k": 29},
        {"m": 5},
        {"position": 6},
        {"block_size": 1000},
        {"created_at": "today"},
        {"recipients": "age1"},
        {"code": "xor"},
        {"format": None},
    ],
)
def test_a_label_with_a_bad_field_is_corrupt(changes: dict[str, object]) -> None:
    with pytest.raises(CorruptTapeFile, match=r"VOLUME\.json"):
        decode_label(with_volume(**changes))


@pytest.mark.parametrize("size", [512, 600, 1024, 1600, 5000])
def test_half_a_label_is_corrupt(size: int) -> None:
    with pytest.raises(CorruptTapeFile):
        decode_label(encode_label(LABEL)[:size])


def test_a_label_without_its_text_or_not_in_blocks_is_corrupt() -> None:
    volume = with_volume()[512:1024].rstrip(b"\0")
    with pytest.raises(CorruptTapeFile, match=r"RESTORE\.txt"):
        decode_label(tar.archive({"VOLUME.json": volume}, 512))
    with pytest.raises(CorruptTapeFile, match="whole number of blocks"):
        decode_label(encode_label(LABEL)[:-512])


def test_a_label_without_its_manifest_or_with_another_one_is_corrupt() -> None:
    members = {e.name: e.read() for e in tar.entries(io.BytesIO(encode_label(LABEL)))}
    assert sealed(members) == encode_label(LABEL)
    flipped = members["VOLUME.json"].replace(b'"example"', b'"exbmple"')
    with pytest.raises(CorruptTapeFile, match="not what its MANIFEST"):
        decode_label(tar.archive(members | {"VOLUME.json": flipped}, LABEL.block_size))
    del members[tar.MANIFEST]
    with pytest.raises(CorruptTapeFile, match="no MANIFEST"):
        decode_label(tar.archive(members, LABEL.block_size))


@pytest.mark.parametrize(("k", "m", "block"), [(0, 0, 512), (29, 1, 512), (1, 5, 512), (1, 1, 0)])
def test_a_set_that_the_format_does_not_have_is_refused(k: int, m: int, block: int) -> None:
    with pytest.raises(ValueError, match=r"tape set|block size"):
        check_geometry(k, m, block)


def test_parity_volumes_know_what_they_are() -> None:
    assert [replace(LABEL, position=p).is_parity for p in (0, 3, 4, 5)] == [
        False,
        False,
        True,
        True,
    ]
