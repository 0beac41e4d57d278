from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
import simpy

from restore_lib.restore.plant import DAY, HOUR, Chance, VaultTimes
from restore_lib.restore.road import Road
from restore_lib.restore.spans import Span, Stage
from restore_lib.restore.work import Coming, Work
from tests.restore.test_simulate import certain

NAMES = tuple(f"V{number}" for number in range(40))
SOMETIMES = Chance(1e9, 1e9)


class Dock:
    """A road, and when what came along it."""

    def __init__(
        self, coming: Sequence[Coming] = (), starts: float = 0.0, **values: object
    ) -> None:
        vaults = {"hill": VaultTimes(HOUR, 40.0, (6 * HOUR,)), "lake": VaultTimes(HOUR)}
        self.plant = replace(certain(vaults=vaults, acclimation=0.0), **values)  # type: ignore[arg-type]  # a test's shorthand
        self.env = simpy.Environment()
        self.spans = {stage: Span() for stage in Stage}
        places = {name: "hill" if int(name[1:]) % 2 else "lake" for name in NAMES}
        work = Work([], places, coming=coming, starts=starts)
        self.road = Road(self.env, Random(1), work, self.plant, self.spans, {"V0"})
        self.came: dict[str, float] = {}
        self.given_up: list[str] = []
        self.road.arrive = lambda name: self.came.update({name: self.env.now})
        self.road.give_up = self.given_up.extend
        self.road.begin()


def test_volumes_come_by_the_next_truck_of_their_vault() -> None:
    dock = Dock(starts=5 * HOUR)
    dock.road.recall(NAMES, redundancy=False)
    dock.env.run()
    assert dock.came.keys() == set(NAMES) - {"V0"}
    assert dock.spans[Stage.RECALL].ends == pytest.approx(2 * HOUR)
    later = Dock(starts=6.5 * HOUR)
    later.road.recall(["V1"], redundancy=False)
    later.env.run()
    assert later.came["V1"] == pytest.approx(24.5 * HOUR + 6)


def test_a_volume_is_asked_for_once() -> None:
    dock = Dock()
    dock.road.recall(["V0", "V2"], redundancy=False)
    dock.road.recall(["V2", "V4"], redundancy=True)
    dock.env.run()
    assert dock.came.keys() == {"V2", "V4"}
    assert dock.spans[Stage.REDUNDANCY].seconds == pytest.approx(HOUR + 6)


def test_doors_let_in_so_many_an_hour() -> None:
    dock = Dock(imports_per_hour=20.0)
    dock.road.recall([name for name in NAMES if not int(name[1:]) % 2], redundancy=False)
    dock.env.run()
    assert dock.spans[Stage.IMPORT].seconds == pytest.approx(19 / 20 * HOUR)


def test_what_is_left_out_comes_with_a_later_truck() -> None:
    dock = Dock(omitted=SOMETIMES)
    dock.road.recall(NAMES, redundancy=False)
    dock.env.run()
    assert dock.came.keys() == set(NAMES) - {"V0"}
    assert 0 < dock.road.omissions < len(NAMES)
    assert len({round(at) for at in dock.came.values()}) > 2


def test_a_vault_that_says_what_it_leaves_out_is_asked_again_at_once() -> None:
    ends = []
    for acknowledged in (True, False):
        dock = Dock(omitted=SOMETIMES, acknowledged=acknowledged)
        dock.road.recall(NAMES[::2], redundancy=False)
        dock.env.run()
        ends.append(dock.spans[Stage.RECALL].ends)
    assert ends[0] < 1.5 * HOUR < 2 * HOUR <= ends[1]


def test_after_the_last_round_volumes_are_given_up() -> None:
    never = Chance(1e9, 1e-3)
    dock = Dock(omitted=never, omitted_again=never, rounds=3)
    dock.road.recall(["V2"], redundancy=False)
    dock.env.run()
    assert (dock.given_up, dock.came) == (["V2"], {})
    assert dock.road.omissions == 3


def test_a_shipment_under_way_needs_only_the_rest_of_its_time() -> None:
    dock = Dock([Coming("lake", ("V2",), HOUR / 2)])
    dock.road.recall(["V2"], redundancy=False)
    dock.env.run()
    assert dock.came["V2"] == pytest.approx(HOUR / 2 + 6 + 6)
    overdue = Dock([Coming("lake", ("V2",), 9 * HOUR)])
    overdue.env.run()
    assert overdue.came["V2"] == pytest.approx(HOUR / 10, rel=0.1)


def test_volumes_rest_before_they_are_let_in() -> None:
    dock = Dock(acclimation=DAY)
    dock.road.recall(["V2"], redundancy=False)
    dock.env.run()
    assert dock.came["V2"] == pytest.approx(HOUR + 6 + DAY + 6)
