import pytest
from sqlalchemy import Connection, insert, select, update

from restore_lib.catalog import repacks, tables, tape_sets
from restore_lib.catalog.engine import Catalog
from restore_lib.catalog.liveness import LiveExtent, live_extents, live_on_volumes
from restore_lib.catalog.repacks import Move, Repack
from restore_lib.catalog.tape_sets import TapeSet
from restore_lib.errors import InvalidTransition, LeaseLost
from restore_lib.model.states import BatchKind, BatchState, ItemState, RecoveryPointState
from tests.support.stripes import AT, back_up, begin, extent, new_set, stored, tape_files

POLICY, RECIPIENTS = "gold", ("age1x",)


def begun(connection: Connection) -> Repack:
    return repacks.begin_run(connection, POLICY, RECIPIENTS, AT)


def target(connection: Connection, repack: Repack) -> TapeSet:
    _, [job_id] = begin(connection)
    held = new_set(connection, job_id)
    tape_sets.release_set(connection, held.id)
    repacks.hold_set(connection, repack, held.id)
    return held


def move(old: LiveExtent, from_set: str, stripe: int, number: int) -> Move:
    to = extent(
        stored(old.key),
        position=1,
        stripe=stripe,
        member=f"objects/{number:08d}.age",
        offset=1024 * (number + 1),
        stored_size=old.stored_size,
    )
    return Move(old.id, from_set, old.stripe, old.position, to)


def everything(connection: Connection, tape_set: str) -> list[LiveExtent]:
    return live_extents(connection, tape_set, None, 100)


def test_extents_move_and_versions_stay(catalog: Catalog) -> None:
    with catalog.write() as connection:
        rp_id, old = back_up(connection, {b"a": b"1", b"b": b"22", b"c": b"333"})
        repack = begun(connection)
        to = target(connection, repack)
        before = connection.execute(select(tables.versions)).all()
        found = everything(connection, old.id)
        moves = [move(each, old.id, 1 + n % 2, n) for n, each in enumerate(found)]
        repacks.move_extents(connection, repack, to.id, tape_files(to, 1, 2), moves, AT)
        assert connection.execute(select(tables.versions)).all() == before
        assert everything(connection, old.id) == []
        now = everything(connection, to.id)
        points = set(connection.execute(select(tables.stripes.c.rp_id)).scalars())
        assert tape_sets.tape_set(connection, to.id).stripes == 2
        ended = repacks.end(connection, repack, AT)
    assert {(e.id, e.version_id, e.size, e.sha256, e.stored_sha256) for e in now} == {
        (e.id, e.version_id, e.size, e.sha256, e.stored_sha256) for e in found
    }
    assert sorted((e.stripe, e.position, e.member, e.offset) for e in now) == sorted(
        (m.to.stripe, 1, m.to.member, m.to.offset) for m in moves
    )
    assert points == {rp_id}
    assert ended == (3, sum(e.stored_size for e in found))


def test_an_extent_that_has_moved_does_not_move_again(catalog: Catalog) -> None:
    with catalog.write() as connection:
        _, old = back_up(connection, {b"a": b"1", b"b": b"22"})
        repack = begun(connection)
        to = target(connection, repack)
        moves = [move(e, old.id, 1, n) for n, e in enumerate(everything(connection, old.id))]
        repacks.move_extents(connection, repack, to.id, tape_files(to, 1), moves[:1], AT)
    again = [m._replace(to=extent(stored(b"x"), stripe=2)) for m in moves]
    with pytest.raises(InvalidTransition, match="Of 2 payloads"), catalog.write() as connection:
        repacks.move_extents(connection, repack, to.id, tape_files(to, 2), again, AT)
    with catalog.read() as connection:
        assert len(everything(connection, old.id)) == 1
        assert tape_sets.tape_set(connection, to.id).stripes == 1


