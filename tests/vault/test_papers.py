import pytest

from restore_lib.catalog import shipments
from restore_lib.model.volume import Reason
from restore_lib.vault.documents import Document, PackingList, PickList, parse
from restore_lib.vault.outbound import plan_vault_out, send_out
from restore_lib.vault.papers import paper
from restore_lib.vault.recalls import recall
from restore_lib.vault.receiving import receive
from tests.support.vaults import VaultWorld


@pytest.fixture
def world(vault_world: VaultWorld) -> VaultWorld:
    """A 2+0 set A000, A001, one member for each of two of the three vaults."""
    vault_world.add_set("a", k=2, m=0)
    return vault_world


def printed(world: VaultWorld, shipment_id: int) -> PackingList | PickList | None:
    with world.site.catalog.read() as connection:
        found = shipments.shipment(connection, shipment_id)
        lines = shipments.lines_of(connection, shipment_id)
    assert found is not None
    return paper(world.site, found, lines)


def sent(world: VaultWorld, shipment_id: int) -> Document:
    [path] = (world.courier / "outbox").glob(f"*-{shipment_id:08}.json")
    return parse(path.name, path.read_bytes())


def test_what_is_printed_is_what_was_sent(world: VaultWorld) -> None:
    out = send_out(world.site, plan_vault_out(world.site), "ann")
    for shipment_id in out:
        made = printed(world, shipment_id)
        assert made == sent(world, shipment_id)
        assert isinstance(made, PackingList)
        assert made.seal == f"TF-{shipment_id:08}"
    world.settle()
    assert [p.volumes for n in out if (p := printed(world, n))] == [("A000",), ("A001",)]
    [back] = recall(world.site, ["A000"], reason=Reason.DRILL, actor="ann")
    made = printed(world, back)
    assert made == sent(world, back)
    assert isinstance(made, PickList)
    assert (made.reason, made.volumes) == (Reason.DRILL, ("A000",))
    world.settle()
    assert printed(world, back) is None


def test_nothing_is_printed_before_it_is_sealed(
    world: VaultWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("restore_lib.vault.outbound._seal", die)
        with pytest.raises(KeyboardInterrupt):
            send_out(world.site, plan_vault_out(world.site), "ann")
    assert printed(world, 1) is None


def test_what_the_truck_left_behind_is_not_on_the_paper_any_more(world: VaultWorld) -> None:
    first, *_ = send_out(world.site, plan_vault_out(world.site), "ann")
    (world.tapes / "dock/A000.tap").rename(world.root / "A000.tap")
    world.vendor_works()
    receive(world.site, "ann")
    assert printed(world, first) is None
