from pathlib import Path
from typing import Any

import pytest

from restore_lib.catalog import audit, volumes
from restore_lib.errors import Refused, VolumeAbsent
from restore_lib.library.virtual import VirtualLibrary
from restore_lib.model.volume import Custody, Flag, Health, Reason
from restore_lib.vault.found import enable, take_found
from restore_lib.vault.outbound import plan_vault_out, send_out
from restore_lib.vault.recalls import recall
from restore_lib.vault.receiving import receive
from tests.support.vaults import VaultWorld


@pytest.fixture
def world(vault_world: VaultWorld) -> VaultWorld:
    """A 2+1 set A000 to A002 in the library."""
    vault_world.add_set("a", k=2, m=1)
    return vault_world


def image(world: VaultWorld, barcode: str) -> Path:
    [found] = world.tapes.rglob(f"{barcode}.tap")
    return found


def mark(world: VaultWorld, barcode: str, health: Health, *flags: Flag) -> None:
    how: dict[str, Any] = {"actor": "ann", "reason": "test", "at": world.clock.now()}
    with world.site.catalog.write() as connection:
        if health is not Health.OK:
            volumes.change(connection, [barcode], "health", Health.OK, health, **how)
        for flag in flags:
            volumes.set_flag(connection, [barcode], flag, **how)


def actions(world: VaultWorld) -> list[str]:
    with world.site.catalog.read() as connection:
        assert audit.verify(connection).reason == ""
        return [event["action"] for event in audit.newest(connection, limit=100)]


def standing(world: VaultWorld, barcode: str) -> tuple[Health, Custody, str, frozenset[Flag]]:
    volume = world.volumes()[barcode]
    return volume.health, volume.custody, volume.place, volume.flags


HERE = (Health.SUSPECT, Custody.MOUNTABLE, "library", frozenset[Flag]())


@pytest.mark.parametrize(
    ("health", "flags"),
    [
        (Health.LOST, [Flag.MISSING]),
        (Health.LOST, [Flag.MISSING, Flag.OVERDUE]),
        (Health.DISABLED, []),
        (Health.OK, [Flag.MISSING]),
    ],
)
def test_what_was_given_up_and_is_in_the_library_is_suspect(
    world: VaultWorld, health: Health, flags: list[Flag]
) -> None:
    mark(world, "A000", health, *flags)
    assert take_found(world.site, ["A000"], "ann", "behind the shelf") == ["A000"]
    assert standing(world, "A000") == HERE
    with world.site.catalog.read() as connection:
        last = volumes.history(connection, "A000")[-1]
    assert (last.actor, last.reason) == ("ann", "behind the shelf")
    assert actions(world)[0] == "volumes.found"
    world.check_books()


def test_a_doubtful_label_stays_doubtful(world: VaultWorld) -> None:
    mark(world, "A000", Health.LOST, Flag.MISSING, Flag.LABEL_MISMATCH)
    take_found(world.site, ["A000"], "ann")
    assert world.volumes()["A000"].flags == {Flag.LABEL_MISMATCH}


def test_a_broken_volume_stays_broken(world: VaultWorld) -> None:
    mark(world, "A000", Health.BROKEN, Flag.MISSING)
    assert take_found(world.site, ["A000"], "ann") == ["A000"]
    assert standing(world, "A000") == (Health.BROKEN, *HERE[1:])


def test_the_others_stay_as_they_are(world: VaultWorld) -> None:
    mark(world, "A001", Health.SUSPECT)
    mark(world, "A002", Health.LOST, Flag.MISSING)
    before = world.volumes()
    assert take_found(world.site, ["A000", "A001"], "ann") == []
    assert world.volumes() == before
    assert actions(world) == []
    assert take_found(world.site, ["A000", "A001", "A002"], "ann") == ["A002"]
    assert take_found(world.site, ["A000", "A001", "A002"], "ann") == []


def test_what_is_not_there_is_not_found(world: VaultWorld) -> None:
    for barcode in ("A000", "A001"):
        mark(world, barcode, Health.LOST, Flag.MISSING)
    image(world, "A001").rename(world.root / "elsewhere")
    before = world.volumes()
    with pytest.raises(VolumeAbsent, match="A001 is neither in the library nor on its dock"):
        take_found(world.site, ["A000", "A001"], "ann")
    assert world.volumes() == before
    with pytest.raises(Refused, match="X404"):
        take_found(world.site, ["A000", "X404"], "ann")


