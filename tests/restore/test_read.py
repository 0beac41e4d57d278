from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_lib.errors import MediumError
from restore_lib.library.base import Drive
from restore_lib.library.faults import Faults, write_faults
from restore_lib.library.virtual import VirtualLibrary
from restore_lib.restore.read import TapeReader

SIZE = 16
FILES = {
    0: b"L" * SIZE,
    1: b"".join(bytes([n]) * SIZE for n in range(20)),
    2: b"".join(bytes([100 + n]) * SIZE for n in range(15)),
}


def fill(root: Path) -> VirtualLibrary:
    library = VirtualLibrary.create(
        root, slots=2, drives=1, import_export=1, capacity_bytes=1 << 20
    )
    library.add_blank(["V00001"])
    drive = library.load("V00001", 0, 1)
    for content in FILES.values():
        for start in range(0, len(content), SIZE):
            drive.write(content[start : start + SIZE])
        drive.write_filemark()
    library.unload(0, 1)
    return library


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> VirtualLibrary:
    return fill(tmp_path_factory.mktemp("tape"))


@pytest.fixture
def library(tmp_path: Path) -> VirtualLibrary:
    return fill(tmp_path)


def load(library: VirtualLibrary, *bad: tuple[int, int, int]) -> Drive:
    [image] = library.root.rglob("V00001.tap")
    write_faults(image, Faults(unreadable_blocks=bad))
    return library.load("V00001", 0, 2)


RANGES = st.lists(
    st.sampled_from([1, 2]).flatmap(
        lambda file: st.tuples(st.just(file), st.integers(0, len(FILES[file])), st.integers(0, 100))
    ),
    max_size=12,
)


@settings(max_examples=60)
@given(ranges=RANGES)
def test_any_ranges_in_any_order_are_the_bytes_of_the_tape(
    written: VirtualLibrary, ranges: list[tuple[int, int, int]]
) -> None:
    reader = TapeReader(load(written), SIZE)
    for file, offset, wanted in ranges:
        size = min(wanted, len(FILES[file]) - offset)
        data = b"".join(reader.range(file, offset, size))
        assert data == FILES[file][offset : offset + size]
    assert reader.bad == set()


def test_a_bad_block_spoils_only_the_ranges_that_need_it(library: VirtualLibrary) -> None:
    reader = TapeReader(load(library, (1, 5, 6)), SIZE)
    assert b"".join(reader.range(1, 3 * SIZE, 2 * SIZE)) == FILES[1][3 * SIZE : 5 * SIZE]
    with pytest.raises(MediumError, match="Block 5 of tape file 1 of volume V00001"):
        list(reader.range(1, 4 * SIZE, 3 * SIZE))
    assert reader.bad == {(1, 5)}
    assert b"".join(reader.range(1, 7 * SIZE, SIZE)) == bytes([7]) * SIZE


def test_a_bad_block_that_is_only_passed_over_spoils_nothing(library: VirtualLibrary) -> None:
    reader = TapeReader(load(library, (1, 5, 6)), SIZE)
    assert list(reader.range(1, 4 * SIZE, SIZE)) == [bytes([4]) * SIZE]
    assert list(reader.range(1, 8 * SIZE, SIZE)) == [bytes([8]) * SIZE]
    assert reader.bad == set()


class Counting:
    """A drive that counts how often the head is sent somewhere."""

    def __init__(self, drive: Drive) -> None:
        self._drive = drive
        self.number = drive.number
        self.located = 0
        self.barcode = drive.barcode
        self.rewind = drive.rewind
        self.read = drive.read
        self.position = drive.position
        self.space_to_end = drive.space_to_end
        self.write = drive.write
        self.write_filemark = drive.write_filemark

    def locate(self, file: int, block: int = 0) -> None:
        self.located += 1
        self._drive.locate(file, block)


def test_near_ranges_are_read_through_and_far_ones_located(library: VirtualLibrary) -> None:
    drive = Counting(load(library))
    reader = TapeReader(drive, SIZE)
    for block in (0, 0, 1, 3, 9):
        list(reader.range(1, block * SIZE, SIZE))
    assert drive.located == 1
    list(reader.range(1, 19 * SIZE, SIZE))
    list(reader.range(1, 2 * SIZE, SIZE))
    assert drive.located == 3


def test_a_known_bad_block_is_not_tried_again(library: VirtualLibrary) -> None:
    drive = Counting(load(library, (1, 5, 5)))
    reader = TapeReader(drive, SIZE)
    for _ in range(3):
        with pytest.raises(MediumError):
            list(reader.blocks(1, 5, 1))
    assert drive.located == 1


@pytest.mark.parametrize("block", [20, 25])
def test_a_tape_file_that_ends_before_is_a_medium_error(
    library: VirtualLibrary, block: int
) -> None:
    reader = TapeReader(load(library), SIZE)
    list(reader.blocks(1, 19, 1))
    with pytest.raises(MediumError):
        list(reader.blocks(1, block, 1))


def test_a_tape_that_ends_before_is_a_medium_error(library: VirtualLibrary) -> None:
    with pytest.raises(MediumError):
        list(TapeReader(load(library), SIZE).blocks(7, 0, 1))


def test_a_record_of_another_size_is_a_medium_error(library: VirtualLibrary) -> None:
    with pytest.raises(MediumError):
        list(TapeReader(load(library), SIZE * 2).blocks(1, 0, 1))
