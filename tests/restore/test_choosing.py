from collections.abc import Sequence
from dataclasses import replace

import pytest

from restore_lib.catalog.planning import Demand
from restore_lib.model.volume import Custody, Health, vault_place
from restore_lib.restore.choosing import BRING, MOUNT, Choices, Circumstances, choose_ways
from restore_lib.restore.plan import NoWay, Planner, Route
from tests.support.plans import member

K, M = 2, 2
AROUND = Circumstances({"north": 60.0, "south": 600.0})


def demand(*ways: str, tries: int = 0, error: str | None = None, size: int = 100) -> Demand:
    names = tuple(ways)
    return Demand(
        "|".join(ways), tuple(tuple(w.split(",")) for w in ways), names, tries, error, 1, size
    )


def choose(
    demands: Sequence[Demand],
    changed: dict[str, dict[str, object]] | None = None,
    around: Circumstances = AROUND,
    sealed: Sequence[str] = (),
) -> Choices:
    volumes = [
        member(number, position, **(changed or {}).get(f"S{number}P{position}", {}))
        for number in range(3)
        for position in range(K + M)
    ]
    planner = Planner(volumes, {f"set{number}": K for number in range(3)})
    return choose_ways(demands, planner, around, lambda name: name not in sealed)


def away(*names: str, vault: str = "north") -> dict[str, dict[str, object]]:
    return {key: {"custody": Custody.VAULT, "place": vault_place(vault)} for key in names}


def broken(*names: str) -> dict[str, dict[str, object]]:
    return {key: {"health": Health.BROKEN} for key in names}


def routes(made: Choices) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for choice in made.choices:
        assert isinstance(choice.route, Route)
        found.append(choice.route.volumes)
    return found


def test_what_is_at_hand_is_read_from_its_own_volume() -> None:
    made = choose([demand("S0P0"), demand("S0P0", "S1P0")])
    assert routes(made) == [("S0P0",), ("S0P0",)]
    assert made.selection.cost == pytest.approx(MOUNT, abs=0.01)
    assert made.as_dict()["why"] == "first fit costs no more"


def test_a_suspect_volume_is_still_read_at_first_but_not_instead_of_a_sound_copy() -> None:
    suspect: dict[str, dict[str, object]] = {"S0P0": {"health": Health.SUSPECT}}
    assert routes(choose([demand("S0P0")], suspect)) == [("S0P0",)]
    assert routes(choose([demand("S0P0", "S1P0")], suspect)) == [("S1P0",)]


def test_the_nearer_of_two_vaults_is_sent_to() -> None:
    places = away("S0P0", "S0P1", "S0P2", "S0P3", vault="south") | away("S1P0", "S1P1", "S1P2")
    made = choose([demand("S0P0", "S1P0")], places)
    assert routes(made) == [("S1P0",)]
    assert made.as_dict()["trucks"] == ["north"]
    assert "less than first fit" in made.as_dict()["why"]


def test_a_truck_that_drives_anyhow_brings_one_more_volume_for_less_than_a_rebuild() -> None:
    places = away("S0P0", "S1P0", "S1P1", "S1P2")
    assert routes(choose([demand("S0P0")], places)) == [("S0P1", "S0P2")]
    big = demand("S0P0", size=10**12)
    both = choose([big, demand("S1P0")], places)
    assert routes(both) == [("S0P0",), ("S1P0",)]


def test_the_survivors_of_a_lost_volume_are_those_that_others_need() -> None:
    made = choose([demand("S0P0"), demand("S0P3")], broken("S0P0"))
    assert routes(made) == [("S0P1", "S0P3"), ("S0P3",)]


def test_parts_on_several_sets_are_spared_each_where_it_pays() -> None:
    made = choose([demand("S0P0,S1P0")], away("S0P0"))
    assert routes(made) == [("S0P1", "S0P2", "S1P0")]
    [choice] = made.choices
    assert isinstance(choice.route, Route)
    assert choice.route.lost == ("S0P0",)


def test_what_nothing_brings_back_is_named_with_what_is_lost() -> None:
    gone = broken("S0P0", "S0P1", "S0P2")
    [choice] = choose([demand("S0P0")], gone).choices
    assert choice.route == NoWay(("S0P0", "S0P1", "S0P2"))
    made = choose([demand("S0P0", "S1P0")], gone)
    assert routes(made) == [("S1P0",)]
    assert made.choices[0].way == 1
    [choice] = choose([demand("S0P0", "S1P0")], gone, sealed=["set1"]).choices
    assert isinstance(choice.route, NoWay)


def test_what_was_never_backed_up_has_neither_volumes_nor_a_loss() -> None:
    [choice] = choose([Demand("", (), (), 0, None, 3, 0)]).choices
    assert choice.route is None


def test_after_a_try_the_own_volumes_decide_and_at_last_a_copy() -> None:
    tried = [demand("S0P0", "S1P0", tries=tries, error="medium_error") for tries in (1, 2, 3)]
    made = choose(tried)
    own, more, last = routes(made)
    assert {"S0P0"} < set(own) <= set(more)
    assert last == ("S1P0",)


def test_volumes_that_are_fetched_anyhow_cost_no_way() -> None:
    places = away("S0P0", "S1P0")
    around = replace(AROUND, in_use={"S1P0"})
    assert routes(choose([demand("S0P0", "S1P0")], places, around)) == [("S1P0",)]
    assert around.truck_of(member(1, 0, **places["S1P0"])) is None


def test_every_custody_has_a_price_that_grows_with_the_distance() -> None:
    assert set(BRING) == set(Custody)
    near = [Custody.MOUNTABLE, Custody.ACCLIMATING, Custody.ONSITERETRIEVE]
    far = [Custody.COURIERRETRIEVE, Custody.VAULTRETRIEVE, Custody.VAULT, Custody.COURIER]
    costs = [BRING[custody] for custody in (*near, *far)]
    assert costs == sorted(costs)


def test_a_vault_that_the_config_does_not_know_is_as_far_as_the_farthest() -> None:
    assert AROUND.truck("elsewhere") == AROUND.truck("south") > AROUND.truck("north")


def test_a_plan_tells_what_it_saves() -> None:
    made = choose([demand("S0P0", "S1P0"), demand("S1P1")], away("S0P0", "S0P1", "S0P2"))
    assert made.as_dict()["why"].endswith("less than first fit: 1 truck fewer")
    two = choose([demand("S0P0", "S1P0"), demand("S1P0"), demand("S0P1", "S1P0")])
    assert two.as_dict()["why"].endswith("less than first fit: 2 volumes fewer")