def test_a_volume_of_a_vault_that_lies_on_the_dock_is_taken_in(world: VaultWorld) -> None:
    world.vault_all()
    mark(world, "A000", Health.LOST, Flag.MISSING)
    image(world, "A000").rename(world.tapes / "dock/A000.tap")
    assert take_found(world.site, ["A000"], "ann") == ["A000"]
    assert standing(world, "A000") == HERE
    world.check_books()


def test_a_volume_that_vanished_from_the_dock_comes_back(
    world: VaultWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def steal(_: VirtualLibrary, barcode: str) -> None:
        image(world, barcode).rename(world.root / "A000.tap")
        raise VolumeAbsent("gone")

    world.vault_all()
    recall(world.site, ["A000"], reason=Reason.RESTORE, actor="ann")
    world.vendor_works()
    with monkeypatch.context() as patch:
        patch.setattr(VirtualLibrary, "admit", steal)
        assert receive(world.site, "ann").lost == ("A000",)
    assert standing(world, "A000")[:2] == (Health.LOST, Custody.ONSITERETRIEVE)
    (world.root / "A000.tap").rename(world.tapes / "dock/A000.tap")
    assert take_found(world.site, ["A000"], "ann") == ["A000"]
    assert standing(world, "A000") == HERE
    world.check_books()


def test_a_volume_that_is_asked_for_and_found_here_is_not_waited_for(world: VaultWorld) -> None:
    world.vault_all()
    image(world, "A000").rename(world.root / "A000.tap")
    mark(world, "A000", Health.OK, Flag.MISSING)
    recall(world.site, ["A000"], reason=Reason.RESTORE, actor="ann")
    (world.root / "A000.tap").rename(world.tapes / "dock/A000.tap")
    take_found(world.site, ["A000"], "ann")
    world.settle()
    assert standing(world, "A000") == HERE
    [inbound] = [s for s in world.shipments() if s["way"] == "in"]
    assert inbound["state"] == "cancelled"
    world.check_books()


def test_a_volume_that_the_vault_never_had_was_never_sent(world: VaultWorld) -> None:
    """Its truck's receipt named it; it lay behind the dock all the time."""
    send_out(world.site, plan_vault_out(world.site), "ann")
    world.vendor_works()
    home = next(s["vault"] for s in world.shipments() if "A000" in s["lines"])
    for receipt in (world.courier / "inbox").glob("vault-receipt*"):
        receipt.write_text(receipt.read_text().replace('"A000"', ""))
    receive(world.site, "ann")
    assert standing(world, "A000")[1:] == (Custody.COURIER, "truck", frozenset({Flag.MISSING}))
    (world.tapes / f"vault-{home}/A000.tap").rename(world.tapes / "dock/A000.tap")
    assert take_found(world.site, ["A000"], "ann") == ["A000"]
    assert standing(world, "A000") == HERE
    world.check_books()
    assert plan_vault_out(world.site).barcodes == ["A000"]


def test_a_volume_that_a_shipment_is_to_take_is_left_to_it(world: VaultWorld) -> None:
    [first, *_] = send_out(world.site, plan_vault_out(world.site), "ann")
    mark(world, "A000", Health.OK, Flag.MISSING)
    with pytest.raises(Refused, match=f"A000 is on its way to a vault, by shipment {first}"):
        take_found(world.site, ["A000"], "ann")
    assert world.site.library.dock() == {"A000", "A001", "A002"}


def test_a_volume_that_went_missing_before_it_was_sealed_goes_later(world: VaultWorld) -> None:
    image(world, "A000").rename(world.root / "A000.tap")
    send_out(world.site, plan_vault_out(world.site), "ann")
    world.settle()
    assert standing(world, "A000")[1] is Custody.NOTMOUNTABLE
    (world.root / "A000.tap").rename(world.tapes / "library/slot-0040/A000.tap")
    assert take_found(world.site, ["A000"], "ann") == ["A000"]
    assert standing(world, "A000") == HERE
    world.vault_all()
    assert standing(world, "A000")[1] is Custody.VAULT
    world.check_books()


def test_disabled_volumes_are_enabled_and_no_others(world: VaultWorld) -> None:
    mark(world, "A000", Health.DISABLED)
    mark(world, "A001", Health.LOST, Flag.MISSING)
    assert enable(world.site, ["A000", "A001", "A002", "X404"], "ann", "repaired") == ["A000"]
    found = world.volumes()
    assert [found[b].health for b in sorted(found)] == [Health.SUSPECT, Health.LOST, Health.OK]
    assert actions(world) == ["volumes.enable"]
    assert enable(world.site, ["A000"], "ann", "repaired") == []
    assert actions(world) == ["volumes.enable"]
