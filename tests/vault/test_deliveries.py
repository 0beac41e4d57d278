"""What happens when volumes come, do not come, or come though nobody asked for them."""

import json

import pytest

from restore_lib.errors import Refused
from restore_lib.library.virtual import VirtualLibrary
from restore_lib.model.volume import Custody, Flag, Health, Reason
from restore_lib.vault import deliveries
from restore_lib.vault.documents import DeliveryNote
from restore_lib.vault.outbound import plan_vault_out, send_out
from restore_lib.vault.recalls import recall
from restore_lib.vault.receiving import receive
from tests.support.vaults import VaultWorld


@pytest.fixture
def vaulted(vault_world: VaultWorld) -> VaultWorld:
    """Two 2+1 sets, A and B, one member of each in each of three vaults."""
    vault_world.add_set("a", k=2, m=1)
    vault_world.add_set("b", k=2, m=1)
    vault_world.vault_all()
    return vault_world


def ask(world: VaultWorld, *barcodes: str) -> list[int]:
    return recall(world.site, barcodes, reason=Reason.RESTORE, actor="ann")


def neighbours(world: VaultWorld) -> tuple[str, str]:
    """Return two volumes that lie in one vault."""
    first = min(world.volumes())
    place = world.volumes()[first].place
    return first, next(b for b, v in world.volumes().items() if v.place == place and b != first)


def shipment(world: VaultWorld, shipment_id: int) -> dict[str, object]:
    return next(s for s in world.shipments() if s["id"] == shipment_id)


def test_all_that_was_asked_for_comes_into_the_library(vaulted: VaultWorld) -> None:
    ids = ask(vaulted, "A000", "A001", "A002")
    result = vaulted.settle()
    assert sorted(result.received) == ["A000", "A001", "A002"]
    assert sorted(result.closed) == ids
    assert not result.omitted
    for found in (shipment(vaulted, i) for i in ids):
        assert found["state"] == "closed"
    here = vaulted.volumes()["A000"]
    assert (here.custody, here.place, here.flags) == (Custody.MOUNTABLE, "library", frozenset())
    vaulted.check_books()


@pytest.mark.parametrize("at", ["acknowledgement", "shipment"])
def test_what_is_left_out_is_noticed_and_comes_without_a_person(
    vaulted: VaultWorld, at: str
) -> None:
    wanted = {*neighbours(vaulted), "A001", "A002"}
    vaulted.omit(["A000"], at)
    ids = ask(vaulted, *wanted)
    result = vaulted.settle()
    assert result.omitted == ("A000",)
    assert len(result.recalled) == 1
    assert not result.lost
    found = vaulted.volumes()
    assert {b for b in found if found[b].custody is Custody.MOUNTABLE} == wanted
    follower = shipment(vaulted, result.recalled[0])
    assert (follower["state"], follower["round"]) == ("closed", 1)
    assert follower["follows"] in ids
    first = shipment(vaulted, ids[0])
    assert first["state"] == "closed_with_exceptions"
    assert not vaulted.volumes()["A000"].flags
    vaulted.check_books()


def test_an_omission_surfaces_with_the_acknowledgement_before_any_truck(
    vaulted: VaultWorld,
) -> None:
    vaulted.vendors[0].delay = 3600
    vaulted.omit(["A000"], "acknowledgement")
    ask(vaulted, *neighbours(vaulted))
    vaulted.vendor_works()
    result = receive(vaulted.site, "ann")
    assert (result.omitted, result.received) == (("A000",), ())
    assert len(result.recalled) == 1


def test_a_volume_on_the_note_but_not_on_the_dock_is_missing(vaulted: VaultWorld) -> None:
    ids = ask(vaulted, *neighbours(vaulted))
    vaulted.vendor_works()
    stolen = vaulted.tapes / "stolen"
    (vaulted.tapes / "dock/A000.tap").rename(stolen)
    result = receive(vaulted.site, "ann")
    assert result.omitted == ("A000",)
    assert vaulted.volumes()["A000"].flags == {Flag.MISSING}
    lines = shipment(vaulted, ids[0])["lines"]
    assert isinstance(lines, dict)
    assert lines["A000"] == ("omitted", "on the delivery note, not on the dock")
    stolen.rename(vaulted.tapes / "dock/A000.tap")
    vaulted.settle()
    volume = vaulted.volumes()["A000"]
    assert (volume.custody, volume.flags) == (Custody.MOUNTABLE, frozenset())


