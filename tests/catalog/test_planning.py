from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, select, update

from restore_lib.catalog import batches, plan_tables, planning, requests, tables, ways
from restore_lib.catalog.batches import NewBatch
from restore_lib.catalog.engine import Catalog
from restore_lib.catalog.planning import NOWHERE, Use
from restore_lib.model.states import BatchKind, ItemState, LossClass
from tests.support.stripes import AT
from tests.support.worlds import Built, Cartridge, Version, World, build

WORLD = World(
    ((Cartridge(),) * 4,) * 2,
    (
        Version(0, 1, ((0, 0),)),
        Version(1, 2, ((0, 0),)),
        Version(2, 3, ((1, 0),)),
        Version(3, 3, ((0, 1),), "mirror"),
    ),
)
VALUES = {
    "store": "live",
    "target": "live",
    "overwrite": "never",
    "source": {},
    "reason": "restore",
    "actor": "ann",
    "created_at": AT,
}


@contextmanager
def wanted(connection: Connection) -> Iterator[tuple[int, Built]]:
    built = build(connection, WORLD, "age1x")
    request_id = requests.create_request(connection, VALUES)
    with plan_tables.planning(connection):
        assert not planning.count_wanted(connection)
        requests.add_items_at(
            connection, request_id, "live", built.point, b"", into=plan_tables.wanted
        )
        assert planning.count_wanted(connection) == {LossClass.ON_TAPE: 3}
        ways.find_ways(connection)
        yield request_id, built


def new_batches(connection: Connection, request_id: int, count: int) -> list[int]:
    one = NewBatch(BatchKind.READ, "S0P0", ("S0P0",), 1, 1, 1.0)
    return batches.add_batches(connection, request_id, [one] * count)


def rows(connection: Connection) -> dict[bytes, tuple[str, int | None, int | None]]:
    return {
        bytes(row.key): (row.state, row.batch_id, row.source_id)
        for row in connection.execute(select(tables.items))
    }


def test_items_are_made_in_their_batches_or_ended(catalog: Catalog) -> None:
    with catalog.write() as connection, wanted(connection) as (request_id, built):
        first, second = planning.demands(connection)
        assert [d.ways for d in (first, second)] == [(("S0P0",),), (("S1P0",), ("S0P1",))]
        used = planning.choose(connection, [(first, 0, NOWHERE), (second, 1, 0)])
        assert used == [Use(NOWHERE, 2, 600), Use(0, 1, 300)]
        [batch_id] = new_batches(connection, request_id, 1)
        planning.add_items(connection, [(0, batch_id)], "lost", AT)
        assert rows(connection) == {
            b"o0": (ItemState.UNRESTORABLE, None, None),
            b"o1": (ItemState.UNRESTORABLE, None, None),
            b"o2": (ItemState.BATCHED, batch_id, built.versions[3]),
        }
        ended = select(tables.items).where(tables.items.c.ended_at.is_not(None))
        assert {row.error_code for row in connection.execute(ended)} == {"lost"}


def test_a_route_that_is_cut_gives_its_items_to_its_parts(catalog: Catalog) -> None:
    with catalog.write() as connection, wanted(connection) as (request_id, _):
        first, second = planning.demands(connection)
        planning.choose(connection, [(first, 0, 0), (second, 0, 1)])
        ordered = list(planning.in_reading_order(connection, 0))
        assert [size for _, size in ordered] == [300, 300]
        planning.cut(connection, [item for item, _ in ordered], [5, 6])
        ids = new_batches(connection, request_id, 3)
        assert ids == sorted(ids)
        planning.add_items(connection, list(zip((1, 5, 6), ids, strict=True)), "lost", AT)
        assert {key: row[1] for key, row in rows(connection).items()} == dict(
            zip((b"o2", b"o0", b"o1"), ids, strict=True)
        )


def test_only_what_is_still_pending_is_planned_anew(catalog: Catalog) -> None:
    with catalog.write() as connection:
        with wanted(connection) as (request_id, built):
            first, second = planning.demands(connection)
            planning.choose(connection, [(first, 0, 0), (second, 1, 0)])
            [batch_id] = new_batches(connection, request_id, 1)
            planning.add_items(connection, [(0, batch_id)], "lost", AT)
        assert not planning.any_pending(connection, request_id)
        connection.execute(
            update(tables.items)
            .where(tables.items.c.key != b"o0")
            .values(state=ItemState.PENDING, batch_id=None, attempts=1, error_code="bad")
        )
        assert planning.any_pending(connection, request_id)
        with plan_tables.planning(connection):
            planning.take_up_pending(connection, request_id)
            ways.find_ways(connection)
            found = list(planning.demands(connection))
            assert [(d.ways, d.tries, d.error) for d in found] == [
                ((("S0P0",),), 1, "bad"),
                ((("S0P1",), ("S1P0",)), 1, "bad"),
            ]
            planning.choose(connection, [(found[0], 0, NOWHERE), (found[1], 1, 0)])
            [other] = new_batches(connection, request_id, 1)
            planning.update_items(connection, request_id, [(0, other)], "lost", AT)
        assert rows(connection) == {
            b"o0": (ItemState.BATCHED, batch_id, None),
            b"o1": (ItemState.UNRESTORABLE, None, None),
            b"o2": (ItemState.BATCHED, other, None),
        }
        assert built.versions
