"""Sets on which nothing is live become free volumes of a real cluster, and carry new sets."""

import os
from pathlib import Path

import pytest
from sqlalchemy import func, select

from demo.vendor import open_vendors
from restore_lib.catalog import reclaiming, retention, shipments, tables
from restore_lib.catalog.reclaiming import Released
from restore_lib.errors import ForeignTape, InvalidTransition, NoScratchVolume, Refused
from restore_lib.integrity.repair import run_repair
from restore_lib.integrity.verify_media import begin_verification, plan_verification, verify_volume
from restore_lib.model.shipment import ShipmentState
from restore_lib.model.states import SetState
from restore_lib.model.verdict import Verdict
from restore_lib.model.volume import Custody, Health, Reason
from restore_lib.restore.request import RestoreSpec, plan_restore, start_restore
from restore_lib.retention.reclaim import Step, plan_reclaim, run_reclaim
from restore_lib.site import Site
from restore_lib.vault.outbound import plan_vault_out, send_out
from restore_lib.vault.receiving import receive
from tests.retention.sites import (
    DAY,
    build,
    days,
    empty,
    expire,
    held,
    members,
    reclaim,
    spoil,
    state_of,
    states,
    write,
)
from tests.support.clock import ManualClock
from tests.support.sites import ACTOR, back_up, digests, finish, image, restore

FIRST, SECOND = "live-00001", "live-00002"


def expired(
    root: Path, *, blank: int = 6, url: str | None = None, **options: str
) -> tuple[Site, ManualClock]:
    """Make two sets, of which nothing needs the first any more."""
    site, clock = build(root, blank=blank, url=url, **options)
    write(site, {b"a": os.urandom(20_000), b"b": os.urandom(5_000)})
    days(site, clock, {b"old": b"1"}, {b"a": os.urandom(20_000), b"b": b"2", b"old": None})
    clock.advance(40 * DAY)
    assert expire(site) == [1]
    return site, clock


def steps(site: Site) -> dict[str, Step]:
    return {each.tape_set: each.step for each in plan_reclaim(site).sets}


def rows(site: Site, *names: str) -> list[int]:
    with site.catalog.read() as connection:
        return [
            connection.execute(
                select(func.count()).select_from(tables.metadata.tables[name])
            ).scalar_one()
            for name in names
        ]


def through(site: Site, clock: ManualClock) -> Released:
    """Bring the first set through its quarantine."""
    assert reclaim(site).quarantined == [FIRST]
    clock.advance(14 * DAY)
    return reclaim(site).reclaimed[FIRST]


def check_restore(site: Site, root: Path) -> None:
    empty(root / "out")
    restore(site, RestoreSpec(store="live", prefix=b"", target="out"))
    assert digests(root / "out") == digests(root / "live")


def test_from_expired_to_free_volumes_that_carry_a_new_set(tmp_path: Path) -> None:
    site, clock = expired(tmp_path)
    barcodes = held(site, FIRST).barcodes
    plan = plan_reclaim(site)
    [step] = plan.sets
    assert (step.tape_set, step.step, step.volumes) == (FIRST, Step.QUARANTINE, barcodes)
    assert step.size == sum(volume.bytes for volume in members(site, *barcodes)) > 0
    assert state_of(site, FIRST) is SetState.CLOSED
    assert run_reclaim(site, plan, ACTOR).quarantined == [FIRST]
    clock.advance(13 * DAY)
    assert steps(site) == {FIRST: Step.WAIT}
    assert plan_reclaim(site).is_empty
    assert reclaim(site).reclaimed == {}
    clock.advance(DAY)
    assert steps(site) == {FIRST: Step.RECLAIM}
    before = {barcode: image(site, barcode).read_bytes() for barcode in barcodes}
    assert reclaim(site).reclaimed == {FIRST: Released(barcodes, ())}
    assert before == {barcode: image(site, barcode).read_bytes() for barcode in barcodes}
    assert state_of(site, FIRST) is SetState.RECLAIMED
    assert states(site) == {1: "purged", 2: "committed"}
    assert rows(site, "objects", "versions", "extents", "stripes") == [2, 2, 2, 1]
    assert plan_reclaim(site).sets == ()
    write(site, {b"new": os.urandom(30_000)})
    back_up(site)
    assert held(site, "live-00003").barcodes == barcodes
    check_restore(site, tmp_path)


def test_no_set_is_made_of_volumes_in_quarantine(tmp_path: Path) -> None:
    site, _ = expired(tmp_path)
    reclaim(site)
    write(site, {b"new": b"x"})
    with pytest.raises(NoScratchVolume):
        back_up(site)


