from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, event, select, update

from restore_lib.catalog import plan_tables, requests, tables
from restore_lib.catalog.batches import batches_of
from restore_lib.model.states import ItemState, TakeRedundancy
from restore_lib.model.volume import Custody, Health, Reason
from restore_lib.restore.planning import Planned, add_items, plan_pending, plan_wanted
from restore_lib.site import Site
from restore_lib.tape.age import new_identity
from tests.support.sites import make_site
from tests.support.stripes import AT
from tests.support.worlds import (
    Built,
    Cartridge,
    Version,
    World,
    barcode,
    build,
    check_sound,
    worlds,
)

SOUND = (Cartridge(),) * 4
FAR = (Cartridge(custody=Custody.VAULT),) * 4
ANY = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


@pytest.fixture
def site(tmp_path: Path, catalog_url: str) -> Iterator[Site]:
    made = make_site(tmp_path, blank=0, url=catalog_url)
    yield made
    made.close()


def ask(
    connection: Connection, site: Site, built: Built, take: TakeRedundancy = TakeRedundancy.NEVER
) -> tuple[int, Planned]:
    request_id = requests.create_request(
        connection,
        {
            "store": "live",
            "target": "out",
            "overwrite": "never",
            "source": {},
            "rp_id": built.point,
            "reason": Reason.RESTORE,
            "actor": "ann",
            "created_at": AT,
        },
    )
    with plan_tables.planning(connection):
        requests.add_items_at(
            connection, request_id, "live", built.point, b"", into=plan_tables.wanted
        )
        planned = plan_wanted(connection, site, request_id, take)
        add_items(connection, site, planned)
    return request_id, planned


def shown(connection: Connection, request_id: int) -> list[Any]:
    """Return the whole plan of a request, without ids."""
    planned = {batch.id: batch for batch in batches_of(connection, request_id=request_id)}
    rows = connection.execute(select(tables.items).where(tables.items.c.request_id == request_id))
    order = {id_: number for number, id_ in enumerate(planned)}
    return [
        *sorted((b.volumes, b.kind, b.objects, b.size) for b in planned.values()),
        *sorted((row.key, row.state, row.source_id, order.get(row.batch_id)) for row in rows),
    ]


def recipient(site: Site) -> str:
    return site.identities[0].recipient


@ANY
@given(world=worlds(), limit=st.integers(1, 3))
def test_a_plan_is_complete_sound_stable_and_never_worse_than_first_fit(
    site: Site, world: World, limit: int
) -> None:
    config = site.config.restore.model_copy(update={"batch_objects": limit})
    site.config = site.config.model_copy(update={"restore": config})
    with site.catalog.write() as connection:
        built = build(connection, world, recipient(site))
        request_id, planned = ask(connection, site, built)
        check_sound(connection, world, built, request_id)
        assert all(b.objects <= limit for b in batches_of(connection, request_id=request_id))
        made = planned.choices.selection
        assert made.bound - 1e-6 <= made.cost <= made.first_fit + 1e-6
        again, _ = ask(connection, site, built)
        assert shown(connection, again) == shown(connection, request_id)
        connection.rollback()


@ANY
@given(world=worlds(), changes=st.data())
def test_what_has_changed_since_is_planned_anew_from_what_is(
    site: Site, world: World, changes: st.DataObject
) -> None:
    with site.catalog.write() as connection:
        built = build(connection, world, recipient(site))
        request_id, _ = ask(connection, site, built)
        sets = [list(cartridges) for cartridges in world.sets]
        for number, cartridges in enumerate(sets):
            for position in range(len(cartridges)):
                health = changes.draw(st.sampled_from([cartridges[position].health, Health.BROKEN]))
                cartridges[position] = replace(cartridges[position], health=health)
                connection.execute(
                    update(tables.volumes)
                    .where(tables.volumes.c.barcode == barcode(number, position))
                    .values(health=health)
                )
        connection.execute(
            update(tables.items)
            .where(tables.items.c.state == ItemState.BATCHED)
            .values(state=ItemState.PENDING, batch_id=None)
        )
        connection.execute(tables.batches.delete())
        plan_pending(connection, site, request_id)
        now = replace(world, sets=tuple(map(tuple, sets)))
        lost = tables.items.c.state == ItemState.UNRESTORABLE
        gone = {row.version_id for row in connection.execute(select(tables.items).where(lost))}
        check_sound(connection, now, built, request_id)
        assert gone <= set(built.versions)
        connection.rollback()


