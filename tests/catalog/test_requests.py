from typing import Any

import pytest
from sqlalchemy import Connection, func, select

from restore_lib.catalog import incidents, requests, tables
from restore_lib.catalog.engine import Catalog
from restore_lib.catalog.incidents import Loss
from restore_lib.catalog.requests import Outcome
from restore_lib.errors import InvalidTransition, Refused
from restore_lib.model.states import (
    BatchKind,
    ItemState,
    LossClass,
    Overwrite,
    RequestState,
    Way,
)
from restore_lib.model.volume import Reason
from tests.support.plans import PlannedBatch, add_batches
from tests.support.stripes import AT, back_up

HOSTILE = b"a'\n\xff"


def make(connection: Connection, rp_id: int | None = None, **values: Any) -> int:
    fields = {
        "store": "live",
        "target": "out",
        "overwrite": Overwrite.NEVER,
        "source": {"prefix": ""},
        "rp_id": rp_id,
        "reason": Reason.RESTORE,
        "actor": "ann",
        "created_at": AT,
    }
    return requests.create_request(connection, fields | values)


def items(connection: Connection, request_id: int) -> dict[bytes, Any]:
    query = select(tables.items).where(tables.items.c.request_id == request_id)
    return {bytes(row.key): row for row in connection.execute(query)}


def batched(connection: Connection, request_id: int) -> tuple[int, dict[bytes, int]]:
    """Put all pending items into one batch; return its id and theirs."""
    ids = {key: row.id for key, row in items(connection, request_id).items()}
    batch = PlannedBatch(BatchKind.ALTERNATE, None, (), tuple(ids.values()), 0, 1.0)
    add_batches(connection, request_id, [batch])
    newest = select(func.max(tables.batches.c.id))
    return int(connection.execute(newest).scalar_one()), ids


def test_a_request_comes_back_as_it_was_made(catalog: Catalog) -> None:
    with catalog.write() as connection:
        rp_id, _ = back_up(connection, {b"a": b"1"})
        request_id = make(connection, rp_id)
        requests.note(connection, request_id, plan={"batches": 1}, verdict="passed")
        found = requests.request(connection, request_id)
    assert (found.store, found.target, found.rp_id) == ("live", "out", rp_id)
    assert (found.overwrite, found.state) == (Overwrite.NEVER, RequestState.PLANNED)
    assert (found.plan, found.verdict) == ({"batches": 1}, "passed")


def test_states_change_by_compare_and_set(catalog: Catalog) -> None:
    with catalog.write() as connection:
        first, second = make(connection), make(connection)
        requests.change_request(connection, first, RequestState.PLANNED, RequestState.ACTIVE)
        active = requests.requests(connection, [RequestState.ACTIVE])
        assert [request.id for request in active] == [first]
        assert [request.id for request in requests.requests(connection)] == [first, second]
    with pytest.raises(InvalidTransition), catalog.write() as connection:
        requests.change_request(connection, first, RequestState.PLANNED, RequestState.ACTIVE)
    with pytest.raises(Refused, match="request 99"), catalog.read() as connection:
        requests.request(connection, 99)


def test_items_are_those_of_the_recovery_point_under_the_prefix(catalog: Catalog) -> None:
    with catalog.write() as connection:
        old, _ = back_up(connection, {b"d/a": b"1", b"d/b": b"22", b"e": b"3", HOSTILE: b"4"})
        new, _ = back_up(connection, {b"d/a": b"55555"}, gone=[b"d/b"])
        at_old, at_new, everything = make(connection, old), make(connection, new), make(connection)
        requests.add_items_at(connection, at_old, "live", old, b"d/")
        requests.add_items_at(connection, at_new, "live", new, b"d/")
        requests.add_items_at(connection, everything, "live", new, b"")
        assert {k: row.size for k, row in items(connection, at_old).items()} == {
            b"d/a": 1,
            b"d/b": 2,
        }
        assert {k: row.size for k, row in items(connection, at_new).items()} == {b"d/a": 5}
        assert set(items(connection, everything)) == {b"d/a", b"e", HOSTILE}
        assert requests.count_items(connection, everything)[ItemState.PENDING] == 3


