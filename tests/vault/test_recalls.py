import pytest
from sqlalchemy import select

from restore_lib.catalog import tables, volumes
from restore_lib.errors import Refused
from restore_lib.model.volume import Custody, Flag, Health, Reason
from restore_lib.vault.documents import PickList, parse
from restore_lib.vault.outbound import plan_vault_out, send_out
from restore_lib.vault.recalls import dispatch, plan_recall, recall
from restore_lib.vault.receiving import receive
from tests.support.vaults import VaultWorld


@pytest.fixture
def vaulted(vault_world: VaultWorld) -> VaultWorld:
    """One 4+2 set A000 to A005, two members in each of three vaults."""
    vault_world.add_set("a")
    vault_world.vault_all()
    return vault_world


def ask(world: VaultWorld, *barcodes: str) -> list[int]:
    return recall(world.site, barcodes, reason=Reason.RESTORE, actor="ann")


def pick_lists(world: VaultWorld) -> dict[int, PickList]:
    found = {}
    for path in (world.courier / "outbox").iterdir():
        document = parse(path.name, path.read_bytes())
        if isinstance(document, PickList):
            found[document.shipment] = document
    return found


def test_the_plan_tells_what_is_where(vaulted: VaultWorld) -> None:
    world = vaulted
    members = sorted(world.volumes())
    homes = {b: v.place for b, v in world.volumes().items()}
    ask(world, members[0])
    here = world.add_set("b", k=1, m=0)
    leaving = world.add_set("c", k=1, m=0)
    send_out(world.site, plan_vault_out(world.site), "ann")
    fresh = world.add_set("d", k=2, m=0)
    cause = {"actor": "ann", "reason": "test", "at": world.clock.now()}
    with world.site.catalog.write() as connection:
        lost = (Health.OK, Health.LOST)
        given_up = [members[1], fresh[0]]
        volumes.change(connection, given_up, "health", *lost, **cause)  # type: ignore[arg-type]  # one cause for all
    plan = plan_recall(world.site, [*members, *here, *leaving, *fresh])
    assert plan.mountable == tuple(fresh[1:])
    assert plan.leaving == (*here, *leaving)
    assert plan.coming == (members[0],)
    assert plan.lost == tuple(fresh[:1])
    assert plan.to_recall == {
        vault: tuple(b for b in members[1:] if homes[b] == f"vault:{vault}")
        for vault in ("north", "south", "west")
        if any(homes[b] == f"vault:{vault}" for b in members[1:])
    }


def test_an_unknown_volume_is_refused(vaulted: VaultWorld) -> None:
    with pytest.raises(Refused, match="X404"):
        plan_recall(vaulted.site, ["A000", "X404"])
    with pytest.raises(Refused, match="X404"):
        ask(vaulted, "A000", "X404")
    assert vaulted.volumes()["A000"].custody is Custody.VAULT


def test_a_recall_asks_each_vault_once(vaulted: VaultWorld) -> None:
    homes = {b: v.place for b, v in vaulted.volumes().items()}
    ids = ask(vaulted, *homes)
    lists = pick_lists(vaulted)
    assert sorted(lists) == ids
    assert {f"vault:{p.vault}": set(p.volumes) for p in lists.values()} == {
        place: {b for b in homes if homes[b] == place} for place in set(homes.values())
    }
    for paper in lists.values():
        assert (paper.reason, paper.round) == (Reason.RESTORE, 0)
        assert (paper.due_at - paper.issued_at).total_seconds() == 2 * 8 * 3600
    found = vaulted.volumes()
    assert {v.custody for v in found.values()} == {Custody.VAULTRETRIEVE}
    assert {b: v.place for b, v in found.items()} == homes


def test_a_recall_again_asks_for_nothing_twice(vaulted: VaultWorld) -> None:
    first = ask(vaulted, "A000", "A001")
    before = vaulted.shipments()
    assert ask(vaulted, "A000", "A001") == first
    assert vaulted.shipments() == before
    more = ask(vaulted, "A001", "A002")
    assert set(more) - set(first)
    asked = [b for paper in pick_lists(vaulted).values() for b in paper.volumes]
    assert sorted(asked) == ["A000", "A001", "A002"]