def only_batch(connection: Connection, request_id: int) -> Any:
    [batch] = batches_of(connection, request_id=request_id)
    return batch


def test_a_copy_that_is_here_saves_the_truck(site: Site) -> None:
    world = World((FAR, SOUND), (Version(0, 7, ((0, 0),)), Version(1, 7, ((1, 1),), "mirror")))
    with site.catalog.write() as connection:
        built = build(connection, world, recipient(site))
        request_id, planned = ask(connection, site, built)
        assert only_batch(connection, request_id).volumes == ("S1P1",)
        [row] = connection.execute(select(tables.items))
    assert (row.version_id, row.source_id) == tuple(built.versions)
    told = planned.as_dict()["selection"]
    assert told["objects_from_copies"] == 1
    assert told["trucks"] == []
    assert told["first_fit"] > told["cost"]
    assert "less than first fit" in told["why"]


def test_a_copy_that_this_host_has_no_key_for_is_passed_over(site: Site) -> None:
    world = World(
        (FAR, SOUND),
        (Version(0, 7, ((0, 0),)), Version(1, 7, ((1, 1),), "mirror")),
        recipients=(recipient(site), new_identity()[1]),
    )
    with site.catalog.write() as connection:
        built = build(connection, world, recipient(site))
        request_id, _ = ask(connection, site, built)
        assert only_batch(connection, request_id).volumes == ("S0P0",)


def test_a_volume_that_is_far_away_is_rebuilt_from_those_at_hand(site: Site) -> None:
    cartridges = (FAR[0], *SOUND[1:])
    with site.catalog.write() as connection:
        built = build(
            connection, World((cartridges,), (Version(0, 1, ((0, 0),)),)), recipient(site)
        )
        request_id, planned = ask(connection, site, built)
        batch = only_batch(connection, request_id)
    assert (batch.barcode, batch.lost) == ("S0P0", True)
    assert set(batch.volumes) <= {"S0P1", "S0P2", "S0P3"}
    assert planned.as_dict()["selection"]["objects_rebuilt"] == 1


def test_objects_with_copies_go_where_others_must_go(site: Site) -> None:
    world = World(
        (SOUND, SOUND),
        (
            Version(0, 1, ((0, 0),)),
            Version(1, 2, ((1, 0),)),
            Version(2, 1, ((1, 0),), "mirror"),
        ),
    )
    with site.catalog.write() as connection:
        built = build(connection, world, recipient(site))
        request_id, planned = ask(connection, site, built)
        assert only_batch(connection, request_id).volumes == ("S1P0",)
    assert "1 volume fewer" in planned.as_dict()["selection"]["why"]


def test_on_its_last_try_an_object_is_read_from_its_copy(site: Site) -> None:
    world = World((SOUND, SOUND), (Version(0, 7, ((0, 0),)), Version(1, 7, ((1, 1),), "mirror")))
    rounds = site.config.restore.rounds
    read: list[set[str]] = []
    with site.catalog.write() as connection:
        built = build(connection, world, recipient(site))
        request_id, _ = ask(connection, site, built)
        for tries in range(1, rounds):
            connection.execute(tables.batches.delete())
            connection.execute(
                update(tables.items).values(
                    state=ItemState.PENDING,
                    batch_id=None,
                    attempts=tries,
                    error_code="digest_mismatch",
                )
            )
            plan_pending(connection, site, request_id)
            read.append(set(only_batch(connection, request_id).volumes))
    assert [volumes == {"S1P1"} for volumes in read] == [False] * (rounds - 2) + [True]