def test_a_volume_that_nobody_asked_for_is_taken_in_and_flagged(vaulted: VaultWorld) -> None:
    asked, extra = neighbours(vaulted)
    ids = ask(vaulted, asked)
    vaulted.vendor_works()
    home = vaulted.volumes()[extra].place.replace("vault:", "vault-")
    (vaulted.tapes / home / f"{extra}.tap").rename(vaulted.tapes / f"dock/{extra}.tap")
    result = receive(vaulted.site, "ann")
    assert result.extra == (extra,)
    volume = vaulted.volumes()[extra]
    assert (volume.custody, volume.flags) == (Custody.MOUNTABLE, frozenset({Flag.UNEXPECTED}))
    assert shipment(vaulted, ids[0])["state"] == "closed_with_exceptions"
    vaulted.check_books()


def test_a_volume_of_no_catalog_stays_on_the_dock_and_is_named(vaulted: VaultWorld) -> None:
    ids = ask(vaulted, "A000")
    vaulted.vendor_works()
    (vaulted.tapes / "dock/ZZZ999.tap").touch()
    result = receive(vaulted.site, "ann")
    assert result.strangers == ("ZZZ999",)
    assert vaulted.site.library.dock() == {"ZZZ999"}
    assert shipment(vaulted, ids[0])["state"] == "closed"


def test_trucks_that_come_together_do_not_take_each_others_volumes_for_extra(
    vaulted: VaultWorld,
) -> None:
    ask(vaulted, "A000", "A001", "A002")
    vaulted.vendor_works()
    assert vaulted.site.library.dock() == {"A000", "A001", "A002"}
    result = receive(vaulted.site, "ann")
    assert not result.extra
    assert {s["state"] for s in vaulted.shipments()} == {"closed"}


def test_volumes_that_wait_to_go_out_are_left_alone(vaulted: VaultWorld) -> None:
    waiting = vaulted.add_set("c", k=1, m=0)
    ask(vaulted, "A000")
    vaulted.vendor_works()
    send_out(vaulted.site, plan_vault_out(vaulted.site), "ann")
    result = receive(vaulted.site, "ann")
    assert (result.received, result.extra, result.strangers) == (("A000",), (), ())
    assert vaulted.site.library.dock() == set(waiting)


def test_the_same_papers_again_have_no_effect(vaulted: VaultWorld) -> None:
    vaulted.omit(["A000"], "shipment")
    ask(vaulted, *neighbours(vaulted))
    vaulted.settle()
    before = (vaulted.shipments(), vaulted.volumes())
    for path in (vaulted.courier / "archive").iterdir():
        if not path.name.startswith(("pick", "packing")):
            path.rename(vaulted.courier / "inbox" / path.name)
    result = receive(vaulted.site, "ann")
    assert not result.changed
    assert (vaulted.shipments(), vaulted.volumes()) == before


def test_a_delivery_without_an_acknowledgement_is_received(vaulted: VaultWorld) -> None:
    ids = ask(vaulted, "A000")
    vaulted.vendor_works()
    acknowledgement = next((vaulted.courier / "inbox").glob("ack*"))
    text = acknowledgement.read_bytes()
    acknowledgement.unlink()
    assert receive(vaulted.site, "ann").received == ("A000",)
    acknowledgement.write_bytes(text)
    assert not receive(vaulted.site, "ann").changed
    assert shipment(vaulted, ids[0])["state"] == "closed"


def test_a_volume_that_came_though_not_acknowledged_is_not_asked_for_for_ever(
    vaulted: VaultWorld,
) -> None:
    vaulted.vendors[0].delay = 3600
    asked = neighbours(vaulted)
    vaulted.omit(["A000"], "acknowledgement")
    ids = ask(vaulted, *asked)
    vaulted.vendor_works()
    (follower,) = receive(vaulted.site, "ann").recalled
    home = vaulted.volumes()["A000"].place.replace("vault:", "vault-")
    (vaulted.tapes / home / "A000.tap").rename(vaulted.tapes / "dock/A000.tap")
    vaulted.vendors[0].delay = 0
    vaulted.settle()
    assert shipment(vaulted, ids[0])["state"] == "closed"
    assert shipment(vaulted, follower)["state"] in {"closed", "cancelled"}
    assert vaulted.volumes()["A000"].custody is Custody.MOUNTABLE
    vaulted.check_books()


