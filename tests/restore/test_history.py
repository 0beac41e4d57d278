import pytest

from restore_lib.catalog.engine import Catalog
from restore_lib.restore.forecast import estimate
from restore_lib.restore.history import experienced
from restore_lib.restore.plant import lto9_plant
from tests.restore.test_simulate import sets_of
from tests.support.restores import PLAN, History, at

PLANT = lto9_plant(2)
MODEL = PLANT.batch_seconds(1, 1, 10)


def ended(catalog: Catalog, ratio: float, *, batches: int = 40, end: float = 0.0) -> int:
    """Write a restore whose batches took so many times what the model says."""
    with catalog.write() as connection:
        done = History(connection, state="ended", finished_at=at(1e6 + end))
        for _ in range(batches):
            done.batch([f"V{done.id}"], 0.0, ratio * MODEL)
    return done.id


def test_without_an_earlier_restore_the_plant_is_as_it_was(catalog: Catalog) -> None:
    with catalog.write() as connection:
        running = History(connection)
        running.batch(["V1"], 0.0, 5 * MODEL)
        assert experienced(connection, PLANT) == (PLANT, [])


def test_a_forecast_builds_on_how_fast_earlier_restores_were(catalog: Catalog) -> None:
    first = ended(catalog, 1.5)
    with catalog.read() as connection:
        plant, learned_from = experienced(connection, PLANT)
    assert learned_from == [first]
    assert 1.2 < plant.reading.middle < 1.5
    before, after = (estimate(sets_of(40), one, runs=60).seconds for one in (PLANT, plant))
    assert after.p50 == pytest.approx(before.p50 * plant.reading.middle, rel=0.05)
    assert after.p95 / after.p50 < before.p95 / before.p50


def test_the_newest_restores_count_as_far_as_a_hundred_batches_are_seen(catalog: Catalog) -> None:
    newest = ended(catalog, 1.0, batches=70, end=9)
    ended(catalog, 3.0, end=1)
    before = ended(catalog, 1.0, batches=30, end=5)
    with catalog.read() as connection:
        plant, learned_from = experienced(connection, PLANT)
    assert learned_from == [before, newest]
    assert plant.reading.middle == pytest.approx(1.0)


def test_one_restore_however_large_is_one_day_only(catalog: Catalog) -> None:
    ended(catalog, 2.0, batches=300)
    with catalog.read() as connection:
        plant, _ = experienced(connection, PLANT)
    assert plant.reading.weight == PLANT.reading.weight + 30
    assert plant.bad.misses < PLANT.bad.misses + 1001


def test_waits_that_were_forecast_are_not_taken_for_slow_drives(catalog: Catalog) -> None:
    with catalog.write() as connection:
        plan = {"estimate": {**PLAN["estimate"], "crowding": 2.0}}
        done = History(connection, state="ended", finished_at=at(9), plan=plan)
        done.batch(["V1"], 0.0, 2 * MODEL)
        plant, _ = experienced(connection, PLANT)
    assert plant.reading.middle == pytest.approx(1.0)
