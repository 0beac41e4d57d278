from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_lib.library.lto import LTO9, LTO9_MOUNT, Geometry

SMALL = Geometry(capacity=8000, wraps=8, bands=4, first_lpos=0, last_lpos=10_000, rate=1000 / 161)
"""Wraps of 1,000 bytes, two in each band; 10 LPOS to the byte."""

OFFSETS = st.integers(0, LTO9.capacity)


@pytest.mark.parametrize(
    ("offset", "wrap", "lpos", "forward", "band", "far_half"),
    [
        (0, 0, 0, True, 0, False),
        (499, 0, 4990, True, 0, False),
        (500, 0, 5000, True, 0, True),
        (999, 0, 9990, True, 0, True),
        (1000, 1, 10_000, False, 0, True),
        (1750, 1, 2500, False, 0, False),
        (2100, 2, 1000, True, 1, False),
        (7999, 7, 10, False, 3, False),
        (8000, 7, 0, False, 3, False),
        (9999, 7, 0, False, 3, False),
    ],
)
def test_wraps_run_to_and_fro(
    offset: int, wrap: int, lpos: float, forward: bool, band: int, far_half: bool
) -> None:
    spot = SMALL.spot(offset)
    track = spot.track
    assert spot.lpos == pytest.approx(lpos)
    assert (spot.wrap, track.forward, track.band) == (wrap, forward, band)
    assert track.far_half is far_half


@pytest.mark.parametrize(
    ("here", "there", "seconds"),
    [
        # on one wrap, forward: 4.29 + 0.0006192 x 2,000
        (100, 300, 5.5284),
        # on one wrap, back: 4.29 + 11.32 + 0.0006192 x 2,000
        (300, 100, 16.8484),
        # on a wrap that runs back, from LPOS 9,000 to 7,000, which is forward there
        (1100, 1300, 5.5284),
        # to the other half of one wrap: 4.29 - 6.04 counts as nothing; 0.0006192 x 2,000
        (400, 600, 1.2384),
        # back to the other half: 4.29 - 6.04 + 11.32 + 0.0006192 x 2,000
        (600, 400, 10.8084),
        # the next wrap, same band, at LPOS 3,000, other direction: 4.29 + 6.69 + 5.22 + 1.2384
        (100, 1700, 17.4384),
        # next band, same direction: 4.29 + 6.69 + 3.2 + 0.0006192 x 2,000
        (100, 2300, 15.4184),
        # three bands on costs no more than one, as CTA counts
        (100, 6300, 15.4184),
        # next band, same direction, other half: 4.29 + 6.69 + 3.2 - 6.04 + 0.0006192 x 5,000
        (100, 2600, 11.236),
        # last wrap at LPOS 3,000: 4.29 + 6.69 + 3.2 + 5.22 + 0.0006192 x 2,000
        (100, 7700, 20.6384),
    ],
)
def test_locates_cost_what_the_formula_says(here: int, there: int, seconds: float) -> None:
    assert SMALL.locate_seconds(here, there) == pytest.approx(seconds)


def test_a_whole_lto9_cartridge_is_280_wraps_of_64_gb_and_161_seconds() -> None:
    assert LTO9.wrap_bytes == pytest.approx(64e9, rel=0.01)
    assert LTO9.wrap_bytes / LTO9.rate == pytest.approx(161, abs=0.5)
    assert [LTO9.spot(round(LTO9.wrap_bytes * (wrap + 0.5))).track.band for wrap in (69, 70)] == [
        0,
        1,
    ]


@pytest.mark.parametrize(("gap", "through"), [(0, True), (4_800, True), (5_000, False)])
def test_gaps_up_to_about_5_gb_are_read_through(gap: int, through: bool) -> None:
    here = 10**9
    there = here + gap * 10**6
    assert LTO9.reads_through(here, there) is through
    expected = gap * 1e6 / 400e6 if through else LTO9.locate_seconds(here, there)
    assert LTO9.seconds_between(here, there) == pytest.approx(expected)


def test_reading_on_over_the_turn_of_a_wrap_is_no_locate() -> None:
    turn = round(LTO9.wrap_bytes)
    assert LTO9.reads_through(turn - 10**8, turn + 10**8)


@given(here=OFFSETS, there=OFFSETS)
def test_the_way_to_a_byte_is_never_negative_and_never_dearer_than_a_locate(
    here: int, there: int
) -> None:
    seconds = LTO9.seconds_between(here, there)
    assert 0 <= seconds <= LTO9.locate_seconds(here, there)
    if there < here:
        assert not LTO9.reads_through(here, there)
        assert seconds == LTO9.locate_seconds(here, there)


@pytest.mark.parametrize(("size", "rewind"), [(0, 55), (5 * 10**9, 110), (50 * 10**9, 165)])
def test_a_mount_moves_loads_rewinds_and_unloads(size: int, rewind: float) -> None:
    assert LTO9_MOUNT.fixed(size) == 2 * 12.5 + 17 + rewind + 30


def test_a_mount_locates_and_reads() -> None:
    size = 4 * 10**9
    assert LTO9_MOUNT.mount(80, size) == pytest.approx(LTO9_MOUNT.fixed(size) + 1215 + 10)
    assert LTO9_MOUNT.mount(0, 0) == LTO9_MOUNT.fixed(0)


def test_locates_are_interpolated_and_grow_with_the_objects() -> None:
    figures = [LTO9_MOUNT.located(objects) for objects in range(6000)]
    assert figures[0] == 0
    assert figures[1] == 65
    assert all(more > fewer for fewer, more in pairwise(figures))
    assert figures[80] < figures[120] < figures[160]
    assert LTO9_MOUNT.located(10_000) == pytest.approx(2 * figures[5000])
