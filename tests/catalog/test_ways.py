from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, update

from restore_lib.catalog import plan_tables, requests, tables, ways
from restore_lib.catalog.engine import Catalog
from restore_lib.catalog.planning import Demand, demands
from restore_lib.model.volume import Content
from tests.support.stripes import AT
from tests.support.worlds import Cartridge, Version, World, build

SETS = ((Cartridge(),) * 4,) * 2


@contextmanager
def found(connection: Connection, *versions: Version) -> Iterator[list[Demand]]:
    """Give the demands of all objects of ``live`` in a world of these versions."""
    built = build(connection, World(SETS, versions), "age1x")
    yield [*_demands(connection, built.point)]


def _demands(connection: Connection, point: int, source: int | None = None) -> Iterator[Demand]:
    """Yield the demands of all that the point holds; ``source`` was to be read for each so far."""
    values = {
        "store": "live",
        "target": "live",
        "overwrite": "never",
        "source": {},
        "reason": "restore",
        "actor": "ann",
        "created_at": AT,
    }
    request_id = requests.create_request(connection, values)
    with plan_tables.planning(connection):
        requests.add_items_at(connection, request_id, "live", point, b"", into=plan_tables.wanted)
        connection.execute(update(plan_tables.wanted).values(source_id=source))
        ways.find_ways(connection)
        yield from demands(connection)


def test_objects_with_the_same_ways_are_one_demand(catalog: Catalog) -> None:
    alike = [Version(key, key, ((0, 1),)) for key in range(3)]
    with catalog.write() as connection, found(connection, *alike) as made:
        [demand] = made
    assert (demand.ways, demand.objects, demand.size) == ((("S0P1",),), 3, 900)
    assert (demand.tries, demand.error) == (0, None)


def test_parts_on_several_volumes_are_one_way_over_all_of_them(catalog: Catalog) -> None:
    cut = Version(0, 1, ((1, 1), (0, 0), (1, 1)))
    with catalog.write() as connection, found(connection, cut) as made:
        [demand] = made
    assert (demand.ways, demand.size) == ((("S0P0", "S1P1"),), 900)


def test_copies_are_further_ways_each_once(catalog: Catalog) -> None:
    copies = [
        Version(0, 1, ((0, 0),)),
        Version(1, 1, ((1, 0),), "mirror"),
        Version(2, 1, ((1, 0),), "mirror"),
        Version(3, 1, ((0, 0),), "mirror"),
        Version(4, 1, ((0, 1), (1, 1)), "mirror"),
        Version(5, 2, ((1, 1),), "mirror"),
    ]
    with catalog.write() as connection, found(connection, *copies) as made:
        [demand] = made
    assert demand.ways == (("S0P0",), ("S0P1", "S1P1"), ("S1P0",))


def test_of_many_copies_a_few_are_looked_at(catalog: Catalog) -> None:
    many = [Version(0, 1, ((0, 0),))]
    many += [Version(n, 1, ((n % 2, n % 4 // 2), (0, 0), (1, 1)), "mirror") for n in range(1, 20)]
    with catalog.write() as connection, found(connection, *many) as made:
        [demand] = made
    assert 1 < len(demand.ways) <= 5


@pytest.mark.parametrize("place", [0, 9])
def test_where_a_copy_was_to_be_read_the_own_version_is_a_way_among_many(
    catalog: Catalog, place: int
) -> None:
    versions = [Version(n, 1, ((0, 0),), "mirror") for n in range(9)]
    versions.insert(place, Version(0, 1, ((1, 1),)))
    with catalog.write() as connection:
        built = build(connection, World(SETS, tuple(versions)), "age1x")
        [demand] = _demands(connection, built.point, built.versions[5])
    assert demand.ways == (("S0P0",), ("S1P1",))


def test_what_is_uncommitted_or_on_volumes_that_are_given_up_is_no_copy(catalog: Catalog) -> None:
    versions = [
        Version(0, 1, ((0, 0),)),
        Version(1, 1, ((0, 1),), "mirror", is_committed=False),
        Version(2, 1, ((1, 0),), "mirror"),
    ]
    with catalog.write() as connection:
        built = build(connection, World(SETS, tuple(versions)), "age1x")
        connection.execute(
            update(tables.volumes)
            .where(tables.volumes.c.barcode == "S1P0")
            .values(content=Content.RECLAIM_QUARANTINE)
        )
        [demand] = _demands(connection, built.point)
    assert demand.ways == (("S0P0",),)


def test_a_version_whose_payload_is_gone_has_a_way_of_no_volumes(catalog: Catalog) -> None:
    with catalog.write() as connection:
        built = build(connection, World(SETS, (Version(0, 1, ((0, 0),)),)), "age1x")
        connection.execute(tables.extents.delete())
        [demand] = _demands(connection, built.point)
    assert demand.ways == ((),)
