"""The audit trail is a chain that shows every change made to it."""

import contextlib
import hashlib
import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from restore_lib.catalog import audit
from restore_lib.catalog.engine import Catalog
from restore_lib.model.verdict import Verdict

AT = datetime(2030, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)


def fill(catalog: Catalog, count: int = 5) -> None:
    with catalog.write() as connection:
        for number in range(1, count + 1):
            audit.record(
                connection,
                AT + timedelta(hours=number),
                "ann",
                "restore",
                f"r{number}",
                {"n": number},
            )


def checked(catalog: Catalog, expected_head: str | None = None) -> audit.AuditVerdict:
    with catalog.read() as connection:
        return audit.verify(connection, expected_head=expected_head)


def tamper(catalog: Catalog, *statements: str, **values: Any) -> None:
    """Change the trail as someone would who may do anything in the database."""
    with catalog.write() as connection:
        lift_triggers(connection)
        for statement in statements:
            connection.execute(text(statement), values)


def lift_triggers(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("ALTER TABLE audit_events DISABLE TRIGGER ALL"))
        return
    for change in ("update", "delete", "replace"):
        connection.execute(text(f"DROP TRIGGER audit_events_append_only_{change}"))


def test_ids_are_dense_and_the_chain_is_sound(catalog: Catalog) -> None:
    fill(catalog, 3)
    with catalog.write() as connection:
        assert audit.record(connection, AT, "bob", "vault", "s1", {}) == 4
    verdict = checked(catalog)
    assert (verdict.ok, verdict.count, verdict.broken, verdict.reason) == (True, 4, None, "")


def test_an_empty_trail_has_not_passed(catalog: Catalog) -> None:
    verdict = checked(catalog)
    assert verdict.verdict is Verdict.NOT_CHECKED
    assert not verdict.ok
    assert verdict.head == audit.GENESIS


def test_the_digest_is_as_documented(catalog: Catalog) -> None:
    with catalog.write() as connection:
        audit.record(connection, AT, "ünal", "purge", "a b", {"z": [1.5, None], "a": {"k": True}})
    canonical = (
        '{"action":"purge","actor":"\\u00fcnal","at":"2030-01-02T03:04:05.678900+00:00",'
        '"detail":{"a":{"k":true},"z":[1.5,null]},"id":1,"previous":"' + "0" * 64 + '",'
        '"subject":"a b"}'
    )
    assert checked(catalog).head == hashlib.sha256(canonical.encode()).hexdigest()


def test_detail_that_json_changes_on_the_way_stays_sound(catalog: Catalog) -> None:
    with catalog.write() as connection:
        detail: Any = {
            "numbers": {10: "ten", 9: "nine"},
            "pair": (1, 2),
            "text": "a\nb\u2028\ud800",
            "large": 2**70,
            "tiny": 1e-300,
        }
        audit.record(connection, AT.astimezone(), "ann", "x", "y", detail)
    assert checked(catalog).ok


def test_the_newest_events_come_first(catalog: Catalog) -> None:
    fill(catalog, 4)
    with catalog.read() as connection:
        found = audit.newest(connection, 2)
    assert [(event["id"], event["subject"]) for event in found] == [(4, "r4"), (3, "r3")]
    assert (found[0]["at"], found[0]["detail"]) == (AT + timedelta(hours=4), {"n": 4})


def test_detail_that_is_not_json_is_refused(catalog: Catalog) -> None:
    for detail in ({"x": float("nan")}, {"x": b"bytes"}):
        with pytest.raises((ValueError, TypeError)), catalog.write() as connection:
            audit.record(connection, AT, "ann", "x", "y", detail)
    assert checked(catalog).count == 0


def test_an_event_is_part_of_its_transaction(catalog: Catalog) -> None:
    fill(catalog, 1)
    with contextlib.suppress(RuntimeError), catalog.write() as connection:
        audit.record(connection, AT, "ann", "x", "y", {})
        raise RuntimeError
    fill(catalog, 1)
    assert checked(catalog).count == 2


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_events SET actor = 'eve' WHERE id = 3",
        "UPDATE audit_events SET subject = 'r9' WHERE id = 3",
        "UPDATE audit_events SET action = 'purge' WHERE id = 3",
        "UPDATE audit_events SET detail = '{\"n\": 4}' WHERE id = 3",
        "UPDATE audit_events SET at = '2030-01-02 03:04:05.000001+00' WHERE id = 3",
    ],
)
def test_an_edit_is_found(catalog: Catalog, change: str) -> None:
    fill(catalog)
    tamper(catalog, change)
    verdict = checked(catalog)
    assert (verdict.ok, verdict.count, verdict.broken) == (False, 2, 3)
    assert "edited" in verdict.reason


