"""Which versions are live, on both databases: counted by hand, and held by those at work."""

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, insert, select, update

from restore_lib.catalog import repairs, stripes, tables, tape_sets
from restore_lib.catalog.engine import Catalog
from restore_lib.catalog.liveness import (
    LiveExtent,
    has_live_extents,
    hold,
    let_go,
    live_bytes_of_sets,
    live_extents,
    sets_under_repair,
)
from restore_lib.catalog.tables import (
    extents,
    incidents,
    items,
    losses,
    recovery_points,
    restore_requests,
    versions,
)
from restore_lib.model.states import (
    IncidentState,
    ItemState,
    RecoveryPointState,
    RequestState,
)
from tests.support.stripes import AT, back_up, begin, extent, new_set, stored, tape_files

OPEN, COMMITTED, EXPIRED = (
    RecoveryPointState.OPEN,
    RecoveryPointState.COMMITTED,
    RecoveryPointState.EXPIRED,
)


def close(connection: Connection) -> None:
    for row in connection.execute(select(tables.tape_sets.c.id)).all():
        tape_sets.close_set(connection, row.id, AT)


def give_up(connection: Connection, *points: int, state: RecoveryPointState = EXPIRED) -> None:
    connection.execute(
        update(recovery_points).where(recovery_points.c.id.in_(points)).values(state=state)
    )


def live(connection: Connection, set_id: str) -> list[bytes]:
    return [each.key for each in live_extents(connection, set_id, None, 100)]


def version_of(connection: Connection, set_id: str, key: bytes) -> int:
    [found] = [each for each in live_extents(connection, set_id, None, 100) if each.key == key]
    return found.version_id


def ask(connection: Connection, version: int, state: RequestState, item: ItemState) -> None:
    row = {
        "store": "live",
        "target": "live",
        "overwrite": "never",
        "source": {},
        "reason": "restore",
        "actor": "test",
        "state": state,
        "created_at": AT,
    }
    request_id = connection.execute(
        insert(restore_requests).values(row).returning(restore_requests.c.id)
    ).scalar_one()
    connection.execute(
        insert(items).values(
            request_id=request_id, key=b"x", version_id=version, loss_class="on_tape", state=item
        )
    )


def lose(connection: Connection, version: int, state: IncidentState) -> None:
    row = {"store": "live", "reference": "t", "found_at": AT, "state": state, "counts": {}}
    incident_id = connection.execute(
        insert(incidents).values(row).returning(incidents.c.id)
    ).scalar_one()
    connection.execute(
        insert(losses).values(
            incident_id=incident_id, key=b"x", loss_class="on_tape", version_id=version
        )
    )


def test_an_expired_point_in_the_middle_frees_nothing_that_another_holds(catalog: Catalog) -> None:
    with catalog.write() as connection:
        _, first = back_up(connection, {b"a": b"1", b"b": b"1"})
        back_up(connection, {})
        third, _ = back_up(connection, {b"a": b"2"})
        back_up(connection, {}, gone=[b"b"])
        close(connection)
        for gone, left in (
            ([2], [b"a", b"b"]),
            ([1, 2], [b"b"]),
            ([1, 2, 3], []),
            ([1, 3], [b"a", b"b"]),
        ):
            give_up(connection, 1, 2, 3, 4, state=COMMITTED)
            give_up(connection, *gone)
            assert live(connection, first.id) == left
            assert has_live_extents(connection, first.id) is bool(left)
        assert third == 3


def test_points_of_another_store_hold_nothing(catalog: Catalog) -> None:
    with catalog.write() as connection:
        _, first = back_up(connection, {b"a": b"1"})
        row = {"policy": "p", "store": "other", "state": COMMITTED, "started_at": AT, "summary": {}}
        connection.execute(insert(recovery_points).values(row))
        back_up(connection, {}, gone=[b"a"])
        assert live(connection, first.id) == [b"a"]
        give_up(connection, 1)
        assert live(connection, first.id) == []