def test_blank_volumes_are_taken_first(tmp_path: Path) -> None:
    site, clock = expired(tmp_path, blank=8)
    through(site, clock)
    write(site, {b"new": b"x"})
    back_up(site)
    assert held(site, "live-00003").barcodes == ("TF0006L9", "TF0007L9", "TF0000L9")


def test_what_a_restore_asks_for_comes_out_of_quarantine(tmp_path: Path) -> None:
    site, clock = expired(tmp_path)
    reclaim(site)
    with site.catalog.write() as connection:
        connection.execute(tables.recovery_points.update().values(state="committed"))
    plan_restore(site, RestoreSpec(recovery_point=1, prefix=b"", target="out"), ACTOR)
    with site.catalog.write() as connection:
        connection.execute(
            tables.recovery_points.update()
            .where(tables.recovery_points.c.id == 1)
            .values(state="expired")
        )
    clock.advance(20 * DAY)
    assert steps(site) == {FIRST: Step.BRING_BACK}
    assert reclaim(site).brought_back == [FIRST]
    assert state_of(site, FIRST) is SetState.CLOSED


def test_what_a_restore_asked_for_is_read_in_quarantine(tmp_path: Path) -> None:
    site, clock = build(tmp_path, blank=6)
    days(site, clock, {b"a": os.urandom(20_000)}, {b"a": b"2"})
    clock.advance(40 * DAY)
    asked = RestoreSpec(recovery_point=1, prefix=b"", target="out")
    plan = plan_restore(site, asked, ACTOR)
    assert plan.request_id == 1
    with site.catalog.write() as connection:
        retention.expire(connection, [1])
        assert not reclaiming.quarantine(connection, FIRST, actor=ACTOR, at=clock.now())
        connection.execute(tables.tape_sets.update().values(state="quarantined"))
        connection.execute(tables.volumes.update().values(content="reclaim_quarantine"))
    start_restore(site, 1, ACTOR)
    finish(site, 1)
    assert (tmp_path / "out" / "a").stat().st_size == 20_000


def test_nothing_in_quarantine_is_repaired(tmp_path: Path) -> None:
    site, _ = expired(tmp_path, blank=7)
    reclaim(site)
    spoil(site, "TF0000L9")
    with pytest.raises(Refused, match=r"live-00001 .* is quarantined") as refused:
        run_repair(site, "TF0000L9", ACTOR)
    assert "tapeflow reclaim undo live-00001" in refused.value.remedy


def test_what_became_live_since_the_plan_stays(tmp_path: Path) -> None:
    site, clock = expired(tmp_path)
    early = plan_reclaim(site)
    reclaim(site)
    clock.advance(14 * DAY)
    late = plan_reclaim(site)
    with site.catalog.write() as connection:
        connection.execute(tables.recovery_points.update().values(state="committed"))
    assert run_reclaim(site, late, ACTOR).reclaimed == {}
    assert state_of(site, FIRST) is SetState.QUARANTINED
    assert reclaim(site).brought_back == [FIRST]
    assert run_reclaim(site, early, ACTOR).quarantined == []


def test_two_runs_do_not_mix(tmp_path: Path) -> None:
    site, _ = expired(tmp_path)
    plan = plan_reclaim(site)
    run_reclaim(site, plan, ACTOR)
    with pytest.raises(InvalidTransition, match="is quarantined, not closed"):
        run_reclaim(site, plan, ACTOR)


class _Killed(Exception):
    pass


@pytest.mark.parametrize("killed_at", range(1, 7))
def test_a_run_that_is_killed_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    site, clock = expired(tmp_path)
    reclaim(site)
    clock.advance(14 * DAY)
    write_ = site.catalog.write
    count = 0

    def write_or_die() -> object:
        nonlocal count
        count += 1
        if count == killed_at:
            raise _Killed
        return write_()

    forget = reclaiming.forget
    monkeypatch.setattr(reclaiming, "forget", lambda c, s: forget(c, s, limit=1))
    with monkeypatch.context() as patch:
        patch.setattr(site.catalog, "write", write_or_die)
        with pytest.raises(_Killed):
            reclaim(site)
    reclaim(site)
    assert state_of(site, FIRST) is SetState.RECLAIMED
    assert rows(site, "objects", "versions", "extents", "stripes") == [2, 2, 2, 1]
    write(site, {b"new": b"x"})
    back_up(site)
    check_restore(site, tmp_path)