def test_versions_that_are_not_on_tape_any_more_are_named(site: Site) -> None:
    with site.catalog.write() as connection:
        built = build(connection, World((SOUND,), (Version(0, 1, ((0, 0),)),)), recipient(site))
        connection.execute(tables.extents.delete())
        request_id, _ = ask(connection, site, built)
        assert batches_of(connection, request_id=request_id) == []
        [row] = connection.execute(select(tables.items))
    assert (row.state, row.error_code) == (ItemState.UNRESTORABLE, "too_many_losses")
    assert row.ended_at is not None


def test_what_was_never_backed_up_goes_into_batches_of_its_own(site: Site) -> None:
    with site.catalog.write() as connection:
        built = build(connection, World((SOUND,), (Version(0, 1, ((0, 0),)),)), recipient(site))
        request_id, _ = ask(connection, site, built)
        names = [b"new%d" % number for number in range(3)]
        requests.add_items_named(
            connection, request_id, "live", built.point, names, alternates=True
        )
        plan_pending(connection, site, request_id)
        kinds = [(b.kind, b.objects) for b in batches_of(connection, request_id=request_id)]
    assert kinds == [("read", 1), ("alternate", 3)]


def test_a_mount_takes_no_longer_than_is_allowed(site: Site) -> None:
    config = site.config.restore.model_copy(update={"batch_time": AT - AT})
    site.config = site.config.model_copy(update={"restore": config})
    versions = tuple(Version(key, key, ((0, 0),)) for key in range(3))
    with site.catalog.write() as connection:
        built = build(connection, World((SOUND,), versions), recipient(site))
        request_id, _ = ask(connection, site, built)
        assert [b.objects for b in batches_of(connection, request_id=request_id)] == [1, 1, 1]


@contextmanager
def statements(connection: Connection) -> Iterator[list[str]]:
    """Give a list to which each statement that is run is added."""
    noted: list[str] = []

    def note(*arguments: object) -> None:
        noted.append(str(arguments[2]))

    event.listen(connection, "before_cursor_execute", note)
    yield noted
    event.remove(connection, "before_cursor_execute", note)


def test_where_nothing_is_pending_one_query_tells_so(site: Site) -> None:
    with site.catalog.write() as connection:
        built = build(connection, World((SOUND,), (Version(0, 1, ((0, 0),)),)), recipient(site))
        request_id, _ = ask(connection, site, built)
        with statements(connection) as noted:
            plan_pending(connection, site, request_id)
    assert len(noted) == 1


def test_versions_are_held_before_copies_of_them_are_chosen(site: Site) -> None:
    with site.catalog.write() as connection:
        built = build(connection, World((SOUND,), (Version(0, 1, ((0, 0),)),)), recipient(site))
        request_id, _ = ask(connection, site, built)
        connection.execute(update(tables.items).values(state=ItemState.PENDING, batch_id=None))
        with statements(connection) as noted:
            plan_pending(connection, site, request_id)
    locks = [number for number, text in enumerate(noted) if "advisory_xact_lock_shared" in text]
    if site.catalog.engine.dialect.name == "postgresql":
        assert locks == [1]  # behind the question whether anything is pending
    else:
        assert locks == []


def test_planning_takes_as_many_statements_for_many_objects_as_for_few(site: Site) -> None:
    counts: list[int] = []
    for number in (3, 60):
        versions = tuple(Version(key, key, ((0, key % 2),)) for key in range(number))
        with site.catalog.write() as connection:
            built = build(connection, World((SOUND,), versions), recipient(site))
            with statements(connection) as noted:
                ask(connection, site, built)
            counts.append(len(noted))
            connection.rollback()
    assert counts[0] == counts[1]