def test_a_recall_of_what_is_here_is_no_shipment(vaulted: VaultWorld) -> None:
    ask(vaulted, "A000")
    vaulted.settle()
    before = vaulted.shipments()
    assert ask(vaulted, "A000") == []
    assert vaulted.shipments() == before


def test_the_shipments_carry_the_request(vaulted: VaultWorld) -> None:
    row = {
        "store": "live",
        "target": "live",
        "overwrite": "never",
        "source": {},
        "reason": "restore",
        "actor": "ann",
        "state": "active",
        "created_at": vaulted.clock.now(),
    }
    with vaulted.site.catalog.write() as connection:
        made = connection.execute(tables.restore_requests.insert().values(row))
        assert made.inserted_primary_key is not None
        request_id = made.inserted_primary_key[0]
    vaulted.omit(["A000"], "acknowledgement")
    recall(vaulted.site, ["A000"], reason=Reason.RESTORE, request_id=request_id, actor="ann")
    vaulted.settle()
    with vaulted.site.catalog.read() as connection:
        query = select(tables.shipments.c.request_id).where(tables.shipments.c.direction == "in")
        assert list(connection.execute(query).scalars()) == [request_id] * 2


def test_a_pick_list_that_a_crash_kept_back_is_sent_later(
    vaulted: VaultWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("restore_lib.vault.courier.DirectoryCourier.send", die)
        with pytest.raises(KeyboardInterrupt):
            ask(vaulted, "A000")
    assert pick_lists(vaulted) == {}
    dispatch(vaulted.site)
    dispatch(vaulted.site)
    assert [p.volumes for p in pick_lists(vaulted).values()] == [("A000",)]


def test_a_volume_whose_vault_left_the_config_is_named(vaulted: VaultWorld) -> None:
    place = vaulted.volumes()["A000"].place.removeprefix("vault:")
    text = vaulted.config_path.read_text().replace(f"[vaults.{place}]", "[vaults.renamed]")
    vaulted.config_path.write_text(text)
    vaulted.restart()
    with pytest.raises(Refused, match=place):
        ask(vaulted, "A000")
    assert vaulted.volumes()["A000"].custody is Custody.VAULT


def test_a_vault_that_never_sends_a_volume_is_asked_so_many_times(vaulted: VaultWorld) -> None:
    home = vaulted.volumes()["A000"].place.replace("vault:", "vault-")
    shelf = vaulted.tapes / home / "A000.tap"
    shelf.rename(vaulted.root / "behind the shelf")
    ask(vaulted, "A000")
    result = vaulted.settle()
    assert result.lost == ("A000",)
    inbound = [s for s in vaulted.shipments() if s["way"] == "in"]
    assert [s["round"] for s in inbound] == [0, 1, 2, 3]
    assert [s["follows"] for s in inbound] == [None] + [s["id"] for s in inbound[:-1]]
    assert {s["state"] for s in inbound} == {"cancelled"}
    volume = vaulted.volumes()["A000"]
    assert (volume.health, volume.custody) == (Health.LOST, Custody.VAULT)
    assert volume.flags == {Flag.MISSING}
    assert not receive(vaulted.site, "ann").changed
    assert plan_recall(vaulted.site, ["A000"]).to_recall == {inbound[0]["vault"]: ("A000",)}
    [again] = ask(vaulted, "A000")
    assert plan_recall(vaulted.site, ["A000"]).coming == ("A000",)
    assert ask(vaulted, "A000") == [again]
    assert vaulted.settle().lost == ("A000",)
    (vaulted.root / "behind the shelf").rename(shelf)
    ask(vaulted, "A000")
    assert vaulted.settle().received == ("A000",)
    volume = vaulted.volumes()["A000"]
    assert (volume.health, volume.custody) == (Health.SUSPECT, Custody.MOUNTABLE)
    assert not volume.flags
    vaulted.check_books()
