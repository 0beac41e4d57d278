from dataclasses import replace
from random import Random

from benchmarks.estimate import drill, perturbed, random_plant, run_case
from restore_lib.restore.learn import learned
from restore_lib.restore.plant import Factor


def test_a_drill_shows_how_fast_a_plant_is() -> None:
    random = Random(5)
    plant = random_plant(random)
    truth = perturbed(plant, random)
    slow, fast = (
        learned(plant, drill(plant, replace(truth, reading=Factor(middle)), Random(1)))
        for middle in (2.0, 0.5)
    )
    assert slow.reading.middle > 1.2 * fast.reading.middle
    assert slow.reading.spread < plant.reading.spread


def test_a_case_is_forecast_before_and_after_a_drill() -> None:
    first, drilled = run_case(7)
    assert (first.drilled, drilled.drilled) == (False, True)
    assert first.actual == drilled.actual
    assert first.p50 != drilled.p50
