import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from restore_lib.catalog import audit
from restore_lib.errors import CatalogUnavailable, CourierUnavailable
from restore_lib.model.volume import Custody, Reason
from restore_lib.site import Site
from restore_lib.vault import receiving
from restore_lib.vault.desk import Rejection
from restore_lib.vault.documents import Acknowledgement, PickupReceipt
from restore_lib.vault.outbound import plan_vault_out, send_out
from restore_lib.vault.recalls import recall
from restore_lib.vault.receiving import needs_attention, receive, waiting
from tests.support.vaults import VaultWorld
from tests.vault.test_documents import cells


@pytest.fixture
def recalled(vault_world: VaultWorld) -> VaultWorld:
    """A volume A000 that is in a vault and asked for."""
    vault_world.add_set("a", k=1, m=0)
    vault_world.vault_all()
    recall(vault_world.site, ["A000"], reason=Reason.RESTORE, actor="ann")
    return vault_world


def inbound(world: VaultWorld) -> dict[str, Any]:
    return world.shipments()[-1]


def test_waiting_is_about_documents_only(recalled: VaultWorld) -> None:
    recalled.site.catalog.close()
    recalled.site.__dict__.pop("catalog")
    assert not waiting(recalled.site)
    recalled.vendor_works()
    assert waiting(recalled.site)
    assert "catalog" not in recalled.site.__dict__
    receive(recalled.site, "ann")
    assert not waiting(recalled.site)


def test_nothing_waits_and_nothing_changes(vault_world: VaultWorld) -> None:
    assert not receive(vault_world.site, "ann").changed


