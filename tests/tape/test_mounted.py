import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from restore_lib.errors import CorruptTapeFile, ForeignTape, MediumError, UnknownFormat
from restore_lib.library.base import Drive
from restore_lib.library.faults import Faults, write_faults
from restore_lib.library.virtual import VirtualLibrary
from restore_lib.tape.age import Recipients, new_identity
from restore_lib.tape.label import Label, encode_label
from restore_lib.tape.members import MemberMeta
from restore_lib.tape.mounted import blocks, first_file, read_label, sealed_index
from restore_lib.tape.segment import SegmentSummary, SegmentWriter

AT = datetime(2030, 1, 1, tzinfo=UTC)
LABEL = Label("V00001", "test", "gold-00001", 2, 1, 0, 512, AT, ("age1x",))


@pytest.fixture
def library(tmp_path: Path) -> VirtualLibrary:
    made = VirtualLibrary.create(
        tmp_path / "tapes", slots=2, drives=1, import_export=1, capacity_bytes=1 << 20
    )
    made.add_blank(["V00001"])
    return made


@pytest.fixture
def drive(library: VirtualLibrary) -> Iterator[Drive]:
    yield library.load("V00001", 0, 1)
    library.unload(0, 2)


def write(drive: Drive, data: bytes, *, filemark: bool = True) -> None:
    for start in range(0, len(data), 512):
        drive.write(data[start : start + 512])
    if filemark:
        drive.write_filemark()


def segment(folder: Path) -> tuple[bytes, SegmentSummary]:
    recipients = Recipients.parse([new_identity()[1]])
    with SegmentWriter(folder / "segment", block_size=512, recipients=recipients) as writer:
        for number in range(5):
            meta = MemberMeta(store="live", key=b"%d" % number, version=None, modified_at=AT)
            writer.add(meta, io.BytesIO(bytes(700)), size=700)
        summary = writer.finish()
    return (folder / "segment").read_bytes(), summary


def test_a_blank_tape_has_no_label(drive: Drive) -> None:
    assert read_label(drive) is None
    assert first_file(drive) == (b"", False)


def test_a_label_is_read_and_the_head_is_behind_its_filemark(drive: Drive) -> None:
    write(drive, encode_label(LABEL))
    assert read_label(drive) == LABEL
    assert (drive.position().file, drive.position().block) == (1, 0)
    assert first_file(drive) == (encode_label(LABEL), True)


def test_a_label_without_its_filemark_is_told_apart(drive: Drive) -> None:
    write(drive, encode_label(LABEL), filemark=False)
    assert read_label(drive) == LABEL
    assert first_file(drive) == (encode_label(LABEL), False)


@pytest.mark.parametrize("content", [b"", b"no archive".ljust(512, b"\0")])
def test_another_first_tape_file_is_foreign(drive: Drive, content: bytes) -> None:
    write(drive, content)
    with pytest.raises(ForeignTape, match="Volume V00001"):
        read_label(drive)


def test_a_damaged_label_is_foreign_because_it_is_corrupt(drive: Drive) -> None:
    write(drive, encode_label(LABEL)[:1024])
    with pytest.raises(ForeignTape) as caught:
        read_label(drive)
    assert isinstance(caught.value.__cause__, CorruptTapeFile)


def test_a_label_of_a_later_format_is_unknown(drive: Drive) -> None:
    write(drive, encode_label(LABEL).replace(b'"format":1', b'"format":9'))
    with pytest.raises(UnknownFormat, match="format 9"):
        read_label(drive)


def test_of_a_huge_first_file_only_the_beginning_is_read(
    drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restore_lib.tape.mounted._MAX_LABEL", 2048)
    write(drive, bytes(20 * 512))
    data, _ = first_file(drive)
    assert len(data) == 2048 + 512


def test_blocks_end_at_the_filemark(drive: Drive) -> None:
    write(drive, b"a" * 1024)
    write(drive, b"b" * 512)
    drive.rewind()
    assert list(blocks(drive)) == [b"a" * 512] * 2
    assert list(blocks(drive)) == [b"b" * 512]


def test_the_sealed_index_of_a_segment_is_read_from_its_place(drive: Drive, tmp_path: Path) -> None:
    data, summary = segment(tmp_path)
    write(drive, encode_label(LABEL))
    write(drive, bytes(512))
    write(drive, data)
    assert sealed_index(drive, 512, 2, summary.index_offset) == summary.sealed_index


@pytest.mark.parametrize(("file", "shift"), [(1, -1024), (1, 512), (1, 100_000), (9, 0)])
def test_where_there_is_no_index_it_is_a_medium_error(
    drive: Drive, tmp_path: Path, file: int, shift: int
) -> None:
    data, summary = segment(tmp_path)
    write(drive, encode_label(LABEL))
    write(drive, data)
    with pytest.raises(MediumError, match="of volume V00001 has no sound INDEX"):
        sealed_index(drive, 512, file, summary.index_offset + shift)


def test_an_index_that_is_not_as_it_was_written_is_a_medium_error(
    drive: Drive, tmp_path: Path
) -> None:
    data, summary = segment(tmp_path)
    for place in (0, len(summary.sealed_index) - 1):
        flipped = bytearray(data)
        flipped[summary.index_offset + place] ^= 1
        drive.rewind()
        write(drive, encode_label(LABEL))
        write(drive, bytes(flipped))
        with pytest.raises(MediumError, match="no sound INDEX"):
            sealed_index(drive, 512, 1, summary.index_offset)


def test_an_index_in_a_bad_block_is_a_medium_error(library: VirtualLibrary, tmp_path: Path) -> None:
    data, summary = segment(tmp_path)
    drive = library.load("V00001", 0, 1)
    write(drive, encode_label(LABEL))
    write(drive, data)
    library.unload(0, 1)
    [image] = tmp_path.rglob("V00001.tap")
    last = summary.index_offset // 512
    write_faults(image, Faults(unreadable_blocks=((1, last, last),)))
    with pytest.raises(MediumError):
        sealed_index(library.load("V00001", 0, 2), 512, 1, summary.index_offset)
