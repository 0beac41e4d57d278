import math
import statistics
from random import Random

import pytest

from restore_lib.library.lto import LTO9_MOUNT
from restore_lib.restore.plant import (
    DAY,
    HOUR,
    Chance,
    Factor,
    VaultTimes,
    lto9_plant,
    virtual_plant,
)


def test_a_factor_is_drawn_about_its_middle() -> None:
    random = Random(1)
    drawn = [Factor(2.0, 0.1).draw(random) for _ in range(2000)]
    assert statistics.median(drawn) == pytest.approx(2.0, rel=0.02)
    assert statistics.stdev(map(math.log, drawn)) == pytest.approx(0.1, rel=0.1)
    assert Factor(3.0).draw(random) == 3.0


def test_observations_move_a_factor_and_narrow_it() -> None:
    prior = Factor(1.0, 0.2, weight=10)
    after = prior.seen(2.0, 10)
    assert after.middle == pytest.approx(math.sqrt(2.0))
    assert after.spread == pytest.approx(0.2 / math.sqrt(2))
    assert after.seen(2.0, 100_000).middle == pytest.approx(2.0, rel=1e-3)
    half = prior.seen(2.0, 5).seen(2.0, 5)
    assert (half.middle, half.spread) == pytest.approx((after.middle, after.spread))


@pytest.mark.parametrize(("ratio", "count"), [(2.0, 0), (0.0, 5)])
def test_nothing_seen_changes_nothing(ratio: float, count: int) -> None:
    assert Factor(1.0, 0.2).seen(ratio, count) == Factor(1.0, 0.2)
    assert Factor(1.5).seen(3.0, 9) == Factor(1.5)


def test_a_chance_is_a_share_that_cases_narrow() -> None:
    random = Random(1)
    drawn = [Chance(1, 9).draw(random) for _ in range(2000)]
    assert statistics.mean(drawn) == pytest.approx(0.1, rel=0.1)
    assert all(0 <= share <= 1 for share in drawn)
    seen = [Chance(1, 9).seen(350, 650).draw(random) for _ in range(200)]
    assert statistics.mean(seen) == pytest.approx(0.348, abs=0.01)
    assert Chance(0, 1).draw(random) == 0.0


def test_a_truck_leaves_by_its_timetable_over_midnight_too() -> None:
    vault = VaultTimes(HOUR, departures=(6 * HOUR, 18 * HOUR))
    assert vault.wait(5 * HOUR) == HOUR
    assert vault.wait(6 * HOUR) == 0
    assert vault.wait(19 * HOUR) == 11 * HOUR
    assert vault.wait(3 * DAY + 17 * HOUR) == HOUR
    assert VaultTimes(HOUR).wait(5.0) == 0


def test_a_batch_takes_its_mounts_and_their_moves() -> None:
    plant = lto9_plant(2)
    one = LTO9_MOUNT.mount(10, 4_000_000_000)
    assert plant.batch_seconds(1, 10, 4_000_000_000) == pytest.approx(one)
    assert plant.drive_seconds(1, 10, 4_000_000_000) == pytest.approx(one - 25)
    assert plant.batch_seconds(3, 10, 12_000_000_000) == pytest.approx(3 * one)


def test_a_batch_without_volumes_holds_no_robot() -> None:
    plant = virtual_plant(2)
    assert plant.drive_seconds(0, 100, 0) == plant.batch_seconds(0, 100, 0) > 0


def test_virtual_tapes_need_no_rest() -> None:
    assert virtual_plant(2).acclimation == 0
    assert lto9_plant(2).acclimation == DAY
    assert virtual_plant(2, acclimation=5.0).acclimation == 5.0
