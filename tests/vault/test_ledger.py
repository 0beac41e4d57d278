import pytest

from restore_lib.catalog import shipments, volumes
from restore_lib.errors import InvalidTransition
from restore_lib.model.shipment import Direction, LineState, ShipmentState
from restore_lib.model.volume import Custody, Flag, Reason
from restore_lib.vault.desk import Visit
from restore_lib.vault.ledger import Ledger
from tests.support.vaults import VaultWorld


@pytest.fixture
def shipment_id(vault_world: VaultWorld) -> int:
    members = vault_world.add_set("a", k=2, m=0)
    now = vault_world.clock.now()
    with vault_world.site.catalog.write() as connection:
        return shipments.create(
            connection,
            dict.fromkeys(members, 1),
            direction=Direction.OUT,
            vault="north",
            reason=Reason.REDUNDANCY,
            at=now,
            due_at=now,
        )


def test_entries_carry_their_cause_and_show_at_once(
    vault_world: VaultWorld, shipment_id: int
) -> None:
    visit = Visit.begin(vault_world.site, "ann")
    with vault_world.site.catalog.write() as connection:
        ledger = Ledger.open(connection, visit, shipment_id)
        assert ledger is not None
        ledger.advance(ShipmentState.PICK_LISTED)
        ledger.mark(["A000"], LineState.PICKED)
        ledger.move(["A000"], (Custody.MOUNTABLE, Custody.NOTMOUNTABLE), "dock", "off it goes")
        assert ledger.flag(["A001"], Flag.MISSING, "nowhere") == ["A001"]
        assert ledger.shipment.state is ShipmentState.PICK_LISTED
        assert ledger.in_state(LineState.PICKED) == ["A000"]
        assert [v.barcode for v in ledger.volumes(["A000", "A001"], Custody.MOUNTABLE)] == ["A001"]
        ledger.unflag(["A001"], [Flag.MISSING, Flag.OVERDUE], "found")
    with vault_world.site.catalog.read() as connection:
        moved = volumes.history(connection, "A000")[-1]
        flagged = [e for e in volumes.history(connection, "A001") if e.field == "flag"]
    assert (moved.actor, moved.reason, moved.place) == ("ann", "off it goes", "dock")
    assert (moved.at, moved.shipment_id) == (visit.now, shipment_id)
    assert [(e.before, e.after) for e in flagged] == [("", "missing"), ("missing", "")]


def test_a_forbidden_entry_leaves_the_books_as_they_were(
    vault_world: VaultWorld, shipment_id: int
) -> None:
    visit = Visit.begin(vault_world.site, "ann")

    def overreach() -> None:
        with vault_world.site.catalog.write() as connection:
            ledger = Ledger.open(connection, visit, shipment_id)
            assert ledger is not None
            ledger.mark(["A000"], LineState.PICKED)
            ledger.advance(ShipmentState.CLOSED)

    with pytest.raises(InvalidTransition):
        overreach()
    assert vault_world.shipments()[0]["lines"]["A000"] == ("requested", "")


def test_there_are_no_books_of_an_unknown_shipment(vault_world: VaultWorld) -> None:
    visit = Visit.begin(vault_world.site, "ann")
    with vault_world.site.catalog.write() as connection:
        assert Ledger.open(connection, visit, 404) is None
