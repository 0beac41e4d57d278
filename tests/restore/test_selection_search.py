import pytest
from hypothesis import given, settings

from restore_lib.restore.selection_search import Search
from restore_lib.restore.ways import Group, Members, Prices, Way, cost_of
from tests.support.choices import cheapest, problems


@settings(max_examples=200, deadline=None)
@given(problem=problems())
def test_what_is_dropped_was_not_needed_and_the_bound_holds(
    problem: tuple[list[Group], Prices],
) -> None:
    groups, prices = problem
    best = cheapest(groups, prices)
    search = Search(groups, prices)
    search.reduce()
    found = search.greedy()
    assert search.bound() <= best + 1e-6 <= found.cost + 2e-6
    assert found.cost == pytest.approx(cost_of(groups, found.chosen, found.taken, prices))
    if search.settled:
        assert found.cost == pytest.approx(best)
        assert search.settled_cost() == pytest.approx(best)
    assert search.choices == sum(map(len, search.left()))


def test_a_way_that_can_not_pay_is_dropped() -> None:
    search = Search([[Way(("a",), 1), Way(("b",), 3)]], Prices({"a": 1.0, "b": 0.0}))
    search.reduce()
    assert search.settled
    assert search.taken == {"a"}


def test_a_way_that_could_share_is_kept() -> None:
    groups = [[Way(("a",), 1), Way(("b",), 0)], [Way(("b",), 1), Way(("a",), 0)]]
    search = Search(groups, Prices({"a": 2.0, "b": 2.0}))
    search.reduce()
    assert search.choices == 4


def test_the_greedy_choice_leaves_a_truck_at_home_when_that_pays() -> None:
    prices = Prices(dict.fromkeys("abc", 1.0), {"a": "t", "b": "t"}, {"t": 10.0})
    groups = [[Way((name,), 0), Way(("c",), 6)] for name in "ab"]
    cheap = Search([[*group, Way(("c",), 2)] for group in groups], prices).greedy()
    assert cheap.taken == {"c"}


def test_given_volumes_are_used_as_they_are() -> None:
    prices = Prices(dict.fromkeys("abc", 1.0), sets={"s": Members(2, ("a", "b", "c"))})
    search = Search([[Way(("a",), 0), Way((), 5, ("s",))]], prices)
    assert search.with_volumes({"b", "c"}).taken == {"b", "c"}
    assert search.with_volumes({"a"}).chosen == (0,)