def test_attention_is_due_to_papers_to_unsent_recalls_and_to_time(
    vault_world: VaultWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault_world.add_set("a", k=1, m=0)
    vault_world.vault_all()
    assert not needs_attention(vault_world.site)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("restore_lib.vault.courier.DirectoryCourier.send", die)
        with pytest.raises(KeyboardInterrupt):
            recall(vault_world.site, ["A000"], reason=Reason.RESTORE, actor="ann")
    assert needs_attention(vault_world.site)
    receive(vault_world.site, "ann")
    assert not needs_attention(vault_world.site)
    vault_world.clock.advance(timedelta(hours=17))
    assert needs_attention(vault_world.site)
    assert receive(vault_world.site, "ann").overdue == ("A000",)
    assert not needs_attention(vault_world.site)
    vault_world.vendor_works()
    assert needs_attention(vault_world.site)
    assert receive(vault_world.site, "ann").received == ("A000",)
    assert not needs_attention(vault_world.site)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cluster": "other"}, "for cluster other, this is test"),
        ({"shipment": 404}, "no shipment 404"),
        ({"vault": "elsewhere"}, "is with vault"),
        ({"kind": "pick_list", "reason": "drill", "round": 0}, "goes to the vault"),
        ({"kind": "pickup_receipt", "seal": "x"}, "goes the other way"),
        ({"format": 9}, "format 9"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_paper_that_is_not_to_act_on_is_set_aside_and_keeps_no_other(
    recalled: VaultWorld, change: dict[str, Any], reason: str
) -> None:
    shipment = inbound(recalled)
    good = Acknowledgement(
        cluster="test",
        shipment=shipment["id"],
        vault=shipment["vault"],
        issued_at=recalled.clock.now(),
        volumes=("A000",),
    )
    bad = json.loads(good.json()) | change
    if bad["kind"] == "pick_list":
        bad["due_at"] = bad["issued_at"]
    (recalled.courier / "inbox/aaa.json").write_text(json.dumps(bad), encoding="utf-8")
    recalled.vendor_works()
    result = receive(recalled.site, "ann")
    [rejected] = result.rejected
    assert rejected.document == "aaa.json"
    assert reason in rejected.reason
    assert any(words in rejected.reason for words in cells("## Why a document is rejected"))
    assert result.received == ("A000",)
    text = (recalled.courier / "rejected/aaa.json.reason.txt").read_text()
    assert text == f"{rejected.reason}\n"
    assert not waiting(recalled.site)


def test_a_receipt_for_what_was_not_handed_out_yet_is_set_aside(
    vault_world: VaultWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault_world.add_set("a", k=1, m=0)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("restore_lib.vault.outbound._seal", die)
        with pytest.raises(KeyboardInterrupt):
            send_out(vault_world.site, plan_vault_out(vault_world.site), "ann")
    shipment = inbound(vault_world)
    receipt = PickupReceipt(
        cluster="test",
        shipment=shipment["id"],
        vault=shipment["vault"],
        issued_at=vault_world.clock.now(),
        volumes=("A000",),
        seal="TF-1",
    )
    vault_world.vendors[0].courier.send(receipt)
    [rejected] = receive(vault_world.site, "ann").rejected
    assert "has not been handed out yet" in cells("## Why a document is rejected")
    assert rejected == Rejection(
        receipt.name, "shipment 1 is pick_listed: it has not been handed out yet"
    )
    assert inbound(vault_world)["state"] == "pick_listed"


def test_an_error_with_one_paper_keeps_it_waiting_and_no_other_back(
    recalled: VaultWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise CatalogUnavailable("The catalog rests.")

    recalled.vendor_works()
    with monkeypatch.context() as patch:
        patch.setattr(receiving, "acknowledged", fail)
        with pytest.raises(CatalogUnavailable):
            receive(recalled.site, "ann")
    assert inbound(recalled)["state"] == "closed"
    names = [path.name for path in (recalled.courier / "inbox").iterdir()]
    assert [name.partition("-")[0] for name in names] == ["acknowledgement"]
    assert not receive(recalled.site, "ann").changed
    assert not waiting(recalled.site)


def test_a_courier_that_is_away_keeps_no_other_back(recalled: VaultWorld) -> None:
    text = recalled.config_path.read_text()
    away = '[couriers.absent]\npath = "away"\n[couriers.vendor]'
    recalled.config_path.write_text(text.replace("[couriers.vendor]", away))
    recalled.restart()
    recalled.vendor_works()
    shutil.rmtree(recalled.root / "away")
    (recalled.root / "away").write_text("not a folder")
    assert needs_attention(recalled.site)
    with pytest.raises(CourierUnavailable, match="absent"):
        receive(recalled.site, "ann")
    assert inbound(recalled)["state"] == "closed"
    assert not any((recalled.courier / "inbox").iterdir())


def test_many_at_once_do_the_work_once(catalog_url: str, tmp_path: Path) -> None:
    world = VaultWorld(tmp_path, catalog_url, {"north": 4, "south": 4, "west": 4})
    members = world.add_set("a")
    world.omit(members[:1], "shipment")

    def together(work: Callable[[Site], object]) -> None:
        sites = [Site(world.site.config, world.clock) for _ in range(4)]
        with ThreadPoolExecutor(len(sites)) as pool:
            for future in [pool.submit(work, site) for site in sites]:
                future.result()
        for site in sites:
            site.close()

    plan = plan_vault_out(world.site)
    together(lambda site: send_out(site, plan, "ann"))
    world.vendor_works()
    together(lambda site: receive(site, "ann"))
    assert {v.custody for v in world.volumes().values()} == {Custody.VAULT}
    together(lambda site: recall(site, members, reason=Reason.RESTORE, actor="ann"))
    for _ in range(2):
        world.vendor_works()
        together(lambda site: receive(site, "ann"))
    assert {v.custody for v in world.volumes().values()} == {Custody.MOUNTABLE}
    ways = [(s["way"], s["round"]) for s in world.shipments()]
    assert ways == [("out", 0)] * 3 + [("in", 0)] * 3 + [("in", 1)]
    world.check_books()
    with world.site.catalog.read() as connection:
        assert audit.verify(connection).ok
    world.close()
