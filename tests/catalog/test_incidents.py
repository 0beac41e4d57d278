"""Incidents and what the catalog has of lost objects, on both databases."""

from datetime import timedelta
from itertools import islice

import pytest
from sqlalchemy import insert, update

from restore_lib.catalog.engine import Catalog
from restore_lib.catalog.incidents import (
    Incident,
    Loss,
    add_incident,
    close,
    incident,
    incidents_of,
    losses_of,
    newest_versions,
    restored_before,
    untouched_incidents,
    versions_at,
)
from restore_lib.catalog.requests import create_request
from restore_lib.catalog.tables import objects, recovery_points, versions
from restore_lib.errors import Refused
from restore_lib.model.states import IncidentState, LossClass, RequestState
from restore_lib.model.verdict import Verdict
from tests.integrity.backups import AT, Content, back_up

DIGEST = "ab" * 32


def add(catalog: Catalog, *lost: Loss, store: str = "live", reference: str = "table") -> int:
    with catalog.write() as connection:
        return add_incident(
            connection,
            store=store,
            reference=reference,
            rp_id=None,
            at=AT,
            counts={"lost": len(lost)},
            lost=iter(lost),
        )


def keys_at(catalog: Catalog, rp_id: int, prefix: bytes = b"") -> list[bytes]:
    with catalog.read() as connection:
        return [each.key for each in versions_at(connection, "live", rp_id, prefix)]


def newest(catalog: Catalog) -> dict[bytes, str]:
    with catalog.read() as connection:
        return {each.key: each.sha256 for each in newest_versions(connection, "live")}


def test_an_incident_comes_back_with_its_losses_in_order(catalog: Catalog) -> None:
    lost = [
        Loss(b"\xff\x00", LossClass.NEVER_BACKED_UP, None, None, None),
        Loss(b"a", LossClass.NEVER_BACKED_UP, None, 2**40, DIGEST),
    ]
    incident_id = add(catalog, *lost)
    with catalog.read() as connection:
        assert incident(connection, incident_id) == Incident(
            incident_id, "live", "table", None, AT, IncidentState.OPEN, {"lost": 2}
        )
        assert list(losses_of(connection, incident_id)) == [lost[1], lost[0]]
        assert list(losses_of(connection, incident_id, LossClass.ON_TAPE)) == []


