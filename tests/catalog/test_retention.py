"""What retention learns of a store's recovery points, and their states, on both databases."""

from datetime import timedelta

import pytest
from sqlalchemy import Connection, insert, select, update

from restore_lib.catalog import drills, retention, tables
from restore_lib.catalog.engine import Catalog
from restore_lib.catalog.tape_sets import TapeSet
from restore_lib.model.retention import Fragile, Span
from restore_lib.model.states import RequestState, SetState
from restore_lib.model.volume import Content, Flag, Health
from tests.support.stripes import AT, back_up

DAY = timedelta(days=1)


def harm(connection: Connection, held: TapeSet, *positions: int, **values: object) -> None:
    of_set = tables.volumes.c.tape_set == held.id
    connection.execute(
        update(tables.volumes)
        .where(of_set, tables.volumes.c.position.in_(positions))
        .values(values or {"health": Health.BROKEN})
    )


def states(connection: Connection) -> list[str]:
    query = select(tables.recovery_points.c.state).order_by(tables.recovery_points.c.id)
    return list(connection.execute(query).scalars())


def test_the_committed_points_of_the_store_are_looked_at(catalog: Catalog) -> None:
    with catalog.write() as connection:
        for _ in range(3):
            back_up(connection, {})
        row = {"policy": "p", "started_at": AT, "committed_at": AT, "summary": {}}
        for store, state in (("other", "committed"), ("live", "open")):
            connection.execute(
                insert(tables.recovery_points).values(row | {"store": store, "state": state})
            )
        retention.expire(connection, [2, 5])
        found = retention.survey(connection, "live")
        assert [(p.id, p.committed_at, p.kept_until) for p in found.points] == [
            (1, AT, None),
            (3, AT, None),
        ]
        assert (found.damaged, found.used, found.fragile) == (frozenset(), {}, ())
        assert states(connection) == ["committed", "expired", "committed", "committed", "open"]


def test_a_set_within_its_parity_is_good(catalog: Catalog) -> None:
    with catalog.write() as connection:
        _, held = back_up(connection, {b"a": b"1", b"b": b"2"})
        harm(connection, held, 0)
        assert retention.survey(connection, "live").damaged == frozenset()


@pytest.mark.parametrize(
    "values",
    [
        {"health": Health.SUSPECT},
        {"health": Health.LOST},
        {"health": Health.DISABLED},
        {"content": Content.RETIRED},
        {"flags": [Flag.MISSING]},
        {"flags": [Flag.OVERDUE, Flag.FOREIGN]},
        {"tape_set": None, "position": None},
    ],
)
def test_what_lies_on_unsound_volumes_beyond_parity_is_not(
    catalog: Catalog, values: dict[str, object]
) -> None:
    with catalog.write() as connection:
        _, held = back_up(connection, {b"a": b"1", b"b": b"2"})
        back_up(connection, {b"b": b"new"})
        back_up(connection, {b"a": b"new"})
        harm(connection, held, 0)
        harm(connection, held, 2, **values)
        found = retention.survey(connection, "live")
        assert found.damaged == {1, 2}
        assert found.fragile == (
            Fragile((Span(1, 3, good=False), Span(3, None, good=True)), 1, (b"a",)),
        )
        assert retention.survey(connection, "other").fragile == ()


def test_what_lies_on_the_sound_volumes_of_a_lost_set_is_good(catalog: Catalog) -> None:
    with catalog.write() as connection:
        _, held = back_up(connection, {b"a": b"1", b"b": b"2"})
        harm(connection, held, 1, 2)
        back_up(connection, {}, gone=[b"b"])
        assert retention.survey(connection, "live").damaged == {1}


def test_thousands_of_lost_sets_are_looked_at(catalog: Catalog) -> None:
    row = {"policy": "gold", "k": 2, "m": 1, "block_size": 4096, "recipients": [], "stripes": 1}
    row |= {"state": SetState.CLOSED, "created_at": AT}
    with catalog.write() as connection:
        rp_id, held = back_up(connection, {b"a": b"1", b"b": b"2"})
        back_up(connection, {b"b": b"new"})
        harm(connection, held, 0, 1)
        connection.execute(
            insert(tables.tape_sets), [row | {"id": f"lost-{number:05}"} for number in range(3000)]
        )
        found = retention.survey(connection, "live")
        assert found.damaged == {rp_id, rp_id + 1}
        assert [(each.objects, each.names) for each in found.fragile] == [(1, (b"b",))]


def test_objects_that_fared_alike_are_counted_together(catalog: Catalog) -> None:
    with catalog.write() as connection:
        contents = {b"%d" % n: b"1" for n in range(9)}
        _, first = back_up(connection, contents)
        _, second = back_up(connection, {**dict.fromkeys(contents, b"2"), b"only": b"2"})
        harm(connection, second, 0, 1)
        [found] = retention.survey(connection, "live").fragile
        assert found.spans == (Span(1, 2, good=True), Span(2, None, good=False))
        assert (found.objects, found.names) == (9, (b"0", b"1", b"2"))
        harm(connection, first, 0, 1)
        assert retention.survey(connection, "live").fragile == ()


def test_a_reclaimed_set_without_volumes_harms_nothing(catalog: Catalog) -> None:
    with catalog.write() as connection:
        _, held = back_up(connection, {b"a": b"1"})
        connection.execute(
            update(tables.tape_sets)
            .where(tables.tape_sets.c.id == held.id)
            .values(state=SetState.RECLAIMED)
        )
        harm(connection, held, 0, 1, 2, tape_set=None, position=None)
        assert retention.survey(connection, "live").damaged == frozenset()


def test_unfinished_restores_and_drills_use_their_points(catalog: Catalog) -> None:
    with catalog.write() as connection:
        for _ in range(4):
            back_up(connection, {})
        row = {
            "store": "live",
            "target": "live",
            "overwrite": "never",
            "source": {},
            "reason": "restore",
            "actor": "test",
            "created_at": AT,
        }
        for rp_id, state in ((1, RequestState.ACTIVE), (2, RequestState.ENDED)):
            connection.execute(
                insert(tables.restore_requests).values(row | {"rp_id": rp_id, "state": state})
            )
        drills.add_drill(connection, "monthly", AT, {"recovery_point": 3})
        assert retention.survey(connection, "live").used == {
            1: "restore request 1 has not ended",
            3: "drill 1 has not ended",
        }


def test_states_go_their_way_only(catalog: Catalog) -> None:
    with catalog.write() as connection:
        for _ in range(4):
            back_up(connection, {})
        retention.expire(connection, [1, 2, 3])
        retention.purge(connection, [1, 4])
        assert states(connection) == ["purged", "expired", "expired", "committed"]
        retention.revive(connection, [1, 2, 4], AT + DAY)
        assert states(connection) == ["purged", "committed", "expired", "committed"]
        kept = {p.id: p.kept_until for p in retention.survey(connection, "live").points}
        assert kept == {2: AT + DAY, 4: None}


def test_the_expired_points_on_a_set_are_those_that_hold_something_there(catalog: Catalog) -> None:
    with catalog.write() as connection:
        _, first = back_up(connection, {b"a": b"1", b"b": b"1"})
        _, second = back_up(connection, {b"c": b"2"})
        back_up(connection, {b"a": b"3"}, gone=[b"b"])
        assert retention.expired_points_on(connection, first.id) == []
        retention.expire(connection, [1, 2, 3])
        assert retention.expired_points_on(connection, first.id) == [1, 2]
        assert retention.expired_points_on(connection, second.id) == [2, 3]
