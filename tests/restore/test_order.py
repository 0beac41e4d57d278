import random
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_lib.library.lto import LTO9, LTO9_MOUNT, Geometry
from restore_lib.restore import order as order_module
from restore_lib.restore.order import Stretch, cost_matrix, order, seconds
from restore_lib.restore.tour import cheapest, shortest_first

SMALL = Geometry(capacity=8000, wraps=8, bands=4, first_lpos=0, last_lpos=170_000, rate=6.0)


def stretches(
    geometry: Geometry, longest: int, most: int = 30, start: st.SearchStrategy[int] | None = None
) -> st.SearchStrategy[list[Stretch]]:
    if start is None:
        start = st.integers(0, geometry.capacity - longest)
    one = st.builds(lambda at, size: Stretch(at, at + size), start, st.integers(0, longest))
    return st.lists(one, max_size=most)


def over_the_end_of(wrap: int) -> st.SearchStrategy[list[Stretch]]:
    end = int(wrap * LTO9.wrap_bytes)
    return stretches(LTO9, 10**9, 8, st.integers(end - 25 * 10**9, end + 8 * 10**9))


TAPES = st.one_of(
    st.tuples(st.just(LTO9), st.integers(1, 160).flatmap(over_the_end_of)),
    st.tuples(st.just(LTO9), stretches(LTO9, 200 * 10**9)),
    st.tuples(st.just(SMALL), stretches(SMALL, 1500)),
)


def tape(objects: int, seed: int, size: int = 10**6) -> list[Stretch]:
    draw = random.Random(seed)
    starts = [draw.randrange(LTO9.capacity - size) for _ in range(objects)]
    return [Stretch(start, start + size) for start in starts]


def taken(tape: list[Stretch], way: list[int], geometry: Geometry = LTO9, start: int = 0) -> float:
    return seconds([tape[index] for index in way], start, geometry)


def by_block(tape: list[Stretch]) -> list[int]:
    return sorted(range(len(tape)), key=lambda index: (tape[index].start, tape[index].end, index))


@settings(deadline=None, max_examples=150)
@given(tape=TAPES, share=st.floats(0, 1))
def test_each_object_once_never_later_than_by_block_or_shortest_first(
    tape: tuple[Geometry, list[Stretch]], share: float
) -> None:
    geometry, wanted = tape
    start = int(share * geometry.capacity)
    way = order(wanted, start, geometry)
    assert sorted(way) == list(range(len(wanted)))
    shortest = shortest_first(cost_matrix(wanted, start, geometry))
    for other in (by_block(wanted), shortest):
        ours, theirs = (taken(wanted, one, geometry, start) for one in (way, other))
        assert ours <= theirs + 1e-6
    assert order(list(wanted), start, geometry) == way


@settings(deadline=None, max_examples=100)
@given(tape=TAPES, share=st.floats(0, 1))
def test_the_matrix_holds_what_the_geometry_says(
    tape: tuple[Geometry, list[Stretch]], share: float
) -> None:
    geometry, wanted = tape
    start = int(share * geometry.capacity)
    costs = cost_matrix(wanted, start, geometry)
    assert len(costs) == len(wanted) + 1
    for row, here in zip(costs, [*(one.end for one in wanted), start], strict=True):
        assert row[-1] == 0
        expected = [geometry.seconds_between(here, there.start) for there in wanted]
        assert row[:-1] == pytest.approx(expected)


def test_without_a_geometry_the_order_is_that_of_the_blocks() -> None:
    wanted = tape(50, 1)
    assert order(wanted, 0, None) == by_block(wanted)


def test_objects_on_one_wrap_are_read_in_block_order() -> None:
    starts = [50, 3, 20, 33, 9, 41]
    wanted = [Stretch(gb * 10**9, gb * 10**9 + 10**6) for gb in starts]
    assert order(wanted, 0, LTO9) == [1, 4, 2, 3, 5, 0]


def test_objects_of_many_wraps_are_read_on_one_pass() -> None:
    places = [(8, 0.1), (6, 0.3), (4, 0.5), (2, 0.7), (0, 0.9)]
    starts = [round((wrap + share) * LTO9.wrap_bytes) for wrap, share in places]
    assert order([Stretch(start, start + 10**6) for start in starts], 0, LTO9) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("seed", range(5))
def test_few_objects_are_ordered_as_well_as_can_be(seed: int) -> None:
    wanted = tape(6, seed)
    best = min(taken(wanted, list(way)) for way in permutations(range(6)))
    assert taken(wanted, order(wanted, 0, LTO9)) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(3))
def test_80_objects_take_a_third_of_the_time_in_block_order(seed: int) -> None:
    wanted = tape(80, seed)
    ours = taken(wanted, order(wanted, 0, LTO9))
    assert ours < 0.4 * taken(wanted, by_block(wanted))
    assert ours < taken(wanted, shortest_first(cost_matrix(wanted, 0, LTO9)))


def test_many_objects_are_ordered_in_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = tape(200, 5)
    full = taken(wanted, order(wanted, 0, LTO9))
    monkeypatch.setattr(order_module, "MOST_RUNS", 150)
    asked: list[int] = []

    def counted(costs: list[list[float]]) -> list[int]:
        asked.append(len(costs) - 1)
        return cheapest(costs)

    monkeypatch.setattr(order_module, "cheapest", counted)
    way = order(wanted, 0, LTO9)
    assert asked == [150]
    assert sorted(way) == list(range(200))
    assert full < taken(wanted, way) < taken(wanted, by_block(wanted))


@pytest.mark.parametrize(("objects", "tapes"), [(1, 300), (10, 40), (80, 8)])
def test_the_mount_model_has_the_locates_of_this_order(objects: int, tapes: int) -> None:
    found = [tape(objects, seed) for seed in range(tapes)]
    mean = sum(taken(one, order(one, 0, LTO9)) for one in found) / tapes
    assert mean == pytest.approx(LTO9_MOUNT.located(objects), rel=0.1)
