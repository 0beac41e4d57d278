from datetime import timedelta

import pytest

from restore_lib.model.volume import Custody, Flag, Health, Reason
from restore_lib.vault.outbound import plan_vault_out, send_out
from restore_lib.vault.overdue import overdue
from restore_lib.vault.recalls import recall
from restore_lib.vault.receiving import receive
from tests.support.vaults import VaultWorld

TWICE_TRANSIT = timedelta(hours=16)
SECOND = timedelta(seconds=1)


@pytest.fixture
def recalled(vault_world: VaultWorld) -> VaultWorld:
    """A volume A000 that is asked for, from a vendor that has not looked yet."""
    vault_world.add_set("a", k=1, m=0)
    vault_world.vault_all()
    recall(vault_world.site, ["A000"], reason=Reason.RESTORE, actor="ann")
    return vault_world


def test_nothing_is_overdue_before_its_time(recalled: VaultWorld) -> None:
    recalled.clock.advance(TWICE_TRANSIT)
    assert not overdue(recalled.site, "ann").changed
    assert not recalled.volumes()["A000"].flags


def test_what_is_overdue_is_flagged_and_asked_for_again(recalled: VaultWorld) -> None:
    pick_list = next((recalled.courier / "outbox").iterdir())
    pick_list.unlink()
    recalled.clock.advance(TWICE_TRANSIT + timedelta(seconds=1))
    assert overdue(recalled.site, "ann").overdue == ("A000",)
    assert recalled.volumes()["A000"].flags == {Flag.OVERDUE}
    assert pick_list.exists()
    assert not overdue(recalled.site, "ann").changed
    recalled.settle()
    volume = recalled.volumes()["A000"]
    assert volume.custody is Custody.MOUNTABLE
    assert not volume.flags
    assert len(recalled.shipments()) == 2


def test_the_rounds_end_and_late_volumes_are_still_taken_in(recalled: VaultWorld) -> None:
    for round_ in range(4):
        recalled.clock.advance((round_ + 1) * TWICE_TRANSIT)
        assert not receive(recalled.site, "ann").changed
        recalled.clock.advance(SECOND)
        result = receive(recalled.site, "ann")
        assert result.overdue == ("A000",)
        assert result.lost == (("A000",) if round_ == 3 else ())
    volume = recalled.volumes()["A000"]
    assert (volume.health, volume.custody) == (Health.LOST, Custody.VAULT)
    assert volume.flags == {Flag.OVERDUE, Flag.MISSING}
    assert recalled.shipments()[-1]["state"] == "cancelled"
    recalled.clock.advance(10 * TWICE_TRANSIT)
    assert not receive(recalled.site, "ann").changed
    recalled.settle()
    volume = recalled.volumes()["A000"]
    assert (volume.health, volume.custody) == (Health.SUSPECT, Custody.MOUNTABLE)
    assert not volume.flags
    recalled.check_books()


def test_a_vault_that_is_closed_over_a_long_weekend_has_lost_nothing(recalled: VaultWorld) -> None:
    for _ in range(4 * 24):
        recalled.clock.advance(timedelta(hours=1))
        receive(recalled.site, "ann")
    assert recalled.volumes()["A000"].health is Health.OK
    recalled.settle()
    volume = recalled.volumes()["A000"]
    assert (volume.health, volume.custody) == (Health.OK, Custody.MOUNTABLE)


def test_an_acknowledgement_gives_the_truck_its_time(recalled: VaultWorld) -> None:
    recalled.vendors[0].delay = 3600
    recalled.clock.advance(TWICE_TRANSIT)
    recalled.vendor_works()
    receive(recalled.site, "ann")
    recalled.clock.advance(TWICE_TRANSIT)
    assert not receive(recalled.site, "ann").changed
    recalled.clock.advance(SECOND)
    assert receive(recalled.site, "ann").overdue == ("A000",)


def test_a_shipment_to_the_vault_that_nobody_fetches_is_announced_again(
    vault_world: VaultWorld,
) -> None:
    vault_world.add_set("a", k=1, m=0)
    send_out(vault_world.site, plan_vault_out(vault_world.site), "ann")
    packing_list = next((vault_world.courier / "outbox").iterdir())
    packing_list.unlink()
    vault_world.clock.advance(TWICE_TRANSIT + timedelta(seconds=1))
    assert overdue(vault_world.site, "ann").overdue == ("A000",)
    assert packing_list.exists()
    vault_world.settle()
    volume = vault_world.volumes()["A000"]
    assert (volume.custody, volume.flags) == (Custody.VAULT, frozenset())


def test_a_shipment_to_the_vault_is_announced_so_many_times(vault_world: VaultWorld) -> None:
    vault_world.add_set("a", k=1, m=0)
    send_out(vault_world.site, plan_vault_out(vault_world.site), "ann")
    for round_ in range(4):
        vault_world.clock.advance((round_ + 1) * TWICE_TRANSIT + SECOND)
        assert overdue(vault_world.site, "ann").overdue == ("A000",)
    vault_world.clock.advance(10 * TWICE_TRANSIT)
    assert not overdue(vault_world.site, "ann").changed
    volume = vault_world.volumes()["A000"]
    assert (volume.health, volume.flags) == (Health.OK, frozenset({Flag.OVERDUE, Flag.MISSING}))
    vault_world.settle()
    volume = vault_world.volumes()["A000"]
    assert (volume.custody, volume.flags) == (Custody.VAULT, frozenset())
