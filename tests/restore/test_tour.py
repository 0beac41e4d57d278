import random
from itertools import pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_lib.restore.tour import cheapest, shortest_first


def matrix(places: int, draw: random.Random) -> list[list[float]]:
    """Random costs that are not symmetric; going back to the start costs nothing."""
    return [[draw.random() for _ in range(places)] + [0.0] for _ in range(places + 1)]


def cost(costs: list[list[float]], way: list[int]) -> float:
    return sum(costs[a][b] for a, b in pairwise([len(costs) - 1, *way]))


MATRICES = st.builds(matrix, st.integers(0, 40), st.randoms(use_true_random=False))


@settings(deadline=None, max_examples=60)
@given(costs=MATRICES)
def test_each_place_is_passed_once_and_never_dearer_than_shortest_first(
    costs: list[list[float]],
) -> None:
    way = cheapest(costs)
    assert sorted(way) == list(range(len(costs) - 1))
    assert cost(costs, way) <= cost(costs, shortest_first(costs)) + 1e-9


@settings(deadline=None, max_examples=20)
@given(costs=MATRICES)
def test_the_same_costs_give_the_same_way(costs: list[list[float]]) -> None:
    assert cheapest(costs) == cheapest([row[:] for row in costs])


def test_shortest_first_goes_to_the_nearest_each_time() -> None:
    costs = [
        [9.0, 2.0, 1.0, 0.0],
        [9.0, 9.0, 9.0, 0.0],
        [9.0, 5.0, 9.0, 0.0],
        [1.0, 2.0, 3.0, 0.0],
    ]
    assert shortest_first(costs) == [0, 2, 1]


def test_few_places_are_ordered_nearly_as_well_as_can_be() -> None:
    found = best = 0.0
    for seed in range(20):
        costs = matrix(6, random.Random(seed))
        found += cost(costs, cheapest(costs))
        best += min(cost(costs, list(way)) for way in permutations(range(6)))
    assert best <= found < 1.03 * best


def test_equal_costs_end() -> None:
    assert sorted(cheapest([[1.0] * 30 + [0.0] for _ in range(31)])) == list(range(30))


def test_what_shortest_first_leaves_behind_is_put_right() -> None:
    """On a line from 0 with places on both sides, shortest-first goes to and fro."""
    places = [1.0, -1.1, 3.0, -5.0, 11.0, -21.0]
    costs = [[abs(a - b) for b in places] + [0.0] for a in [*places, 0.0]]
    assert cost(costs, shortest_first(costs)) == pytest.approx(59)
    assert cost(costs, cheapest(costs)) == pytest.approx(11 + 11 + 21)
