"""The steps by which a set is reclaimed, each alone, on both databases."""

from datetime import timedelta

import pytest
from sqlalchemy import Connection, Table, func, select, update

from restore_lib.catalog import (
    batches,
    reclaiming,
    recovery_points,
    repairs,
    retention,
    tables,
    tape_sets,
    volumes,
)
from restore_lib.catalog.engine import Catalog
from restore_lib.catalog.reclaiming import Released
from restore_lib.catalog.tape_sets import TapeSet
from restore_lib.errors import InvalidTransition, Refused
from restore_lib.model.states import BatchState, IncidentState, ItemState, RequestState, SetState
from restore_lib.model.volume import Content, Custody, Flag, Health, fold
from tests.catalog.test_liveness import ask, lose, version_of
from tests.support.restores import History
from tests.support.stripes import AT, back_up, begin

LATER = AT + timedelta(days=14)


def full(connection: Connection, held: TapeSet) -> None:
    """Close a set, as a backup does."""
    for step in (
        (Content.BLANK, Content.LABELLED),
        (Content.LABELLED, Content.APPENDABLE),
        (Content.APPENDABLE, Content.FULL),
    ):
        volumes.change(
            connection, held.barcodes, "content", *step, actor="test", reason="test", at=AT
        )
    tape_sets.close_set(connection, held.id, AT)


def expired_set(connection: Connection, objects: int = 3) -> TapeSet:
    """Make a closed set that nothing holds."""
    _, held = back_up(connection, {b"%03d" % n: b"x" for n in range(objects)})
    full(connection, held)
    retention.expire(connection, [1])
    return held


