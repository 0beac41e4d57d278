import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from restore_lib.catalog import batches, requests, shipments, tables
from restore_lib.catalog.reporting import batch_rows
from restore_lib.model.shipment import Direction
from restore_lib.model.volume import Custody, Reason
from restore_lib.restore import flow
from restore_lib.restore.outlook import outlook, plant_of, work_of
from restore_lib.restore.request import RestoreSpec, plan_restore, start_restore
from restore_lib.restore.work import HERE, Coming, TapeSet, Work
from restore_lib.site import Site
from tests.support.clock import ManualClock
from tests.support.sites import ACTOR, back_up, finish, make_site, run_wave, write_files

CONTENTS = {b"d/%02d" % n: os.urandom(n * 10_000) for n in range(10)}
CONFIG = """
[vaults.south]
courier = "van"
transit = "3h"
departures = ["06:30", "18:00"]
picks_per_hour = 40
[restore]
store_rate = "2MB"
"""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def site(tmp_path: Path, clock: ManualClock) -> Iterator[Site]:
    made = make_site(tmp_path, extra=CONFIG, clock=clock)
    write_files(tmp_path / "live", CONTENTS)
    back_up(made)
    yield made
    made.close()


def planned(site: Site) -> int:
    spec = RestoreSpec(store="live", prefix=b"", target="out")
    request_id = plan_restore(site, spec, ACTOR).request_id
    assert request_id is not None
    return request_id


def work(site: Site, request_id: int) -> Work:
    with site.catalog.read() as connection:
        left = batches.batches_of(connection, request_id=request_id)
        return work_of(connection, left, site.clock.now(), 7)


def move(site: Site, barcode: str, custody: Custody, place: str) -> None:
    with site.catalog.write() as connection:
        connection.execute(
            tables.volumes.update()
            .where(tables.volumes.c.barcode == barcode)
            .values(custody=custody, place=place)
        )


def test_the_plant_is_what_the_config_says(site: Site) -> None:
    plant = plant_of(site, Work([]))
    assert (plant.drives, plant.store_rate, plant.rounds) == (2, 2_000_000, 4)
    south = plant.vaults["south"]
    assert (south.transit, south.picks_per_hour) == (10_800.0, 40.0)
    assert list(south.departures) == [6.5 * 3600, 18 * 3600]
    assert list(plant.vaults["north"].departures) == []
    assert (plant.staging or 0) > 0


def test_a_vault_that_the_config_has_lost_is_as_far_as_the_farthest(site: Site) -> None:
    plant = plant_of(site, Work([], {"A": "gone"}))
    assert plant.vaults["gone"].transit == plant.vaults["south"].transit


def test_work_is_what_the_batches_need_and_where_it_lies(site: Site, clock: ManualClock) -> None:
    clock.advance(timedelta(hours=5))
    found = work(site, planned(site))
    assert found.sets == {
        name: TapeSet(2, ("TF0000L9", "TF0001L9", "TF0002L9")) for name in found.sets
    }
    assert len(found.sets) == 1
    assert set(found.places.values()) == {HERE}
    assert sum(job.objects for job in found.jobs) == len(CONTENTS)
    assert (found.starts, found.objects) == (5 * 3600, 7)


def test_volumes_count_where_they_are_and_where_they_are_bound_for(
    site: Site, clock: ManualClock
) -> None:
    request_id = planned(site)
    move(site, "TF0000L9", Custody.VAULTRETRIEVE, "vault:north")
    move(site, "TF0001L9", Custody.COURIER, "truck")
    move(site, "TF0002L9", Custody.VAULT, "vault:north")
    with site.catalog.write() as connection:
        for direction, barcode, vault in (
            (Direction.IN, "TF0000L9", "north"),
            (Direction.OUT, "TF0001L9", "south"),
        ):
            shipments.create(
                connection,
                {barcode: 0},
                direction=direction,
                vault=vault,
                reason=Reason.REDUNDANCY,
                at=clock.now(),
                due_at=clock.now(),
            )
    clock.advance(timedelta(minutes=1))
    found = work(site, request_id)
    assert found.coming == [Coming("north", ("TF0000L9",), 60.0, redundancy=True)]
    assert found.places["TF0001L9"] == "south"
    assert found.places["TF0002L9"] == "north"
    assert outlook(site, request_id)["ends_at"] > clock.now() + timedelta(hours=3)


def test_the_outlook_of_a_plan_is_its_forecast(site: Site, clock: ManualClock) -> None:
    request_id = planned(site)
    found = outlook(site, request_id)
    assert clock.now() < found["ends_at"] <= found["p95_ends_at"]
    with site.catalog.read() as connection:
        estimate = dict(requests.request(connection, request_id).plan or {})["estimate"]
    shown = found["stages"]["read"]
    assert shown["estimated_seconds"] == estimate["stages"]["read"]["seconds"]
    assert shown["actual_seconds"] is None


def test_the_outlook_follows_what_is_seen(site: Site, clock: ManualClock) -> None:
    request_id = planned(site)
    start_restore(site, request_id, ACTOR)
    before = outlook(site, request_id)
    left = before["ends_at"] - clock.now()
    with site.catalog.write() as connection:
        first = batch_rows(connection, request_id)[0]
        connection.execute(
            tables.batches.update()
            .where(tables.batches.c.id == first.id)
            .values(
                state="done",
                started_at=clock.now(),
                ended_at=clock.now() + timedelta(hours=1),
            )
        )
    clock.advance(timedelta(hours=1))
    after = outlook(site, request_id)
    assert after["ends_at"] - clock.now() > left
    assert after["stages"]["read"]["actual_seconds"] == 3600
    expected = after["stages"]["total"]["expected_seconds"]
    assert expected == pytest.approx(
        3600 + (after["ends_at"] - clock.now()).total_seconds(), rel=0.01
    )


def test_an_ended_restore_has_its_times_and_no_outlook(site: Site, clock: ManualClock) -> None:
    request_id = planned(site)
    start_restore(site, request_id, ACTOR)
    flow.advance(site, ACTOR)
    run_wave(site)
    clock.advance(timedelta(seconds=5))
    finish(site, request_id)
    found = outlook(site, request_id)
    assert found["ends_at"] is found["p95_ends_at"] is None
    assert found["stages"]["total"]["actual_seconds"] == 5
    assert found["stages"]["read"]["estimated_seconds"] > 0
