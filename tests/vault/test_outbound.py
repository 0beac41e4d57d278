from pathlib import Path

import pytest

from restore_lib.catalog import audit, offsite, volumes
from restore_lib.catalog.leases import CatalogLeases
from restore_lib.errors import ConfigError, DriveBusy
from restore_lib.library.mounting import mounted
from restore_lib.model.volume import Custody, Flag, Health, Reason
from restore_lib.vault.documents import PackingList, parse
from restore_lib.vault.found import enable
from restore_lib.vault.outbound import VaultPlan, plan_vault_out, send_out
from restore_lib.vault.recalls import recall
from restore_lib.vault.receiving import receive
from tests.support.vaults import VaultWorld


def packing_lists(world: VaultWorld) -> list[PackingList]:
    found = []
    for path in sorted((world.courier / "outbox").iterdir()):
        document = parse(path.name, path.read_bytes())
        assert isinstance(document, PackingList)
        found.append(document)
    return found


def test_nothing_to_send_is_an_empty_plan(vault_world: VaultWorld) -> None:
    plan = plan_vault_out(vault_world.site)
    assert plan.as_dict() == {"shipments": (), "notes": ()}
    assert send_out(vault_world.site, plan, "ann") == []
    assert vault_world.shipments() == []


def test_the_plan_covers_closed_sets_of_the_policy(vault_world: VaultWorld) -> None:
    members = vault_world.add_set("a")
    plan = plan_vault_out(vault_world.site, "photos")
    assert plan.barcodes == members
    assert {s.vault for s in plan.shipments} == {"north", "south", "west"}
    assert plan_vault_out(vault_world.site, "mail").barcodes == []


def test_something_to_send_needs_a_vault(sqlite_url: str, tmp_path: Path) -> None:
    world = VaultWorld(tmp_path, sqlite_url, {})
    world.add_set("a")
    with pytest.raises(ConfigError, match="6 volumes are to go offsite"):
        plan_vault_out(world.site)
    world.close()


def test_volumes_are_ejected_sealed_and_announced(vault_world: VaultWorld) -> None:
    members = vault_world.add_set("a")
    sent = send_out(vault_world.site, plan_vault_out(vault_world.site), "ann")
    assert [s["id"] for s in vault_world.shipments()] == sent
    assert {s["state"] for s in vault_world.shipments()} == {"sealed"}
    found = vault_world.volumes()
    assert {(v.custody, v.place) for v in found.values()} == {(Custody.NOTMOUNTABLE, "dock")}
    assert vault_world.site.library.dock() == set(members)
    lists = packing_lists(vault_world)
    assert [paper.shipment for paper in lists] == sent
    assert sorted(b for paper in lists for b in paper.volumes) == members
    assert all(len(paper.boxes) == 2 for paper in lists)
    assert len({paper.seal for paper in lists}) == 3
    with vault_world.site.catalog.read() as connection:
        assert audit.verify(connection).ok
        event = volumes.history(connection, members[0])[-1]
    assert (event.actor, event.after, event.shipment_id in sent) == ("ann", "notmountable", True)


def test_sending_the_same_plan_again_makes_nothing_twice(vault_world: VaultWorld) -> None:
    vault_world.add_set("a")
    plan = plan_vault_out(vault_world.site)
    first = send_out(vault_world.site, plan, "ann")
    before = vault_world.shipments()
    assert send_out(vault_world.site, plan, "ann") == first
    assert plan_vault_out(vault_world.site).shipments == ()
    vault_world.settle()
    assert send_out(vault_world.site, plan, "ann") == []
    assert [s["id"] for s in vault_world.shipments()] == [s["id"] for s in before]