def count(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def contents(connection: Connection, held: TapeSet) -> list[str]:
    return [v.content for v in volumes.volumes(connection, held.barcodes)]


def state(connection: Connection, held: TapeSet) -> SetState:
    return tape_sets.tape_set(connection, held.id).state


def quarantine(connection: Connection, held: TapeSet) -> bool:
    return reclaiming.quarantine(connection, held.id, actor="test", at=AT)


def give_up(connection: Connection, held: TapeSet) -> None:
    assert quarantine(connection, held)
    assert reclaiming.begin(connection, held.id, AT) == [1]


def test_all_volumes_expire_together_and_come_back_together(catalog: Catalog) -> None:
    with catalog.write() as connection:
        held = expired_set(connection)
        assert quarantine(connection, held)
        assert contents(connection, held) == ["reclaim_quarantine"] * 3
        [found] = reclaiming.sets_in(connection, SetState.QUARANTINED)
        assert (found.id, found.policy, found.expired_at) == (held.id, "gold", AT)
        assert reclaiming.sets_in(connection, *SetState, only="other") == []
        reclaiming.bring_back(connection, held.id, actor="test", at=AT)
        assert contents(connection, held) == ["full"] * 3
        [found] = reclaiming.sets_in(connection, SetState.CLOSED)
        assert found.expired_at is None
        history = volumes.history(connection, held.barcodes[0])
        assert fold(history).content is Content.FULL
        assert [event.after for event in history[-3:]] == ["expired", "reclaim_quarantine", "full"]


def test_a_set_with_anything_live_stays(catalog: Catalog) -> None:
    with catalog.write() as connection:
        _, held = back_up(connection, {b"a": b"1"})
        full(connection, held)
        assert not quarantine(connection, held)
        assert (state(connection, held), contents(connection, held)) == ("closed", ["full"] * 3)
        assert reclaiming.obstacle(connection, held.id, Content.FULL) == "something on it is live"


def test_a_set_whose_volumes_are_not_full_stays(catalog: Catalog) -> None:
    with catalog.write() as connection:
        _, held = back_up(connection, {b"a": b"1"})
        tape_sets.close_set(connection, held.id, AT)
        retention.expire(connection, [1])
        assert not quarantine(connection, held)
        found = reclaiming.obstacle(connection, held.id, Content.FULL)
        assert found == ", ".join(f"{barcode} is blank" for barcode in held.barcodes)


def test_a_set_under_repair_stays(catalog: Catalog) -> None:
    with catalog.write() as connection:
        held = expired_set(connection)
        repair = {"replacement": held.barcodes[1], "tape_set": held.id, "position": 0, "at": AT}
        repairs.begin(connection, barcode=held.barcodes[0], **repair)  # type: ignore[arg-type]  # a test's shorthand
        assert not quarantine(connection, held)
        found = reclaiming.obstacle(connection, held.id, Content.FULL)
        assert found == "a member is being written anew"


def test_a_set_that_a_restore_still_reads_stays(catalog: Catalog) -> None:
    with catalog.write() as connection:
        held = expired_set(connection)
        assert quarantine(connection, held)
        running = History(connection).batch([held.barcodes[1]], began=1)
        found = reclaiming.obstacle(connection, held.id, Content.RECLAIM_QUARANTINE)
        assert found == f"a restore reads {held.barcodes[1]}"
        assert reclaiming.begin(connection, held.id, AT) is None
        batches.end_batch(connection, running, BatchState.DONE, AT, None)
        assert reclaiming.begin(connection, held.id, AT) == [1]


def test_an_open_set_is_never_quarantined(catalog: Catalog) -> None:
    with catalog.write() as connection:
        _, held = back_up(connection, {})
        with pytest.raises(InvalidTransition, match="is open, not closed"):
            quarantine(connection, held)
        with pytest.raises(Refused, match="no tape set 'x'"):
            reclaiming.quarantine(connection, "x", actor="test", at=AT)


def test_what_became_live_in_quarantine_is_not_given_up(catalog: Catalog) -> None:
    with catalog.write() as connection:
        held = expired_set(connection)
        assert quarantine(connection, held)
        retention.revive(connection, [1], LATER)
        assert reclaiming.begin(connection, held.id, LATER) is None
        assert state(connection, held) == "quarantined"


def test_nothing_is_given_up_before_its_time(catalog: Catalog) -> None:
    with catalog.write() as connection:
        held = expired_set(connection)
        assert quarantine(connection, held)
        assert reclaiming.begin(connection, held.id, AT - timedelta(microseconds=1)) is None
        assert reclaiming.begin(connection, held.id, AT) == [1]
        assert state(connection, held) == "reclaiming"
        with pytest.raises(InvalidTransition, match="is reclaiming"):
            reclaiming.bring_back(connection, held.id, actor="test", at=AT)


def test_a_set_is_forgotten_in_portions_then_released(catalog: Catalog) -> None:
    with catalog.write() as connection:
        held = expired_set(connection, objects=10)
        back_up(connection, {b"000": b"new"}, gone=[b"%03d" % n for n in range(1, 10)])
        give_up(connection, held)
        left = [count(connection, tables.extents)]
        while reclaiming.forget(connection, held.id, limit=4):
            left.append(count(connection, tables.extents))
            if left[-1] > 1:
                with pytest.raises(InvalidTransition, match="still holds stripes"):
                    reclaiming.release(connection, held.id, actor="test", at=LATER)
        assert left[:4] == [11, 7, 3, 1]
        assert [count(connection, t) for t in (tables.versions, tables.stripes)] == [1, 1]
        assert count(connection, tables.tape_files) == 3
        released = reclaiming.release(connection, held.id, actor="test", at=LATER)
        assert released == Released(held.barcodes, ())
        assert state(connection, held) == "reclaimed"
        for volume in volumes.volumes(connection, held.barcodes):
            assert (volume.content, volume.tape_set, volume.position) == ("labelled", None, None)
            assert (volume.files, volume.bytes) == (0, 0)
            assert tape_sets.former_set(connection, volume.barcode) == held.id
        with pytest.raises(InvalidTransition, match="is reclaimed"):
            reclaiming.release(connection, held.id, actor="test", at=LATER)


@pytest.mark.parametrize("to", [SetState.CLOSED, SetState.QUARANTINED, SetState.RECLAIMED])
def test_only_what_is_given_up_is_forgotten(catalog: Catalog, to: SetState) -> None:
    with catalog.write() as connection:
        held = expired_set(connection)
        connection.execute(update(tables.tape_sets).values(state=to))
        with pytest.raises(InvalidTransition, match=f"is {to}, not reclaiming"):
            reclaiming.forget(connection, held.id)
        assert count(connection, tables.extents) == 3


def test_ended_requests_and_closed_incidents_keep_all_but_the_version(catalog: Catalog) -> None:
    with catalog.write() as connection:
        _, held = back_up(connection, {b"a": b"1"})
        full(connection, held)
        version = version_of(connection, held.id, b"a")
        ask(connection, version, RequestState.ENDED, ItemState.RESTORED)
        lose(connection, version, IncidentState.CLOSED)
        retention.expire(connection, [1])
        give_up(connection, held)
        while reclaiming.forget(connection, held.id):
            pass
        assert count(connection, tables.versions) == 0
        for table in (tables.items, tables.losses):
            row = connection.execute(select(table)).one()
            assert (bytes(row.key), row.version_id, row.loss_class) == (b"x", None, "on_tape")


def test_a_cut_object_goes_with_its_last_extent(catalog: Catalog) -> None:
    with catalog.write() as connection:
        held = expired_set(connection, objects=2)
        _, other = back_up(connection, {b"other": b"x"}, gone=[b"000", b"001"])
        [first, *_] = connection.execute(select(tables.extents).order_by(tables.extents.c.id))
        [stripe] = connection.execute(
            select(tables.stripes.c.id).where(tables.stripes.c.tape_set == other.id)
        ).scalars()
        values = {**first._mapping, "id": 99, "part": 2, "stripe_id": stripe}
        connection.execute(tables.extents.insert().values(values))
        give_up(connection, held)
        while reclaiming.forget(connection, held.id):
            pass
        left = connection.execute(select(tables.versions.c.id)).scalars().all()
        assert first.version_id in left
        assert len(left) == 2


def test_members_that_failed_are_retired_and_block_nobody(catalog: Catalog) -> None:
    with catalog.write() as connection:
        held = expired_set(connection)
        marks: tuple[dict[str, object], ...] = (
            {"health": Health.LOST},
            {"flags": [Flag.LABEL_MISMATCH]},
            {"health": Health.DISABLED},
        )
        for barcode, values in zip(held.barcodes, marks, strict=True):
            connection.execute(
                update(tables.volumes).where(tables.volumes.c.barcode == barcode).values(values)
            )
        give_up(connection, held)
        while reclaiming.forget(connection, held.id):
            pass
        released = reclaiming.release(connection, held.id, actor="test", at=LATER)
        assert released == Released(held.barcodes[2:], held.barcodes[:2])
        assert contents(connection, held) == ["retired", "retired", "labelled"]
        assert {v.tape_set for v in volumes.volumes(connection, held.barcodes)} == {None}


def test_free_volumes_in_a_vault_are_named(catalog: Catalog) -> None:
    with catalog.write() as connection:
        held = expired_set(connection)
        give_up(connection, held)
        connection.execute(update(tables.volumes).values(custody=Custody.VAULT))
        assert reclaiming.away(connection) == []
        while reclaiming.forget(connection, held.id):
            pass
        reclaiming.release(connection, held.id, actor="test", at=LATER)
        broken, taken, there = held.barcodes
        changes: dict[str, dict[str, object]] = {
            broken: {"health": Health.BROKEN},
            taken: {"tape_set": held.id, "position": 0},
        }
        for barcode, values in changes.items():
            connection.execute(
                update(tables.volumes).where(tables.volumes.c.barcode == barcode).values(values)
            )
        assert reclaiming.away(connection) == [there]


def test_objects_without_versions_go_unless_a_backup_runs(catalog: Catalog) -> None:
    with catalog.write() as connection:
        back_up(connection, {b"stays": b"x"})
        rows = [{"store": "live", "key": b"%d" % n} for n in range(5)]
        rows.append({"store": "other", "key": b"0"})
        connection.execute(tables.objects.insert(), rows)
        rp_id, _ = begin(connection)
        assert reclaiming.forget_objects(connection, "live", 0) is None
        assert count(connection, tables.objects) == 7
        recovery_points.commit_recovery_point(connection, rp_id, AT, {})
        after: int | None = 0
        portions = 0
        while after is not None:
            after = reclaiming.forget_objects(connection, "live", after, limit=2)
            portions += 1
        assert portions == 4
        left = connection.execute(select(tables.objects.c.store, tables.objects.c.key)).all()
        assert {(row.store, bytes(row.key)) for row in left} == {
            ("live", b"stays"),
            ("other", b"0"),
        }
