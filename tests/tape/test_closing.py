import io
from datetime import UTC, datetime
from pathlib import Path

import pytest

from restore_lib.errors import MediumError
from restore_lib.tape.closing import write_closing_file
from restore_lib.tape.label import Label
from restore_lib.tape.streams import digest_of
from restore_lib.tape.volume_index import StripeMember, decode_stripe_table, read_volume_index

BLOCK = 1024
MEMBERS = [
    (stripe, StripeMember(position, f"V{position}", stripe, f"{stripe}{position}" * 32))
    for stripe in (1, 2, 3)
    for position in range(3)
]


def label(position: int) -> Label:
    return Label(
        barcode=f"V{position}",
        cluster="test",
        tape_set="set",
        k=2,
        m=1,
        position=position,
        block_size=BLOCK,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        recipients=("age1x",),
    )


def sealed(number: int) -> bytes:
    return b"index of %d" % number


@pytest.mark.parametrize("position", [0, 1, 2])
def test_what_is_told_of_the_file_is_true(tmp_path: Path, position: int) -> None:
    told = write_closing_file(tmp_path / "closing", label(position), MEMBERS, sealed)
    with (tmp_path / "closing").open("rb") as written:
        assert digest_of(written) == (told.blocks * BLOCK, told.sha256)
    assert told.file == 4


def test_a_data_volume_gets_its_own_segments_indexes(tmp_path: Path) -> None:
    write_closing_file(tmp_path / "closing", label(1), MEMBERS, sealed)
    index, indexes = read_volume_index(io.BytesIO((tmp_path / "closing").read_bytes()))
    assert (index.barcode, index.tape_set) == ("V1", "set")
    own = [(stripe, member) for stripe, member in MEMBERS if member.position == 1]
    assert [(f.file, f.blocks, f.sha256) for f in index.files] == [
        (stripe, member.blocks, member.sha256) for stripe, member in own
    ]
    assert list(indexes) == [(stripe, sealed(stripe)) for stripe, _ in own]


def test_a_parity_volume_gets_the_whole_sets_tape_files(tmp_path: Path) -> None:
    write_closing_file(tmp_path / "closing", label(2), MEMBERS, sealed)
    table = decode_stripe_table(io.BytesIO((tmp_path / "closing").read_bytes()))
    assert (table.barcode, table.k, table.m, table.position) == ("V2", 2, 1, 2)
    assert [(s.stripe, m) for s in table.stripes for m in s.members] == MEMBERS


def test_an_index_that_can_not_be_read_is_not_passed_over(tmp_path: Path) -> None:
    def unreadable(number: int) -> bytes:
        raise MediumError(f"no index of {number}")

    with pytest.raises(MediumError, match="no index of 1"):
        write_closing_file(tmp_path / "closing", label(0), MEMBERS, unreadable)