def test_an_edit_with_its_own_digest_made_anew_is_found_at_the_next_event(catalog: Catalog) -> None:
    fill(catalog)
    with catalog.read() as connection:
        previous = connection.execute(
            text("SELECT digest FROM audit_events WHERE id = 2")
        ).scalar_one()
    event = {
        "id": 3,
        "at": (AT + timedelta(hours=3)).isoformat(timespec="microseconds"),
        "actor": "eve",
        "action": "restore",
        "subject": "r3",
        "detail": {"n": 3},
        "previous": bytes(previous).hex(),
    }
    canonical = json.dumps(event, sort_keys=True, separators=(",", ":"))
    tamper(
        catalog,
        "UPDATE audit_events SET actor = 'eve', digest = :digest WHERE id = 3",
        digest=hashlib.sha256(canonical.encode()).digest(),
    )
    verdict = checked(catalog)
    assert (verdict.count, verdict.broken) == (3, 4)
    assert "follow" in verdict.reason


def test_a_missing_event_is_found(catalog: Catalog) -> None:
    fill(catalog)
    tamper(catalog, "DELETE FROM audit_events WHERE id = 2")
    verdict = checked(catalog)
    assert (verdict.ok, verdict.count, verdict.broken) == (False, 1, 2)
    assert "missing" in verdict.reason


def test_a_missing_first_event_is_found(catalog: Catalog) -> None:
    fill(catalog)
    tamper(catalog, "DELETE FROM audit_events WHERE id = 1")
    assert checked(catalog).broken == 1


def test_events_that_changed_places_are_found(catalog: Catalog) -> None:
    fill(catalog)
    tamper(
        catalog,
        "UPDATE audit_events SET id = 99 WHERE id = 2",
        "UPDATE audit_events SET id = 2 WHERE id = 3",
        "UPDATE audit_events SET id = 3 WHERE id = 99",
    )
    verdict = checked(catalog)
    assert (verdict.ok, verdict.broken) == (False, 2)


def test_a_cut_end_is_found_by_a_noted_head(catalog: Catalog) -> None:
    fill(catalog)
    head = checked(catalog).head
    tamper(catalog, "DELETE FROM audit_events WHERE id = 5")
    assert checked(catalog).ok
    verdict = checked(catalog, head)
    assert (verdict.ok, verdict.count, verdict.broken) == (False, 4, None)
    assert head in verdict.reason


def test_a_trail_wiped_out_is_found_by_a_noted_head(catalog: Catalog) -> None:
    fill(catalog)
    head = checked(catalog).head
    tamper(catalog, "DELETE FROM audit_events")
    assert checked(catalog, head).verdict is Verdict.FAILED


def test_a_noted_head_stays_good_while_the_trail_grows(catalog: Catalog) -> None:
    noted = [audit.GENESIS]
    for _ in range(3):
        fill(catalog, 1)
        noted.append(checked(catalog).head)
    assert all(checked(catalog, head.upper()).ok for head in noted)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_events SET detail = 'no json' WHERE id = 2",
        "UPDATE audit_events SET at = 'yesterday' WHERE id = 2",
        "UPDATE audit_events SET digest = 'text' WHERE id = 2",
        "UPDATE audit_events SET previous = 'text' WHERE id = 2",
        "UPDATE audit_events SET actor = x'00ff' WHERE id = 2",
    ],
)
def test_values_of_a_wrong_type_are_found(sqlite_url: str, change: str) -> None:
    catalog = Catalog(sqlite_url)
    fill(catalog)
    tamper(catalog, change)
    assert checked(catalog).broken == 2
    catalog.close()


@pytest.mark.parametrize("table", ["audit_events", "custody_events"])
def test_the_database_itself_refuses_changes(catalog: Catalog, table: str) -> None:
    fill(catalog)
    with catalog.write() as connection:
        connection.execute(
            text(
                "INSERT INTO volumes (barcode, content, health, custody, flags, place)"
                " VALUES ('V1', 'blank', 'ok', 'mountable', '[]', 'library')"
            )
        )
        connection.execute(
            text(
                "INSERT INTO custody_events"
                " (barcode, at, field, before, after, place, actor, reason)"
                " VALUES ('V1', '2030-01-01', 'custody', '', 'mountable', 'library', 'ann', '')"
            )
        )
    changes = [f"UPDATE {table} SET actor = 'eve'", f"DELETE FROM {table}"]
    if catalog.engine.dialect.name == "sqlite":
        changes.append(f"INSERT OR REPLACE INTO {table} SELECT * FROM {table} WHERE id = 1")
    else:
        changes.append(f"TRUNCATE {table}")
    for change in changes:
        with (
            pytest.raises(IntegrityError, match=f"{table} is append-only"),
            catalog.write() as connection,
        ):
            connection.execute(text(change))
    assert checked(catalog).ok


def test_writers_at_once_make_one_chain(catalog: Catalog) -> None:
    def write() -> None:
        for number in range(10):
            with catalog.write() as connection:
                audit.record(connection, AT, threading.current_thread().name, "x", str(number), {})

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    verdict = checked(catalog)
    assert (verdict.ok, verdict.count) == (True, 40)
