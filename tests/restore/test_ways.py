from restore_lib.restore.ways import Members, Prices, Way, cost_of, taken_by

PRICES = Prices(
    {"a": 1.0, "b": 2.0, "c": 4.0, "d": 8.0},
    {"c": "north", "d": "north"},
    {"north": 100.0},
    {"s": Members(2, ("d", "c", "b"))},
)


def test_volumes_cost_once_and_so_does_their_truck() -> None:
    assert PRICES.total([]) == 0
    assert PRICES.total({"a", "b"}) == 3
    assert PRICES.total({"c", "d"}) == 112


def test_one_more_volume_costs_what_is_not_paid_for_yet() -> None:
    assert PRICES.more("c", (), ()) == 104
    assert PRICES.more("c", (), {"north"}) == 4
    assert PRICES.more("c", {"c"}, ()) == 0
    assert PRICES.trucks_for({"a", "c"}) == {"north"}


def test_of_a_set_the_cheapest_are_taken_in_their_order() -> None:
    assert PRICES.members("s", (), ()) == ("c", "b")
    assert PRICES.members("s", {"d"}, {"north"}) == ("d", "b")


def test_choices_take_what_they_name_and_complete_their_sets() -> None:
    groups = [[Way(("a",), 1.0)], [Way((), 5.0, ("s",)), Way(("d",), 0.0)]]
    assert taken_by(groups, (0, 1), PRICES) == {"a", "d"}
    assert taken_by(groups, (0, 0), PRICES) == {"a", "b", "c"}
    assert taken_by(groups, (0, 0), PRICES, {"d", "c"}) == {"a", "c", "d"}
    assert taken_by(groups, (0, 0), PRICES, {"d"}) == {"a", "b", "d"}
    assert cost_of(groups, (0, 1), {"a", "d"}, PRICES) == 1 + 1 + 8 + 100
