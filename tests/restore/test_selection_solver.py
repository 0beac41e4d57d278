import pytest
from hypothesis import given, settings

from restore_lib.restore.selection_solver import solve
from restore_lib.restore.ways import Group, Prices, Way
from tests.support.choices import cheapest, problems


@settings(max_examples=150, deadline=None)
@given(problem=problems())
def test_the_bound_is_the_true_cost(problem: tuple[list[Group], Prices]) -> None:
    groups, prices = problem
    if not groups:
        return
    solved = solve(groups, prices, (), seconds=30)
    assert solved.exact
    assert solved.bound == pytest.approx(cheapest(groups, prices), abs=1e-5)


def test_what_is_taken_and_its_truck_cost_nothing_more() -> None:
    prices = Prices({"a": 5.0, "b": 5.0, "c": 9.0}, {"a": "t", "b": "t"}, {"t": 100.0})
    solved = solve([[Way(("b",), 0), Way(("c",), 0)]], prices, {"a"}, seconds=30)
    assert solved.opened == frozenset("b")
    assert solved.bound == pytest.approx(5)
