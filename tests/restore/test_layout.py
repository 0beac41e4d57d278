from restore_lib.library.base import Position, Range
from restore_lib.library.lto import LTO9
from restore_lib.restore.layout import Layout
from restore_lib.restore.order import Stretch

BLOCK = 1 << 20
LAYOUT = Layout(LTO9, BLOCK, {2: 3000, 1: 1000, 3: 20_000})


def test_tape_files_lie_one_behind_the_other() -> None:
    assert LAYOUT.offset(1, 0) == 0
    assert LAYOUT.offset(1, 1000) == LAYOUT.offset(2, 0) == 1000 * BLOCK
    assert LAYOUT.offset(3, 7) == 4007 * BLOCK


def test_a_range_reaches_to_the_end_of_its_last_block() -> None:
    one = Range(Position(1, 999), Position(2, 0))
    assert LAYOUT.stretch(one) == Stretch(999 * BLOCK, 1001 * BLOCK)


def test_near_blocks_are_read_on_to_also_in_another_tape_file() -> None:
    assert LAYOUT.reads_through((1, 500), (1, 501))
    assert LAYOUT.reads_through((1, 500), (3, 500))
    assert not LAYOUT.reads_through((1, 500), (3, 9000))
    assert not LAYOUT.reads_through((1, 500), (1, 499))
