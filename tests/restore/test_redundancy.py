from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_lib.catalog.planning import Demand
from restore_lib.model.states import TakeRedundancy
from restore_lib.model.volume import Custody, Health, Volume, vault_place
from restore_lib.restore.choosing import Circumstances, choose_ways
from restore_lib.restore.plan import Planner
from restore_lib.restore.redundancy import Spares, chance_of_bad, spares_for
from tests.support.plans import member
from tests.support.stripes import AT

K = 2
AROUND = Circumstances({"north": 240.0})
VAULTED = {"custody": Custody.VAULT, "place": vault_place("north")}


def spares(
    sets: int,
    take: TakeRedundancy = TakeRedundancy.AUTO,
    around: Circumstances = AROUND,
    **values: object,
) -> Spares:
    """Return what comes along for one object on each of so many sets of 2+2 in a vault."""
    volumes: list[Volume] = [
        member(number, position, **(VAULTED | values))
        for number in range(sets)
        for position in range(K + 2)
    ]
    planner = Planner(volumes, {f"set{number}": K for number in range(sets)})
    demands = [
        Demand(f"S{n}P0,S{n}P1", ((f"S{n}P0", f"S{n}P1"),), (f"S{n}P0,S{n}P1",), 0, None, 1, 9)
        for n in range(sets)
    ]
    choices = choose_ways(demands, planner, around, lambda _: True)
    return spares_for(choices, planner, around, take, AT)


def test_one_more_volume_of_each_set_makes_good_a_bad_one() -> None:
    found = spares(2, TakeRedundancy.ALWAYS)
    assert found.volumes == ("S0P2", "S1P2")
    assert found.chance_left == 0
    assert found.boxes == 20
    assert found.trip == AROUND.truck("north")
    assert spares(2, TakeRedundancy.NEVER).volumes == ()
    assert spares(2, TakeRedundancy.NEVER).chance_left == pytest.approx(found.chance)


def test_auto_weighs_the_second_trip_against_the_boxes() -> None:
    assert spares(1, verified_at=AT).volumes == ()
    risky = spares(1, health=Health.SUSPECT)
    assert risky.volumes == ("S0P2",)
    assert risky.chance_left < risky.chance
    far = Circumstances({"north": 60_000.0})
    assert spares(1, around=far).volumes == ("S0P2",)


def test_nothing_comes_along_where_no_second_trip_would_be_needed() -> None:
    found = spares(3, TakeRedundancy.ALWAYS, custody=Custody.MOUNTABLE, place="library")
    assert (found.volumes, found.chance, found.trip) == ((), 0, 0)


def test_a_volume_is_trusted_less_the_longer_ago_it_was_verified() -> None:
    one = member(0, 0)
    fresh = replace(one, verified_at=AT)
    old = replace(one, verified_at=AT - timedelta(days=1500))
    suspect = replace(fresh, health=Health.SUSPECT)
    chances = [chance_of_bad(volume, AT) for volume in (fresh, old, one, suspect)]
    assert chances == sorted(chances)
    assert len(set(chances)) == 4
    assert chance_of_bad(replace(one, verified_at=AT + timedelta(days=9)), AT) == chances[0]


def expected_cost(found: Spares, sets: int, boxes: float) -> float:
    """Return what a choice costs on average: its boxes, the trip, and the boxes of then."""
    each = 1.0 - float((1 - found.chance) ** (1 / sets))
    left = sets - len(found.volumes)
    return found.boxes + found.chance_left * found.trip + left * each * boxes


@given(sets=st.integers(1, 12), hours=st.integers(1, 4000))
def test_auto_is_never_dearer_than_always_or_never(sets: int, hours: int) -> None:
    around = Circumstances({"north": hours * 60.0})
    costs = {take: expected_cost(spares(sets, take, around), sets, 10.0) for take in TakeRedundancy}
    assert costs[TakeRedundancy.AUTO] <= min(costs.values()) + 1e-6


def test_what_is_told_can_be_read_back() -> None:
    told = spares(1, TakeRedundancy.ALWAYS).as_dict()
    assert told["take"] == "always"
    assert told["volumes"] == ["S0P2"]
    assert 0 < told["second_trip_chance"] < 0.01


def test_no_truck_is_sent_for_spares_alone() -> None:
    volumes = [member(0, position, **(VAULTED if position > 1 else {})) for position in range(4)]
    planner = Planner(volumes, {"set0": K})
    demands = [Demand("S0P0,S0P1", (("S0P0", "S0P1"),), ("S0P0,S0P1",), 0, None, 1, 9)]
    choices = choose_ways(demands, planner, AROUND, lambda _: True)
    found = spares_for(choices, planner, AROUND, TakeRedundancy.ALWAYS, AT)
    assert (found.volumes, found.chance) == ((), 0)
