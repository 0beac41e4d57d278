from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_lib.errors import MediumError
from restore_lib.library.base import Drive, Position, Range
from restore_lib.library.faults import Faults, write_faults
from restore_lib.library.lto import Geometry
from restore_lib.library.virtual import VirtualLibrary
from restore_lib.restore.layout import Layout
from restore_lib.restore.order import order
from restore_lib.restore.read import Pieces, TapeReader

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
        self.geometry = drive.geometry
        self.recommended: Sequence[int] | None = None

    def recommended_order(self, ranges: Sequence[Range]) -> Sequence[int] | None:
        return self.recommended

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


@given(pieces=st.lists(st.binary(max_size=9), max_size=8), size=st.integers(1, 12))
def test_pieces_are_read_as_one_stream(pieces: list[bytes], size: int) -> None:
    stream = Pieces(pieces)
    read = list(iter(lambda: stream.read(size), b""))
    assert b"".join(read) == b"".join(pieces)
    assert max(map(len, read), default=0) <= size
    stream = Pieces(pieces)
    assert stream.read(size) + stream.read() == b"".join(pieces)


TAPE = Geometry(
    capacity=40 * SIZE, wraps=8, bands=4, first_lpos=0, last_lpos=17_000, rate=float(SIZE)
)
"""Five blocks to a wrap, a block a second; a locate on one wrap takes 4.29 s and a bit."""
LAYOUT = Layout(TAPE, SIZE, {1: 20, 2: 15})


@pytest.mark.parametrize(
    ("place", "located"), [((1, 3), 1), ((1, 19), 1), ((1, 0), 2), ((2, 10), 2)]
)
def test_a_volume_with_a_layout_is_read_through_where_that_is_quicker(
    library: VirtualLibrary, place: tuple[int, int], located: int
) -> None:
    drive = Counting(load(library))
    reader = TapeReader(drive, SIZE, LAYOUT)
    list(reader.range(1, 0, SIZE))
    list(reader.blocks(1, 1, 1))
    file, block = place
    assert list(reader.blocks(file, block, 1)) == [FILES[file][block * SIZE :][:SIZE]]
    assert drive.located == located


@pytest.mark.parametrize("bad", [(), ((1, 19, 19),)])
def test_filemarks_are_read_through_and_bad_blocks_between_are_passed_over(
    library: VirtualLibrary, bad: tuple[tuple[int, int, int], ...]
) -> None:
    drive = Counting(load(library, *bad))
    reader = TapeReader(drive, SIZE, LAYOUT)
    list(reader.blocks(1, 18, 1))
    assert list(reader.blocks(2, 1, 2)) == [bytes([101]) * SIZE, bytes([102]) * SIZE]
    assert drive.located == 1 + len(bad)
    assert reader.bad == set()


def test_a_tape_file_that_is_shorter_than_known_is_located_over(library: VirtualLibrary) -> None:
    drive = Counting(load(library))
    reader = TapeReader(drive, SIZE, Layout(TAPE, SIZE, {1: 22, 2: 15}))
    list(reader.blocks(1, 18, 1))
    with pytest.raises(MediumError, match="Block 21 of tape file 1"):
        list(reader.blocks(1, 21, 1))
    assert drive.located == 2


RANGED = [Range(Position(1, block), Position(1, block)) for block in (12, 3, 14, 1)]


def test_the_order_is_the_drives_then_the_layouts_then_the_given_one(
    library: VirtualLibrary,
) -> None:
    drive = Counting(load(library))
    assert list(TapeReader(drive, SIZE).order(RANGED)) == [0, 1, 2, 3]
    reader = TapeReader(drive, SIZE, LAYOUT)
    found = reader.order(RANGED)
    assert found == order([LAYOUT.stretch(one) for one in RANGED], 0, TAPE)
    assert list(found) != [0, 1, 2, 3]
    drive.recommended = [2, 0, 3, 1]
    assert list(reader.order(RANGED)) == [2, 0, 3, 1]


def test_a_recommendation_that_leaves_something_out_is_not_followed(
    library: VirtualLibrary,
) -> None:
    drive = Counting(load(library))
    drive.recommended = [2, 0, 0, 1]
    assert list(TapeReader(drive, SIZE).order(RANGED)) == [0, 1, 2, 3]