def test_a_second_truck_of_a_shipment_brings_what_was_asked_for_again(
    vaulted: VaultWorld,
) -> None:
    vaulted.omit(["A000"], "shipment")
    (asked,) = ask(vaulted, *neighbours(vaulted))
    vaulted.vendor_works()
    first = next((vaulted.courier / "inbox").glob("delivery*"))
    paper = json.loads(first.read_bytes())
    paper["volumes"].remove("A000")
    first.write_text(json.dumps(paper))
    home = vaulted.volumes()["A000"].place.replace("vault:", "vault-")
    (follower,) = receive(vaulted.site, "ann").recalled
    (vaulted.tapes / home / "A000.tap").rename(vaulted.tapes / "dock/A000.tap")
    second = DeliveryNote(
        cluster="test",
        shipment=asked,
        vault=home.removeprefix("vault-"),
        issued_at=vaulted.clock.now(),
        volumes=("A000",),
    )
    vaulted.vendors[0].courier.send(second)
    assert "A000" in receive(vaulted.site, "ann").received
    vaulted.settle()
    assert shipment(vaulted, follower)["state"] in {"closed", "cancelled"}
    volume = vaulted.volumes()["A000"]
    assert (volume.custody, volume.health) == (Custody.MOUNTABLE, Health.OK)
    vaulted.check_books()


def test_a_lost_volume_that_turns_up_is_suspect_not_lost(vaulted: VaultWorld) -> None:
    asked, found_again = neighbours(vaulted)
    home = vaulted.tapes / vaulted.volumes()[found_again].place.replace("vault:", "vault-")
    hidden = vaulted.tapes / "hidden"
    (home / f"{found_again}.tap").rename(hidden)
    ask(vaulted, found_again)
    assert vaulted.settle().lost == (found_again,)
    hidden.rename(vaulted.tapes / f"dock/{found_again}.tap")
    ask(vaulted, asked)
    assert vaulted.settle().extra == (found_again,)
    volume = vaulted.volumes()[found_again]
    assert (volume.health, volume.custody) == (Health.SUSPECT, Custody.MOUNTABLE)
    assert volume.flags == {Flag.UNEXPECTED}


def test_a_full_library_takes_in_what_it_can_and_the_rest_later(vaulted: VaultWorld) -> None:
    library = vaulted.site.virtual_library()
    library.add_blank([f"FILL{n:03}" for n in range(39)])
    first, second = neighbours(vaulted)
    ids = ask(vaulted, first, second)
    vaulted.vendor_works()
    with pytest.raises(Refused, match="No storage slot is free"):
        receive(vaulted.site, "ann")
    found = vaulted.volumes()
    assert found[first].custody is Custody.MOUNTABLE
    assert (found[second].custody, found[second].place) == (Custody.ONSITERETRIEVE, "dock")
    library.export("FILL000")
    assert vaulted.settle().received == (second,)
    assert shipment(vaulted, ids[0])["state"] == "closed"
    vaulted.check_books()


def test_a_volume_that_vanishes_between_scan_and_shelf_is_lost(
    vaulted: VaultWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(vaulted, "A000")
    vaulted.vendor_works()
    admit = VirtualLibrary.admit

    def steal_first(self: VirtualLibrary, barcode: str) -> None:
        (vaulted.tapes / f"dock/{barcode}.tap").unlink()
        admit(self, barcode)

    monkeypatch.setattr(VirtualLibrary, "admit", steal_first)
    assert receive(vaulted.site, "ann").lost == ("A000",)
    volume = vaulted.volumes()["A000"]
    assert (volume.health, volume.flags) == (Health.LOST, frozenset({Flag.MISSING}))
    assert [s["state"] for s in vaulted.shipments() if s["way"] == "in"] == [
        "closed_with_exceptions"
    ]


def test_of_a_large_delivery_the_first_volumes_are_here_while_others_come_in(
    vaulted: VaultWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "AT_ONCE", 1)
    first, second = neighbours(vaulted)
    ids = ask(vaulted, first, second)
    vaulted.vendor_works()
    admit = VirtualLibrary.admit
    seen: list[tuple[str, Custody]] = []

    def watched(self: VirtualLibrary, barcode: str) -> None:
        seen.append((barcode, vaulted.volumes()[first].custody))
        admit(self, barcode)

    monkeypatch.setattr(VirtualLibrary, "admit", watched)
    assert receive(vaulted.site, "ann").received == (first, second)
    assert seen == [(first, Custody.ONSITERETRIEVE), (second, Custody.MOUNTABLE)]
    assert shipment(vaulted, ids[0])["state"] == "closed"
    vaulted.check_books()