def test_losses_come_in_bulk(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restore_lib.catalog.incidents.CHUNK", 10)
    lost = [Loss(b"%04d" % n, LossClass.NEVER_BACKED_UP, None, n, None) for n in range(95)]
    incident_id = add(catalog, *lost)
    with catalog.read() as connection:
        assert list(losses_of(connection, incident_id)) == lost
        assert list(islice(losses_of(connection, incident_id), 3)) == lost[:3]


def test_an_incident_that_is_not_there(catalog: Catalog) -> None:
    with catalog.read() as connection, pytest.raises(Refused, match="no incident 7"):
        incident(connection, 7)


def test_incidents_newest_first(catalog: Catalog) -> None:
    first, other, last = add(catalog), add(catalog, store="other"), add(catalog)
    with catalog.read() as connection:
        assert [each.id for each in incidents_of(connection)] == [last, other, first]
        assert [each.id for each in incidents_of(connection, "live")] == [last, first]


def test_an_incident_with_a_restore_is_not_untouched(catalog: Catalog) -> None:
    first, last = add(catalog), add(catalog)
    add(catalog, reference="other")
    add(catalog, store="other")
    values = {
        "store": "live",
        "target": "live",
        "overwrite": "never",
        "source": {},
        "incident_id": last,
        "reason": "restore",
        "actor": "ann",
        "created_at": AT,
    }
    with catalog.write() as connection:
        create_request(connection, values)
    with catalog.read() as connection:
        assert [i.id for i in untouched_incidents(connection, "live", "table")] == [first]


def test_what_a_recovery_point_holds(catalog: Catalog) -> None:
    first = back_up(catalog, {b"b": Content(b"1"), b"a": Content(), b"part": Content(whole=False)})
    second = back_up(catalog, {b"b": Content(b"2"), b"\xff": Content()}, gone=[b"a"])
    assert keys_at(catalog, first) == [b"a", b"b"]
    assert keys_at(catalog, second) == [b"b", b"\xff"]
    assert keys_at(catalog, second, b"\xff") == [b"\xff"]
    with catalog.read() as connection:
        (found,) = versions_at(connection, "live", first, b"b")
    assert (found.size, found.sha256, found.modified_at) == (1, Content(b"1").sha256, AT)


def test_the_newest_version_of_each_object(catalog: Catalog) -> None:
    back_up(catalog, {b"a": Content(b"1"), b"b": Content(b"1"), b"c": Content(b"1")})
    back_up(catalog, {b"b": Content(b"2")}, gone=[b"a"])
    back_up(catalog, {b"c": Content(b"part", whole=False)})
    back_up(catalog, {b"b": Content(b"3"), b"d": Content()}, commit=False)
    back_up(catalog, {b"a": Content(b"4")}, store="other")
    assert newest(catalog) == {
        b"a": Content(b"1").sha256,
        b"b": Content(b"2").sha256,
        b"c": Content(b"1").sha256,
    }


def test_what_only_expired_points_hold_is_no_newest_version(catalog: Catalog) -> None:
    old, new = Content(b"old"), Content(b"new")
    back_up(catalog, {b"deleted": old, b"kept": old, b"changed": old})
    back_up(catalog, {b"changed": new}, gone=[b"deleted"])
    back_up(catalog, {}, gone=[b"changed"])
    whole = {b"deleted": old.sha256, b"kept": old.sha256, b"changed": new.sha256}
    assert newest(catalog) == whole
    expire(catalog, 1)
    assert newest(catalog) == {b"kept": old.sha256, b"changed": new.sha256}
    expire(catalog, 2)
    assert newest(catalog) == {b"kept": old.sha256}


def expire(catalog: Catalog, rp_id: int) -> None:
    with catalog.write() as connection:
        connection.execute(
            update(recovery_points).where(recovery_points.c.id == rp_id).values(state="expired")
        )


def test_what_a_restore_brought_back_whole_may_be_closed(catalog: Catalog) -> None:
    made = [add(catalog) for _ in range(5)]
    other = add(catalog, store="other")
    passed, failed = (RequestState.ENDED, Verdict.PASSED), (RequestState.ENDED, Verdict.FAILED)
    asked: dict[int, list[tuple[RequestState, Verdict | None]]] = {
        made[0]: [passed],
        made[1]: [failed],
        made[2]: [passed, (RequestState.ACTIVE, None)],
        made[3]: [failed, passed],
        other: [passed],
    }
    with catalog.write() as connection:
        for incident_id, requests in asked.items():
            for state, verdict in requests:
                values = {
                    "store": "live",
                    "target": "live",
                    "overwrite": "never",
                    "source": {},
                    "incident_id": incident_id,
                    "reason": "restore",
                    "actor": "test",
                    "created_at": AT,
                }
                create_request(connection, values | {"state": state, "verdict": verdict})
        assert restored_before(connection, "live", AT) == [made[0], made[3]]
        assert restored_before(connection, "live", AT - timedelta(seconds=1)) == []
        close(connection, made[0])
        assert incident(connection, made[0]).state is IncidentState.CLOSED
        assert restored_before(connection, "live", AT) == [made[3]]


def test_many_objects_stream(catalog: Catalog) -> None:
    count = 12_000
    with catalog.write() as connection:
        rp = {"policy": "p", "store": "live", "state": "committed", "started_at": AT, "summary": {}}
        connection.execute(insert(recovery_points).values(rp))
        connection.execute(
            insert(objects),
            [{"id": n + 1, "store": "live", "key": b"%06d" % n} for n in range(count)],
        )
        version = {"first_rp": 1, "size": 1, "sha256": DIGEST, "modified_at": AT}
        connection.execute(
            insert(versions),
            [version | {"object_id": n + 1, "metadata": {}, "parts": 1} for n in range(count)],
        )
    assert keys_at(catalog, 1) == [b"%06d" % n for n in range(count)]
    assert len(newest(catalog)) == count