def test_only_the_latest_run_counts_until_it_has_ended(catalog: Catalog) -> None:
    with catalog.write() as connection:
        first = begun(connection)
        other = repacks.begin_run(connection, POLICY, ("age1y",), AT)
        repacks.check_run(connection, first)
        second = begun(connection)
        assert (second.id, second.run) == (first.id, 2)
        assert other.id != first.id
        with pytest.raises(LeaseLost, match="Another run"):
            repacks.check_run(connection, first, lock=True)
        repacks.check_run(connection, second, lock=True)
        assert repacks.unfinished(connection) == [(POLICY, RECIPIENTS), (POLICY, ("age1y",))]
        repacks.end(connection, second, AT)
        with pytest.raises(LeaseLost, match="Another run"):
            repacks.check_run(connection, second)
        assert begun(connection).id not in {first.id, other.id}


def test_a_set_that_is_held_is_no_backups(catalog: Catalog) -> None:
    with catalog.write() as connection:
        repack = begun(connection)
        assert repacks.held_set(connection, repack) is None
        held = target(connection, repack)
        assert repacks.held_set(connection, begun(connection)) == held
        assert held.id not in [s.id for s in tape_sets.idle_open_sets(connection, POLICY)]
        assert not tape_sets.is_idle(connection, held.id, lock=True)
        tape_sets.release_set(connection, held.id)
        assert repacks.held_set(connection, repack) is None
        assert tape_sets.is_idle(connection, held.id, lock=True)
        repacks.hold_set(connection, repack, held.id)
        tape_sets.close_set(connection, held.id, AT)
        assert repacks.held_set(connection, repack) is None


def test_volumes_with_live_payloads_are_told_with_the_largest(catalog: Catalog) -> None:
    with catalog.write() as connection:
        rp_id, held = back_up(connection, {b"a": b"1", b"b": b"22", b"c": b"333"})
        assert live_on_volumes(connection, held.id) == {
            held.barcodes[0]: 203,
            held.barcodes[1]: 202,
        }
        back_up(connection, {b"b": b"new"})
        connection.execute(
            update(tables.recovery_points)
            .where(tables.recovery_points.c.id == rp_id)
            .values(state=RecoveryPointState.EXPIRED)
        )
        assert live_on_volumes(connection, held.id) == {held.barcodes[0]: 203}


def test_items_whose_payloads_were_moved_are_given_back(catalog: Catalog) -> None:
    with catalog.write() as connection:
        _, old = back_up(connection, {b"a": b"1", b"b": b"22"})
        repack = begun(connection)
        to = target(connection, repack)
        stays, moves = everything(connection, old.id)
        batch_id = batch_of(connection, old.barcodes[:2], [stays.version_id, moves.version_id])
        assert repacks.give_back_moved(connection, batch_id, old.barcodes[:2]) == 0
        moved = [move(moves, old.id, 1, 0)]
        repacks.move_extents(connection, repack, to.id, tape_files(to, 1), moved, AT)
        assert repacks.give_back_moved(connection, batch_id, old.barcodes[:2]) == 1
        i = tables.items.c
        found = connection.execute(select(i.version_id, i.state, i.batch_id, i.attempts)).all()
    assert sorted(map(tuple, found)) == sorted(
        [
            (stays.version_id, ItemState.BATCHED, batch_id, 0),
            (moves.version_id, ItemState.PENDING, None, 0),
        ]
    )


def batch_of(connection: Connection, barcodes: tuple[str, ...], version_ids: list[int]) -> int:
    request = {
        "store": "live",
        "target": "live",
        "overwrite": "never",
        "source": {},
        "reason": "restore",
        "actor": "test",
        "state": "active",
        "created_at": AT,
    }
    table = tables.restore_requests
    request_id = connection.execute(
        insert(table).values(request).returning(table.c.id)
    ).scalar_one()
    batch = {
        "request_id": request_id,
        "kind": BatchKind.GATHER,
        "volumes": list(barcodes),
        "objects": len(version_ids),
        "bytes": 1,
        "estimate": 1.0,
        "state": BatchState.RUNNING,
        "attempts": 1,
    }
    returning = insert(tables.batches).values(batch).returning(tables.batches.c.id)
    batch_id: int = connection.execute(returning).scalar_one()
    connection.execute(
        insert(tables.items),
        [
            {
                "request_id": request_id,
                "key": b"%d" % version_id,
                "version_id": version_id,
                "loss_class": "on_tape",
                "batch_id": batch_id,
                "state": ItemState.BATCHED,
            }
            for version_id in version_ids
        ],
    )
    return batch_id
