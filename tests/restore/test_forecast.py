import json
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_lib.errors import Refused
from restore_lib.restore import forecast
from restore_lib.restore.forecast import Forecaster, Quantiles, estimate
from restore_lib.restore.plant import HOUR, VaultTimes, lto9_plant
from restore_lib.restore.spans import Stage
from restore_lib.restore.work import HERE, Job, Work
from tests.restore.test_simulate import SIZE, certain, mount, sets_of

VAULTS = {"hill": VaultTimes(8 * HOUR)}


def test_the_same_seed_gives_the_same_forecast() -> None:
    plant = lto9_plant(4, vaults=VAULTS)
    work = sets_of(20, "hill")
    once = estimate(work, plant, runs=20, seed=3)
    assert estimate(work, plant, runs=20, seed=3) == once
    assert estimate(work, plant, runs=20, seed=4) != once
    assert json.loads(json.dumps(once.as_dict()))["seconds"]["p50"] == once.seconds.p50


def test_another_process_changes_nothing_in_the_forecast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "MANY", 20)
    plant = lto9_plant(4, vaults=VAULTS)
    work = sets_of(5, "hill")
    for objects in (1, 20):
        with Forecaster(objects) as beside:
            assert beside.begin(work, plant).result() == estimate(work, plant)


def test_a_forecast_does_without_the_process_that_has_died(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "MANY", 1)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    plant = lto9_plant(4, vaults=VAULTS)
    work = sets_of(3, "hill")
    with Forecaster(1) as beside:
        assert beside.begin(work, plant).result() == estimate(work, plant)


def test_a_forecast_names_every_stage_and_p95_is_never_below_p50() -> None:
    found = estimate(sets_of(20, "hill"), lto9_plant(4, vaults=VAULTS), runs=40)
    assert set(found.stages) == set(Stage)
    for quantiles in [found.seconds, *(stage.seconds for stage in found.stages.values())]:
        assert 0 <= quantiles.p50 <= quantiles.p95
    assert all(stage.ends.p95 <= found.seconds.p95 for stage in found.stages.values())


def test_what_is_certain_has_no_spread() -> None:
    plant = certain(2)
    found = estimate(sets_of(3), plant, runs=5)
    assert found.seconds.p50 == found.seconds.p95 == pytest.approx(3 * mount(plant), rel=0.05)


@pytest.mark.parametrize("place", [HERE, "hill"])
@pytest.mark.parametrize("robots", [1, 3])
def test_more_drives_are_never_slower(place: str, robots: int) -> None:
    work = sets_of(40, place)
    ends = [
        estimate(work, lto9_plant(drives, vaults=VAULTS, robots=robots), runs=60).seconds.p50
        for drives in (1, 2, 4, 8, 16, 64)
    ]
    slack = 1.03  # other draws: a drive more is another history
    assert all(more <= fewer * slack for fewer, more in pairwise(ends))
    assert ends[0] > (1.2 if place == HERE else 1.02) * ends[-1]


def test_volumes_at_hand_are_back_before_those_in_a_vault() -> None:
    plant = lto9_plant(4, vaults=VAULTS)
    near, far = (estimate(sets_of(10, place), plant, runs=30) for place in (HERE, "hill"))
    assert near.stages[Stage.RECALL].seconds.p95 == 0
    assert near.stages[Stage.ACCLIMATION].seconds.p50 == 0
    assert far.seconds.p50 > near.seconds.p50 + 32 * HOUR


def test_no_drives_are_refused() -> None:
    with pytest.raises(Refused, match="No drive"):
        estimate(sets_of(1), lto9_plant(0))


def test_nothing_to_read_takes_no_time() -> None:
    assert estimate(Work([]), lto9_plant(0), runs=3).seconds == Quantiles(0.0, 0.0)


def test_work_that_is_put_together_takes_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    plant = lto9_plant(20, robots=2, vaults=VAULTS)
    work = sets_of(300, "hill")
    whole = estimate(work, plant, runs=60)
    monkeypatch.setattr(forecast, "JOBS", 200)
    small = estimate(work, plant, runs=60)
    assert small.seconds.p50 == pytest.approx(whole.seconds.p50, rel=0.1)
    assert small.seconds.p95 == pytest.approx(whole.seconds.p95, rel=0.15)


def test_ten_times_the_work_is_simulated_in_bounded_steps() -> None:
    plant = lto9_plant(100, robots=4, vaults=VAULTS)
    jobs = [Job((f"V{number}",), 80, SIZE) for number in range(60_000)]
    condensed = Work(jobs, {f"V{number}": "hill" for number in range(60_000)}).condensed(3000)
    assert len(condensed.jobs) <= 3000
    assert estimate(condensed, plant, runs=1).seconds.p50 > 32 * HOUR


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=50))
def test_quantiles_lie_among_the_values(values: list[float]) -> None:
    found = Quantiles.of(values)
    assert min(values) <= found.p50 <= found.p95 <= max(values)


def test_quantiles_are_interpolated() -> None:
    assert Quantiles.of([3.0, 1.0, 2.0]).p50 == 2.0
    assert Quantiles.of([float(n) for n in range(101)]) == Quantiles(50.0, 95.0)