def test_the_state_of_purged_points_holds_nothing_either(catalog: Catalog) -> None:
    with catalog.write() as connection:
        _, first = back_up(connection, {b"a": b"1"})
        give_up(connection, 1, state=RecoveryPointState.PURGED)
        assert live(connection, first.id) == []


def test_what_closed_sets_hold_is_counted(catalog: Catalog) -> None:
    with catalog.write() as connection:
        _, first = back_up(connection, {b"a": b"1" * 10, b"b": b"1" * 30, b"c": b""})
        _, second = back_up(connection, {b"a": b"2"})
        close(connection)
        _, empty_job = begin(connection)
        new_set(connection, empty_job[0])
        give_up(connection, 1)
        found = live_bytes_of_sets(connection)
        assert [(u.tape_set, u.extents, u.size, u.live_extents, u.live_size) for u in found] == [
            (first.id, 3, 640, 2, 430),
            (second.id, 1, 201, 1, 201),
        ]
        assert live_bytes_of_sets(connection, second.id) == found[1:]


def test_a_closed_set_without_extents_is_counted_too(catalog: Catalog) -> None:
    with catalog.write() as connection:
        _, held = back_up(connection, {})
        close(connection)
        [use] = live_bytes_of_sets(connection)
        assert (use.tape_set, use.extents, use.size, use.live_extents) == (held.id, 0, 0, 0)


def test_an_object_of_which_parts_are_still_to_come_is_live_while_it_is_backed_up(
    catalog: Catalog,
) -> None:
    with catalog.write() as connection:
        rp_id, [job_id] = begin(connection)
        held = new_set(connection, job_id)
        part = extent(stored(b"cut", b"12"), b"1", parts=2, object_sha256=None)
        stripes.commit_stripes(
            connection,
            rp_id=rp_id,
            store="live",
            tape_set=held.id,
            files=tape_files(held, 1),
            new=[part],
            started={},
            at=AT,
        )
        assert live(connection, held.id) == [b"cut"]
        give_up(connection, rp_id, state=COMMITTED)
        assert live(connection, held.id) == []


@pytest.mark.parametrize(
    ("request_state", "item", "kept"),
    [
        (RequestState.PLANNED, ItemState.PENDING, True),
        (RequestState.ACTIVE, ItemState.BATCHED, True),
        (RequestState.ACTIVE, ItemState.RESTORED, False),
        (RequestState.ENDED, ItemState.PENDING, False),
        (RequestState.CANCELLED, ItemState.BATCHED, False),
    ],
)
def test_an_unfinished_restore_holds_its_versions(
    catalog: Catalog, request_state: RequestState, item: ItemState, kept: bool
) -> None:
    with catalog.write() as connection:
        _, held = back_up(connection, {b"a": b"1", b"b": b"1"})
        ask(connection, version_of(connection, held.id, b"a"), request_state, item)
        in_use = [e.key for e in live_extents(connection, held.id, None, 9) if e.in_use]
        give_up(connection, 1)
        assert live(connection, held.id) == in_use == ([b"a"] if kept else [])


@pytest.mark.parametrize("state", IncidentState)
def test_an_open_incident_holds_what_it_has_lost(catalog: Catalog, state: IncidentState) -> None:
    with catalog.write() as connection:
        _, held = back_up(connection, {b"a": b"1", b"b": b"1"})
        lose(connection, version_of(connection, held.id, b"b"), state)
        assert not any(each.in_use for each in live_extents(connection, held.id, None, 9))
        give_up(connection, 1)
        assert live(connection, held.id) == ([b"b"] if state is IncidentState.OPEN else [])


