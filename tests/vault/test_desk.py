from dataclasses import fields
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest

from restore_lib.errors import Refused
from restore_lib.vault.desk import ReceiveResult, Visit, courier_of, due, vault_config
from tests.support.vaults import VaultWorld


def test_results_add_up_without_repeating() -> None:
    total = ReceiveResult(received=("A", "B"), closed=(1,)) + ReceiveResult(received=("B", "C"))
    assert total == ReceiveResult(received=("A", "B", "C"), closed=(1,))


@pytest.mark.parametrize("field", [f.name for f in fields(ReceiveResult)])
def test_everything_but_a_stranger_is_a_change(field: str) -> None:
    values: dict[str, Any] = {field: ("X",)}
    assert ReceiveResult(**values).changed is (field != "strangers")
    assert not ReceiveResult().changed


def test_vaults_find_their_courier(vault_world: VaultWorld) -> None:
    assert courier_of(vault_world.site, "north").name == "vendor"


def test_a_shipment_is_due_after_twice_the_transit(vault_world: VaultWorld) -> None:
    visit = Visit.begin(vault_world.site, "ann")
    assert due(visit, "north") == vault_world.clock.now() + timedelta(hours=16)


def test_each_time_that_it_is_asked_for_again_gives_twice_the_transit_more(
    vault_world: VaultWorld,
) -> None:
    visit = Visit.begin(vault_world.site, "ann")
    waits = [due(visit, "north", round_) - visit.now for round_ in range(4)]
    assert waits == [timedelta(hours=hours) for hours in (16, 32, 48, 64)]


@pytest.mark.parametrize(
    ("asked", "leaves"),
    [("05:00", "06:30"), ("06:30", "06:30"), ("07:00", "18:00"), ("19:00", "30:30")],
)
def test_a_shipment_that_waits_for_a_truck_is_due_later(
    vault_world: VaultWorld, asked: str, leaves: str
) -> None:
    def after(text: str) -> timedelta:
        hours, minutes = text.split(":")
        return timedelta(hours=int(hours), minutes=int(minutes))

    config = vault_world.site.config.vaults["north"]
    timetable = config.model_copy(update={"departures": [time(18), time(6, 30)]})
    midnight = datetime(2030, 1, 1, tzinfo=UTC)
    assert timetable.leaves(midnight + after(asked)) == midnight + after(leaves)
    vault_world.site.config.vaults["north"] = timetable
    visit = Visit.begin(vault_world.site, "ann")
    assert due(visit, "north") == timetable.leaves(visit.now) + timedelta(hours=16)


def test_an_unknown_vault_is_refused_with_the_known_ones(vault_world: VaultWorld) -> None:
    with pytest.raises(Refused, match="'east'") as caught:
        vault_config(vault_world.site, "east")
    assert "north, south, west" in caught.value.remedy
