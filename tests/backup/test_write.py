import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import xxhash

from restore_lib.backup.write import append_files, check_label, label_volume, read_back
from restore_lib.errors import ForeignTape, MediumError, TapeLostData
from restore_lib.library.base import Drive
from restore_lib.library.virtual import VirtualLibrary
from restore_lib.tape.label import Label, encode_label
from restore_lib.tape.mounted import blocks, read_label
from restore_lib.tape.streams import new_checksum

LABEL = Label(
    barcode="TF0001L9",
    cluster="test",
    tape_set="gold-00001",
    k=2,
    m=1,
    position=0,
    block_size=512,
    created_at=datetime(2030, 1, 1, tzinfo=UTC),
    recipients=("age1x",),
)


@pytest.fixture
def library(tmp_path: Path) -> VirtualLibrary:
    made = VirtualLibrary.create(
        tmp_path / "tapes", slots=3, drives=1, import_export=1, capacity_bytes=100_000
    )
    made.add_blank([LABEL.barcode])
    return made


@pytest.fixture
def drive(library: VirtualLibrary) -> Iterator[Drive]:
    yield library.load(LABEL.barcode, 0, 1)
    library.unload(0, 1)


def staged(folder: Path, *contents: bytes) -> list[Path]:
    paths = [folder / f"file-{number}" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def tape_file(drive: Drive, number: int) -> bytes:
    drive.locate(number)
    return b"".join(blocks(drive))


def test_a_blank_volume_gets_its_label_once(drive: Drive) -> None:
    label_volume(drive, LABEL)
    first = tape_file(drive, 0)
    label_volume(drive, LABEL)
    assert first == tape_file(drive, 0) == encode_label(LABEL)
    assert drive.space_to_end().file == 1


@pytest.mark.parametrize("kept", [0, 1, 2, 1000])
def test_a_label_that_a_crash_cut_short_is_finished(drive: Drive, kept: int) -> None:
    data = encode_label(LABEL)
    for start in range(0, min(len(data), kept * 512), 512):
        drive.write(data[start : start + 512])
    label_volume(drive, LABEL)
    assert read_label(drive) == LABEL
    assert drive.space_to_end().file == 1


FORMER = replace(LABEL, tape_set="gold-00000", position=2, block_size=1024)


def write_former(drive: Drive, label: Label, data: int = 3) -> None:
    """Make the volume one that holds data of another set."""
    encoded = encode_label(label)
    drive.rewind()
    for start in range(0, len(encoded), label.block_size):
        drive.write(encoded[start : start + label.block_size])
    drive.write_filemark()
    for number in range(data):
        drive.write(bytes([number]) * label.block_size)
        drive.write_filemark()


def test_the_label_of_a_reclaimed_set_is_written_over(drive: Drive) -> None:
    write_former(drive, FORMER)
    label_volume(drive, LABEL, FORMER.tape_set)
    assert read_label(drive) == LABEL
    assert drive.space_to_end().file == 1
    label_volume(drive, LABEL, FORMER.tape_set)
    assert read_label(drive) == LABEL


@pytest.mark.parametrize(
    "label",
    [
        replace(FORMER, tape_set="gold-00002"),
        replace(FORMER, cluster="other"),
        replace(FORMER, barcode="TF0002L9"),
    ],
)
def test_no_other_label_is_written_over(drive: Drive, label: Label) -> None:
    write_former(drive, label)
    for former in (FORMER.tape_set, None):
        with pytest.raises(ForeignTape):
            label_volume(drive, LABEL, former)
    assert read_label(drive) == label
    assert drive.space_to_end().file == 4


@pytest.mark.parametrize("first_block", [b"GNU tar", b""])
def test_no_other_tape_is_written_over(drive: Drive, first_block: bytes) -> None:
    if first_block:
        drive.write(first_block.ljust(512, b"\0"))
    drive.write_filemark()
    with pytest.raises(ForeignTape):
        label_volume(drive, LABEL, FORMER.tape_set)


@pytest.mark.parametrize("kept", [0, 1, 3, 1000])
def test_a_relabelling_that_a_crash_cut_short_is_finished(drive: Drive, kept: int) -> None:
    write_former(drive, FORMER)
    drive.rewind()
    data = encode_label(LABEL)
    for start in range(0, min(len(data), kept * 512), 512):
        drive.write(data[start : start + 512])
    label_volume(drive, LABEL, FORMER.tape_set)
    assert read_label(drive) == LABEL
    assert drive.space_to_end().file == 1


@pytest.mark.parametrize("with_filemark", [True, False])
def test_what_is_not_ours_is_never_written_over(drive: Drive, with_filemark: bool) -> None:
    drive.write(b"GNU tar".ljust(512, b"\0"))
    if with_filemark:
        drive.write_filemark()
    end = drive.space_to_end()
    with pytest.raises(ForeignTape):
        label_volume(drive, LABEL)
    assert drive.space_to_end() == end


def test_a_tape_that_begins_with_a_filemark_is_foreign(drive: Drive) -> None:
    drive.write_filemark()
    with pytest.raises(ForeignTape):
        label_volume(drive, LABEL)


@pytest.mark.parametrize(
    "other",
    [{"cluster": "x"}, {"barcode": "TF0009L9"}, {"tape_set": "gold-00002"}, {"position": 1}],
)
def test_the_label_of_another_volume_is_foreign(drive: Drive, other: dict[str, object]) -> None:
    label_volume(drive, replace(LABEL, **other))  # type: ignore[arg-type]  # a test's shorthand
    before = tape_file(drive, 0)
    with pytest.raises(ForeignTape, match="TF0001L9"):
        label_volume(drive, LABEL)
    assert tape_file(drive, 0) == before


def test_a_blank_volume_where_a_label_is_expected_has_lost_data() -> None:
    with pytest.raises(TapeLostData):
        check_label(None, LABEL)


def test_files_are_appended_behind_the_committed_ones(drive: Drive, tmp_path: Path) -> None:
    label_volume(drive, LABEL)
    first, second, third = os.urandom(1024), os.urandom(512), os.urandom(5120)
    assert append_files(drive, LABEL, 0, staged(tmp_path, first, second)) == 2
    assert append_files(drive, LABEL, 1, staged(tmp_path, third)) == 1
    assert tape_file(drive, 1) == first
    assert tape_file(drive, 2) == third
    assert drive.space_to_end().file == 3


def test_a_tape_that_ends_too_early_is_not_written(drive: Drive, tmp_path: Path) -> None:
    label_volume(drive, LABEL)
    append_files(drive, LABEL, 0, staged(tmp_path, bytes(512)))
    end = drive.space_to_end()
    with pytest.raises(TapeLostData, match="ends after tape file 1; the catalog has 2"):
        append_files(drive, LABEL, 2, staged(tmp_path, bytes(512)))
    assert drive.space_to_end() == end


def test_a_full_volume_tells_how_much_fitted(drive: Drive, tmp_path: Path) -> None:
    label_volume(drive, LABEL)
    paths = staged(tmp_path, bytes(20_480), bytes(20_480), bytes(81_920), bytes(512))
    assert append_files(drive, LABEL, 0, paths) == 2
    read_back(drive, LABEL, 0, [(40, hashlib.sha256(bytes(20_480)).hexdigest())] * 2)


def test_what_does_not_read_back_is_a_medium_error(drive: Drive, tmp_path: Path) -> None:
    label_volume(drive, LABEL)
    contents = [os.urandom(1024), os.urandom(2048)]
    append_files(drive, LABEL, 0, staged(tmp_path, *contents))
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    read_back(drive, LABEL, 0, [(2, digests[0]), (4, digests[1])])
    wrong = ["0" * 64, digests[1]], [digests[0], "0" * 64]
    for first, second in wrong:
        with pytest.raises(MediumError, match="does not read back"):
            read_back(drive, LABEL, 0, [(2, first), (4, second)])
    sums = [xxhash.xxh3_128_hexdigest(content) for content in contents]
    read_back(drive, LABEL, 0, [(2, sums[0]), (4, sums[1])], new_checksum)
    with pytest.raises(MediumError, match="Tape file 2"):
        read_back(drive, LABEL, 0, [(2, sums[0]), (4, sums[0])], new_checksum)
    with pytest.raises(MediumError):
        read_back(drive, LABEL, 0, [(3, digests[0])])
    with pytest.raises(MediumError, match="Tape file 3"):
        read_back(drive, LABEL, 2, [(1, digests[0])])
