"""What the receipts of trucks and vaults do to shipments on their way out."""

from typing import Any

import pytest

from restore_lib.catalog.volumes import history
from restore_lib.model.volume import Custody, Flag
from restore_lib.vault.documents import PickupReceipt, VaultReceipt
from restore_lib.vault.outbound import plan_vault_out, send_out
from restore_lib.vault.recalls import plan_recall
from restore_lib.vault.receiving import receive
from tests.support.vaults import VaultWorld


@pytest.fixture
def sealed(sqlite_url: str, vault_world: VaultWorld) -> VaultWorld:
    """Six volumes on three trucks' lists, on the dock."""
    vault_world.add_set("a")
    send_out(vault_world.site, plan_vault_out(vault_world.site), "ann")
    return vault_world


def paper(world: VaultWorld, kind: Any, *volumes: str, seal: str | None = None) -> Any:
    """Send a receipt for the first shipment as the vendor would."""
    first = world.shipments()[0]
    document = kind(
        cluster="test",
        shipment=first["id"],
        vault=first["vault"],
        issued_at=world.clock.now(),
        volumes=volumes,
        seal=seal or f"TF-{first['id']:08}",
    )
    world.vendors[0].courier.send(document)
    return receive(world.site, "ann")


def members(world: VaultWorld) -> list[str]:
    return sorted(world.shipments()[0]["lines"])


def test_the_truck_takes_custody(sealed: VaultWorld) -> None:
    first, second = members(sealed)
    result = paper(sealed, PickupReceipt, first, second)
    assert result.advanced == (sealed.shipments()[0]["id"],)
    assert sealed.shipments()[0]["state"] == "in_transit"
    volume = sealed.volumes()[first]
    assert (volume.custody, volume.place) == (Custody.COURIER, "truck")
    assert not paper(sealed, PickupReceipt, first, second).changed


def test_a_receipt_of_the_vault_alone_does_for_both(sealed: VaultWorld) -> None:
    first, second = members(sealed)
    result = paper(sealed, VaultReceipt, first, second)
    assert sorted(result.vaulted) == [first, second]
    assert sealed.shipments()[0]["state"] == "closed"
    assert not paper(sealed, PickupReceipt, first, second).changed


def test_what_the_vault_has_not_received_is_missing_and_may_still_come(
    sealed: VaultWorld,
) -> None:
    first, second = members(sealed)
    paper(sealed, PickupReceipt, first, second)
    result = paper(sealed, VaultReceipt, first)
    assert (result.vaulted, result.omitted) == ((first,), (second,))
    assert sealed.shipments()[0]["state"] == "closed_with_exceptions"
    volume = sealed.volumes()[second]
    assert (volume.custody, volume.flags) == (Custody.COURIER, frozenset({Flag.MISSING}))
    assert plan_recall(sealed.site, [second]).lost == (second,)
    assert not paper(sealed, VaultReceipt, first).changed
    assert paper(sealed, VaultReceipt, first, second).vaulted == (second,)
    volume = sealed.volumes()[second]
    assert (volume.custody, volume.flags) == (Custody.VAULT, frozenset())


def test_a_volume_that_went_though_the_truck_did_not_say_so_has_arrived(
    sealed: VaultWorld,
) -> None:
    first, second = members(sealed)
    assert paper(sealed, PickupReceipt, first).omitted == (second,)
    assert sealed.volumes()[second].custody is Custody.NOTMOUNTABLE
    assert sorted(paper(sealed, VaultReceipt, first, second).vaulted) == [first, second]
    assert sealed.volumes()[second].custody is Custody.VAULT


def test_another_seal_is_flagged(sealed: VaultWorld) -> None:
    first, second = members(sealed)
    paper(sealed, PickupReceipt, first, second, seal="TF-FORGED")
    assert sealed.volumes()[first].flags == {Flag.SEAL_BROKEN}


def test_a_seal_that_is_broken_on_the_way_is_flagged_by_the_vault(sealed: VaultWorld) -> None:
    first, second = members(sealed)
    paper(sealed, PickupReceipt, first, second)
    assert not sealed.volumes()[first].flags
    paper(sealed, VaultReceipt, first, second, seal="TF-FORGED")
    found = sealed.volumes()[first]
    assert (found.custody, found.flags) == (Custody.VAULT, frozenset({Flag.SEAL_BROKEN}))
    with sealed.site.catalog.read() as connection:
        last = history(connection, first)[-1]
    assert last.reason.startswith("vault ")
    assert last.reason.endswith(" found seal 'TF-FORGED', not 'TF-00000001'")


def test_a_receipt_of_the_vault_alone_tells_of_its_seal_once(sealed: VaultWorld) -> None:
    first, second = members(sealed)
    paper(sealed, VaultReceipt, first, second, seal="TF-FORGED")
    with sealed.site.catalog.read() as connection:
        events = [e for e in history(connection, first) if e.field == "flag"]
    assert [e.after for e in events] == [Flag.SEAL_BROKEN]


def test_a_volume_that_is_not_on_the_list_is_named(sealed: VaultWorld) -> None:
    first, second = members(sealed)
    assert paper(sealed, PickupReceipt, first, second, "X404").strangers == ("X404",)
    assert "X404" not in sealed.volumes()