def test_names_that_no_backup_holds_are_items_too(catalog: Catalog) -> None:
    with catalog.write() as connection:
        rp_id, _ = back_up(connection, {b"a": b"1", HOSTILE: b"2"})
        asked = [HOSTILE, b"new", HOSTILE, b"a"]
        without, hoping = make(connection, rp_id), make(connection, rp_id)
        requests.add_items_named(connection, without, "live", rp_id, asked, alternates=False)
        requests.add_items_named(connection, hoping, "live", rp_id, asked, alternates=True)
        found, hoped = items(connection, without), items(connection, hoping)
        named = requests.keys_in(connection, without, ItemState.UNRESTORABLE, 10)
    assert {key: item.loss_class for key, item in found.items()} == {
        b"a": LossClass.ON_TAPE,
        b"new": LossClass.NEVER_BACKED_UP,
        HOSTILE: LossClass.ON_TAPE,
    }
    assert (found[b"new"].state, found[b"new"].version_id) == (ItemState.UNRESTORABLE, None)
    assert hoped[b"new"].state == ItemState.PENDING
    assert named == [b"new"]


def test_items_of_an_incident_have_the_versions_of_its_losses(catalog: Catalog) -> None:
    with catalog.write() as connection:
        rp_id, _ = back_up(connection, {b"a": b"1", b"b": b"22"})
        a, b = incidents.versions_at(connection, "live", rp_id)
        incident_id = incidents.add_incident(
            connection,
            store="live",
            reference="list.csv",
            rp_id=rp_id,
            at=AT,
            counts={},
            lost=[
                Loss(b"a", LossClass.ON_TAPE, a.version_id, None, None),
                Loss(b"b", LossClass.CHANGED_AFTER_BACKUP, b.version_id, 77, "ef" * 32),
                Loss(b"c", LossClass.NEVER_BACKED_UP, None, 9, "cd" * 32),
            ],
        )
        without, hoping = make(connection), make(connection)
        requests.add_items_of_incident(connection, without, incident_id, alternates=False)
        requests.add_items_of_incident(connection, hoping, incident_id, alternates=True)
        found, hoped = items(connection, without), items(connection, hoping)
    assert (found[b"a"].version_id, found[b"a"].size) == (a.version_id, 1)
    assert (found[b"b"].size, found[b"b"].sha256) == (2, b.sha256)
    assert (found[b"c"].state, found[b"c"].size) == (ItemState.UNRESTORABLE, 9)
    assert (hoped[b"c"].state, hoped[b"c"].sha256) == (ItemState.PENDING, "cd" * 32)


def test_outcomes_are_written_once_and_only_by_the_batch_that_holds_the_item(
    catalog: Catalog,
) -> None:
    with catalog.write() as connection:
        rp_id, _ = back_up(connection, {b"a": b"1", b"b": b"2", b"c": b"3"})
        request_id = make(connection, rp_id)
        requests.add_items_at(connection, request_id, "live", rp_id, b"")
        batch_id, ids = batched(connection, request_id)
        late = [Outcome(ids[b"a"], ItemState.FAILED, error_code="x")]
        requests.settle_items(connection, batch_id + 1, late, AT)
        assert items(connection, request_id)[b"a"].state == ItemState.BATCHED
        outcomes = [
            Outcome(ids[b"a"], ItemState.RESTORED, Way.TAPE),
            Outcome(ids[b"b"], ItemState.PENDING, error_code="medium_error", error="bad block"),
        ]
        requests.settle_items(connection, batch_id, outcomes, AT)
        requests.settle_items(connection, batch_id, late, AT)
        found = items(connection, request_id)
        assert requests.unfinished(connection, request_id) == 2
    a, b, c = found[b"a"], found[b"b"], found[b"c"]
    assert (a.state, a.way, a.attempts, a.ended_at, a.batch_id) == (
        ItemState.RESTORED,
        Way.TAPE,
        0,
        AT,
        batch_id,
    )
    assert (b.state, b.error, b.attempts, b.ended_at, b.batch_id) == (
        ItemState.PENDING,
        "bad block",
        1,
        None,
        None,
    )
    assert (c.state, c.batch_id) == (ItemState.BATCHED, batch_id)


def test_pending_items_end_when_they_are_tired(catalog: Catalog) -> None:
    with catalog.write() as connection:
        rp_id, _ = back_up(connection, {b"b": b"2", b"c": b"3"})
        request_id = make(connection, rp_id)
        requests.add_items_at(connection, request_id, "live", rp_id, b"")
        ids = {key: row.id for key, row in items(connection, request_id).items()}
        for _ in range(2):
            batch_id, _ = batched(connection, request_id)
            again = [Outcome(ids[b"b"], ItemState.PENDING, error="bad")]
            requests.settle_items(connection, batch_id, again, AT)
        assert requests.give_up_tired(connection, request_id, 3, AT) == 0
        assert requests.give_up_tired(connection, request_id, 2, AT) == 1
        found = items(connection, request_id)
    assert (found[b"b"].state, found[b"b"].error) == (ItemState.FAILED, "bad")
    assert found[b"c"].state == ItemState.BATCHED
