from dataclasses import replace
from datetime import timedelta

import pytest

from restore_lib.catalog.reporting import BatchRow, ShipmentRow, VolumeMarks
from restore_lib.model.shipment import ShipmentState
from restore_lib.model.states import BatchKind, BatchState
from restore_lib.model.volume import Reason
from restore_lib.restore.forecast import estimate
from restore_lib.restore.learn import Ratio, Seen, learned, seen_in
from restore_lib.restore.plant import HOUR, VaultTimes, lto9_plant
from tests.restore.test_simulate import sets_of
from tests.support.restores import BEGAN

PLANT = lto9_plant(2, vaults={"hill": VaultTimes(2 * HOUR, 100.0)})


def batch(number: int, seconds: float | None, **values: object) -> BatchRow:
    row = BatchRow(
        id=number,
        wave=1,
        kind=BatchKind.READ,
        barcode=f"V{number}",
        volumes=(f"V{number}",),
        state=BatchState.DONE if seconds is not None else BatchState.PLANNED,
        attempts=1,
        started_at=BEGAN if seconds is not None else None,
        ended_at=BEGAN + timedelta(seconds=seconds) if seconds is not None else None,
        objects=10,
        restored=10,
        size=10**9,
        estimate=1.0,
        error=None,
    )
    return replace(row, **values)  # type: ignore[arg-type]  # a test's shorthand


def shipment(hours: float | None, volumes: int = 100, **values: object) -> ShipmentRow:
    row = ShipmentRow(
        id=1,
        vault="hill",
        state=ShipmentState.CLOSED,
        reason=Reason.RESTORE,
        round=0,
        follows=None,
        created_at=BEGAN,
        arrived_at=None if hours is None else BEGAN + timedelta(hours=hours),
        volumes=volumes,
        omitted=0,
    )
    return replace(row, **values)  # type: ignore[arg-type]  # a test's shorthand


MODEL = PLANT.batch_seconds(1, 10, 10**9)


def test_batches_show_how_fast_the_drives_are() -> None:
    rows = [batch(n, 1.5 * MODEL) for n in range(4)] + [batch(9, None)]
    rows.append(batch(10, 99 * MODEL, state=BatchState.FAILED))
    seen = seen_in(PLANT, 1.0, rows, [], VolumeMarks())
    assert seen.batches.ratio == pytest.approx(1.5)
    assert seen.batches.count == 4
    assert seen.bad == (0, 4)


def test_waiting_that_was_forecast_is_not_taken_for_slow_drives() -> None:
    rows = [batch(n, 1.5 * MODEL) for n in range(4)]
    assert seen_in(PLANT, 1.5, rows, [], VolumeMarks()).batches.ratio == pytest.approx(1.0)


def test_volumes_that_turned_out_bad_count_once() -> None:
    rows = [batch(n, MODEL) for n in range(4)]
    marks = VolumeMarks(suspect={"V1", "X"}, broken={"X"})
    assert seen_in(PLANT, 1.0, rows, [], marks).bad == (2, 3)


def test_shipments_show_how_long_the_way_is_and_what_is_left_out() -> None:
    rows = [
        shipment(6.0, omitted=35),
        shipment(2.35, volumes=35, round=1, omitted=1),
        shipment(None, omitted=9),
    ]
    seen = seen_in(PLANT, 1.0, [], rows, VolumeMarks())
    assert seen.shipments.ratio == pytest.approx(8.35 / 5.35)
    assert seen.shipments.count == 2
    assert (seen.omitted, seen.omitted_again) == ((35, 65), (1, 34))


def test_a_truck_of_the_timetable_is_not_late_for_having_waited() -> None:
    leaves = (BEGAN.hour + 3) * HOUR
    plant = replace(PLANT, vaults={"hill": VaultTimes(2 * HOUR, 100.0, (leaves,))})
    seen = seen_in(plant, 1.0, [], [shipment(5.0)], VolumeMarks())
    assert seen.shipments.ratio == pytest.approx(1.0)


def test_nothing_seen_leaves_the_plant_as_it_is() -> None:
    assert learned(PLANT, seen_in(PLANT, 1.0, [], [], VolumeMarks())) == PLANT
    assert Ratio.of([(5.0, 0.0)]) == Ratio()


def test_what_was_seen_can_count_as_fewer_cases_of_the_same_share() -> None:
    seen = Seen(Ratio(1.5, 90), Ratio(2.0, 3), (5, 95), (0, 8), (30, 10))
    assert seen.at_most(30, 20, 10) == Seen(
        Ratio(1.5, 30), Ratio(2.0, 3), (0.5, 9.5), (0, 8), (15, 5)
    )


def test_a_forecast_follows_what_was_seen_and_grows_surer() -> None:
    work = sets_of(40)
    before = estimate(work, PLANT, runs=60).seconds
    slow = estimate(work, learned(PLANT, Seen(batches=Ratio(2.0, 2000))), runs=60).seconds
    assert slow.p50 == pytest.approx(2 * before.p50, rel=0.15)
    assert slow.p95 / slow.p50 < before.p95 / before.p50


def test_omissions_that_were_seen_bring_a_second_trip_into_the_forecast() -> None:
    plant = replace(PLANT, acclimation=0.0)
    work = sets_of(2, "hill")
    reliable = estimate(work, learned(plant, Seen(omitted=(0, 5000))), runs=60).seconds
    careless = estimate(work, learned(plant, Seen(omitted=(4000, 1000))), runs=60).seconds
    assert careless.p50 > reliable.p50