def test_what_a_restore_has_come_to_need_since_the_plan_stays(
    vault_world: VaultWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = vault_world.add_set("a")
    plan = plan_vault_out(vault_world.site)
    monkeypatch.setattr(offsite, "awaited", lambda _: {members[0]})
    send_out(vault_world.site, plan, "ann")
    assert vault_world.site.library.dock() == set(members[1:])
    assert vault_world.volumes()[members[0]].custody is Custody.MOUNTABLE


def test_volumes_reach_their_vaults_and_shipments_close(vault_world: VaultWorld) -> None:
    members = vault_world.add_set("a")
    sent = send_out(vault_world.site, plan_vault_out(vault_world.site), "ann")
    result = vault_world.settle()
    assert sorted(result.vaulted) == members
    assert sorted(result.closed) == sent
    assert {s["state"] for s in vault_world.shipments()} == {"closed"}
    assert {v.custody for v in vault_world.volumes().values()} == {Custody.VAULT}
    vault_world.check_books()
    with vault_world.site.catalog.read() as connection:
        by_vault = offsite.members_by_vault(connection)
    assert by_vault == {("a", "north"): 2, ("a", "south"): 2, ("a", "west"): 2}


def test_a_volume_in_a_drive_is_waited_for(vault_world: VaultWorld) -> None:
    members = vault_world.add_set("a")
    plan = plan_vault_out(vault_world.site)
    site = vault_world.site
    leases = CatalogLeases(site.catalog, site.clock)
    with (
        mounted(site.library, leases, members[3], "a batch"),
        pytest.raises(DriveBusy, match=members[3]),
    ):
        send_out(site, plan, "ann")
    send_out(vault_world.site, VaultPlan((), ()), "ann")
    assert vault_world.site.library.dock() == set(members)
    assert {s["state"] for s in vault_world.shipments()} == {"sealed"}


def test_a_volume_that_a_killed_task_left_in_a_drive_goes_out_too(vault_world: VaultWorld) -> None:
    members = vault_world.add_set("a")
    vault_world.site.library.load(members[3], 0, token=0)
    send_out(vault_world.site, plan_vault_out(vault_world.site), "ann")
    assert vault_world.site.library.dock() == set(members)
    assert {s["state"] for s in vault_world.shipments()} == {"sealed"}


def test_a_volume_that_is_stuck_in_a_dead_drive_stays_and_keeps_no_other(
    vault_world: VaultWorld,
) -> None:
    members = vault_world.add_set("a")
    vault_world.site.library.load(members[3], 0, token=0)
    vault_world.site.virtual_library()._bays[0].die()
    send_out(vault_world.site, plan_vault_out(vault_world.site), "ann")
    assert vault_world.site.library.dock() == {*members} - {members[3]}
    stuck = vault_world.volumes()[members[3]]
    assert (stuck.health, stuck.custody) == (Health.DISABLED, Custody.MOUNTABLE)
    vault_world.settle()
    assert plan_vault_out(vault_world.site).shipments == ()
    vault_world.site.virtual_library().repair_drive(0)
    enable(vault_world.site, [members[3]], "ann", "repaired")
    send_out(vault_world.site, plan_vault_out(vault_world.site), "ann")
    vault_world.settle()
    assert vault_world.volumes()[members[3]].custody is Custody.VAULT


def test_a_volume_that_is_not_there_is_an_exception_and_keeps_no_other(
    vault_world: VaultWorld,
) -> None:
    members = vault_world.add_set("a")
    next(vault_world.tapes.glob(f"library/*/{members[0]}.tap")).unlink()
    send_out(vault_world.site, plan_vault_out(vault_world.site), "ann")
    vault_world.settle()
    found = vault_world.volumes()
    assert found[members[0]].flags == {Flag.MISSING}
    assert {found[b].custody for b in members[1:]} == {Custody.VAULT}
    ends = sorted(s["state"] for s in vault_world.shipments())
    assert ends == ["closed", "closed", "closed_with_exceptions"]
    assert plan_vault_out(vault_world.site).shipments == ()


def test_a_shipment_without_any_volume_left_is_cancelled(vault_world: VaultWorld) -> None:
    members = vault_world.add_set("a", k=1, m=0)
    next(vault_world.tapes.glob(f"library/*/{members[0]}.tap")).unlink()
    send_out(vault_world.site, plan_vault_out(vault_world.site), "ann")
    assert [s["state"] for s in vault_world.shipments()] == ["cancelled"]
    assert not vault_world.vendors[0].courier.waiting()


def test_what_the_truck_left_goes_with_a_later_one(vault_world: VaultWorld) -> None:
    members = vault_world.add_set("a")
    send_out(vault_world.site, plan_vault_out(vault_world.site), "ann")
    left = members[0]
    hidden = vault_world.tapes / "hidden"
    (vault_world.tapes / "dock" / f"{left}.tap").rename(hidden)
    vault_world.vendor_works()
    hidden.rename(vault_world.tapes / "dock" / f"{left}.tap")
    assert receive(vault_world.site, "ann").omitted == (left,)
    assert vault_world.volumes()[left].custody is Custody.NOTMOUNTABLE
    again = plan_vault_out(vault_world.site)
    assert again.barcodes == [left]
    send_out(vault_world.site, again, "ann")
    vault_world.settle()
    assert vault_world.volumes()[left].custody is Custody.VAULT
    vault_world.check_books()


def test_a_member_that_came_back_returns_to_where_its_set_has_the_fewest(
    vault_world: VaultWorld,
) -> None:
    members = vault_world.add_set("a")
    vault_world.vault_all()
    came = next(b for b in members if vault_world.volumes()[b].place == "vault:south")
    recall(vault_world.site, [came], reason=Reason.VERIFY, actor="ann")
    vault_world.settle()
    plan = plan_vault_out(vault_world.site)
    assert [(s.vault, s.barcodes) for s in plan.shipments] == [("south", [came])]
    assert plan.notes == ()