def test_members_that_are_broken_or_lost_block_nobody_and_are_never_used(tmp_path: Path) -> None:
    site, clock = expired(tmp_path, blank=7)
    spoil(site, "TF0000L9", Health.BROKEN)
    spoil(site, "TF0001L9", Health.LOST)
    assert through(site, clock) == Released(("TF0002L9",), ("TF0000L9", "TF0001L9"))
    [broken, lost] = members(site, "TF0000L9", "TF0001L9")
    assert (broken.content, broken.tape_set) == (lost.content, lost.tape_set) == ("retired", None)
    write(site, {b"new": b"x"})
    with pytest.raises(NoScratchVolume, match="the library has 2"):
        back_up(site)


def test_a_volume_of_another_label_is_not_written_over(tmp_path: Path) -> None:
    site, clock = expired(tmp_path)
    through(site, clock)
    stranger, own = image(site, "TF0004L9"), image(site, "TF0001L9")
    own.write_bytes(stranger.read_bytes())
    write(site, {b"new": b"x"})
    with pytest.raises(ForeignTape, match="TF0004L9"):
        back_up(site)
    assert own.read_bytes() == stranger.read_bytes()


def test_a_repair_takes_the_volume_of_a_reclaimed_set(tmp_path: Path) -> None:
    site, clock = expired(tmp_path)
    through(site, clock)
    spoil(site, "TF0004L9")
    done = run_repair(site, "TF0004L9", ACTOR)
    assert done.replacement == "TF0000L9"
    assert held(site, SECOND).barcodes == ("TF0003L9", "TF0000L9", "TF0005L9")
    write(site, {b"new": b"x"})
    with pytest.raises(NoScratchVolume, match="the library has 2"):
        back_up(site)


def test_free_volumes_are_called_back_from_the_vault_and_lost_ones_are_not(
    tmp_path: Path,
) -> None:
    site, clock = expired(tmp_path)
    send_out(site, plan_vault_out(site), ACTOR)
    for _ in range(4):
        for vendor in open_vendors(site.config):
            vendor.work()
        receive(site, ACTOR)
    assert {v.custody for v in members(site, *held(site, FIRST).barcodes)} == {Custody.VAULT}
    spoil(site, "TF0002L9", Health.LOST)
    reclaim(site)
    clock.advance(14 * DAY)
    plan = plan_reclaim(site)
    assert plan.to_recall == {"north": ("TF0000L9", "TF0001L9")}
    [shipment] = reclaim(site).shipments
    with site.catalog.read() as connection:
        [asked] = shipments.find(connection, states=[ShipmentState.PICK_LISTED])
        lines = shipments.lines_of(connection, shipment)
    assert tuple(line.barcode for line in lines) == plan.to_recall["north"]
    assert (asked.id, asked.reason) == (shipment, Reason.EXPIRED)
    assert plan_reclaim(site).is_empty


def test_quarantined_volumes_are_verified_and_not_sent_out(tmp_path: Path) -> None:
    site, clock = expired(tmp_path)
    reclaim(site)
    assert {b[:6] for b in plan_vault_out(site).barcodes} == {"TF0003", "TF0004", "TF0005"}
    assert len(plan_verification(site)) == 6
    clock.advance(14 * DAY)
    reclaim(site)
    assert len(plan_verification(site)) == 3


def test_a_volume_that_is_reclaimed_before_it_is_verified_is_not_checked(tmp_path: Path) -> None:
    site, clock = expired(tmp_path)
    reclaim(site)
    clock.advance(14 * DAY)
    run_id = begin_verification(site, plan_verification(site), ACTOR)
    with site.catalog.write() as connection:
        assert reclaiming.begin(connection, FIRST, clock.now() - 14 * DAY) == [1]
    assert len(plan_verification(site)) == 3
    for barcode in held(site, FIRST).barcodes:
        assert verify_volume(site, run_id, barcode).verdict is Verdict.NOT_CHECKED
    reclaim(site)
    assert verify_volume(site, run_id, "TF0000L9").verdict is Verdict.NOT_CHECKED
    assert {v.health for v in members(site, "TF0000L9", "TF0001L9")} == {Health.OK}


def test_all_of_it_on_postgresql(tmp_path: Path, postgres_url: str) -> None:
    site, clock = expired(tmp_path, url=postgres_url)
    through(site, clock)
    assert rows(site, "objects", "versions", "extents", "stripes") == [2, 2, 2, 1]
    write(site, {b"new": os.urandom(30_000)})
    back_up(site)
    check_restore(site, tmp_path)
