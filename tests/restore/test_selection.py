import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_lib.restore import selection
from restore_lib.restore.selection import select
from restore_lib.restore.ways import Group, Members, Prices, Way, cost_of
from tests.support.choices import cheapest, problems

MANY = settings(max_examples=300, deadline=None)


@MANY
@given(problem=problems())
def test_the_choice_is_the_cheapest_of_all(problem: tuple[list[Group], Prices]) -> None:
    groups, prices = problem
    made = select(groups, prices)
    assert made.cost == pytest.approx(cheapest(groups, prices))
    assert made.bound == pytest.approx(made.cost)
    assert made.cost == pytest.approx(cost_of(groups, made.chosen, made.taken, prices))
    assert made.gap == pytest.approx(0, abs=1e-6)
    for group, index in zip(groups, made.chosen, strict=True):
        assert made.taken.issuperset(group[index].volumes)
        for name in group[index].sets:
            assert len(made.taken.intersection(prices.sets[name].volumes)) >= prices.sets[name].k
    assert select(groups, prices) == made


@MANY
@given(problem=problems(), most=st.sampled_from([0, 40_000]))
def test_without_time_or_with_too_much_to_choose_it_is_no_worse_than_first_fit(
    problem: tuple[list[Group], Prices], most: int
) -> None:
    groups, prices = problem
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "MOST_CHOICES", most)
        made = select(groups, prices, seconds=0)
    best = cheapest(groups, prices)
    assert made.bound <= best + 1e-6
    assert best - 1e-6 <= made.cost <= made.first_fit + 1e-6
    assert made.method in {"forced", "exact", "bounded", "greedy"}


def test_nothing_wanted_costs_nothing() -> None:
    made = select([], Prices({}))
    assert (made.cost, made.bound, made.gap, made.taken) == (0, 0, 0, frozenset())


def test_what_must_be_taken_serves_the_others() -> None:
    prices = Prices({"a": 5.0, "b": 5.0})
    groups = [[Way(("a",), 0), Way(("b",), 1)], [Way(("b",), 0)]]
    made = select(groups, prices)
    assert (made.taken, made.cost, made.first_fit) == (frozenset("b"), 6, 10)
    assert (made.method, made.first_fit_volumes) == ("forced", 2)


def test_a_truck_is_paid_for_once() -> None:
    prices = Prices(dict.fromkeys("abc", 1.0), {"a": "t", "b": "t"}, {"t": 10.0})
    groups = [[Way((name,), 0), Way(("c",), 6)] for name in "ab"]
    assert select(groups, prices).taken == {"a", "b"}
    assert select(groups[:1], prices).taken == {"c"}


def test_any_k_of_a_set_rebuild_it_and_those_taken_anyhow_come_first() -> None:
    prices = Prices(dict.fromkeys("abcd", 5.0), sets={"s": Members(2, ("a", "b", "c"))})
    groups = [[Way(("c",), 0)], [Way(("a", "b", "d"), 0), Way((), 0, ("s",))]]
    made = select(groups, prices)
    assert made.taken == {"a", "c"}
    assert made.chosen == (0, 1)


def test_a_wide_choice_is_solved_well_within_its_time() -> None:
    """593 sets of 9+2 in six vaults: each volume by a truck, or by those of the other vaults."""
    prices = Prices(
        {f"{s}-{p}": 13.0 for s in range(593) for p in range(11)},
        {f"{s}-{p}": f"vault{p % 6}" for s in range(593) for p in range(11)},
        {f"vault{number}": 600.0 + 100 * number for number in range(6)},
        {f"set{s}": Members(9, tuple(f"{s}-{p}" for p in range(11))) for s in range(593)},
    )
    groups = [
        [Way((f"{s}-{p}",), 0.1), Way((), 27.9, (f"set{s}",))] for s in range(593) for p in range(9)
    ]
    made = select(groups, prices)
    assert made.gap < 0.05
    assert made.cost <= made.first_fit