def test_pages_come_in_the_order_of_the_tapes_with_all_that_is_known(catalog: Catalog) -> None:
    with catalog.write() as connection:
        contents = {b"%02d" % n: b"x" * n for n in range(11)}
        _, held = back_up(connection, contents, k=3)
        back_up(connection, {b"04": b"new"})
        give_up(connection, 1)
        every = live_extents(connection, held.id, None, 100)
        assert [each.place for each in every] == sorted(each.place for each in every)
        assert {each.key for each in every} == contents.keys() - {b"04"}
        pages = list(paged(connection, held.id, 3))
        assert pages == every
        one = every[1]
        row = connection.execute(
            select(extents, versions.c.etag.label("token"))
            .join(versions, versions.c.id == extents.c.version_id)
            .where(extents.c.id == one.id)
        ).one()
        assert (one.version_id, one.part, one.member) == (row.version_id, row.part, row.member)
        assert (one.sha256, one.stored_sha256) == (row.sha256, row.stored_sha256)
        assert (one.etag, one.store, one.object_size) == (row.token, "live", len(contents[one.key]))
        assert (one.parts, one.stripe, one.barcode) == (1, 1, held.barcodes[one.position])
        assert (one.object_sha256, one.modified_at, one.metadata) == (one.sha256, AT, {})


def paged(connection: Connection, set_id: str, limit: int) -> Iterator[LiveExtent]:
    after = None
    while page := live_extents(connection, set_id, after, limit):
        assert len(page) <= limit
        yield from page
        after = page[-1].place


def test_a_running_repair_is_told(catalog: Catalog) -> None:
    with catalog.write() as connection:
        _, held = back_up(connection, {b"a": b"1"})
        _, other = back_up(connection, {b"b": b"1"})
        assert sets_under_repair(connection) == set()
        repair = repairs.begin(
            connection,
            barcode=held.barcodes[0],
            replacement=other.barcodes[0],
            tape_set=held.id,
            position=0,
            at=AT,
        )
        assert sets_under_repair(connection) == {held.id}
        repairs.abandon(connection, repair, AT + timedelta(days=1))
        assert sets_under_repair(connection) == set()


def test_who_lets_versions_go_waits_for_who_holds_them(postgres_url: str) -> None:
    catalog = Catalog(postgres_url)
    order: list[str] = []
    begun = threading.Event()

    def let_versions_go() -> None:
        begun.set()
        with catalog.write() as connection:
            let_go(connection)
            order.append("let go")

    other = threading.Thread(target=let_versions_go)
    with catalog.write() as connection, catalog.write() as another:
        hold(connection)
        hold(another)
        other.start()
        begun.wait()
        other.join(0.2)
        order.append("held")
    other.join(30)
    catalog.close()
    assert order == ["held", "let go"]


histories = st.lists(
    st.tuples(
        st.sampled_from([COMMITTED, EXPIRED]),
        st.dictionaries(st.sampled_from([b"a", b"b", b"c"]), st.booleans(), max_size=3),
    ),
    min_size=1,
    max_size=6,
)


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(history=histories)
def test_live_is_what_any_kept_point_holds(
    catalog: Catalog, history: list[tuple[RecoveryPointState, dict[bytes, bool]]]
) -> None:
    with catalog.write() as connection:
        there: dict[bytes, int] = {}
        expected: set[tuple[bytes, int]] = set()
        sets: dict[int, str] = {}
        for state, changes in history:
            gone = [key for key, stays in changes.items() if not stays and key in there]
            new = {key: b"%d" % len(sets) for key, stays in changes.items() if stays}
            rp_id, held = back_up(connection, new, gone=gone)
            sets[rp_id] = held.id
            there = {key: rp for key, rp in there.items() if key not in gone}
            there |= dict.fromkeys(new, rp_id)
            if state is COMMITTED:
                expected |= set(there.items())
            else:
                give_up(connection, rp_id)
        found = {(key, rp) for rp, set_id in sets.items() for key in live(connection, set_id)}
        assert found == expected
        assert {(rp, has_live_extents(connection, set_id)) for rp, set_id in sets.items()} == {
            (rp, any(r == rp for _, r in expected)) for rp in sets
        }
        connection.rollback()
