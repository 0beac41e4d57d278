import sqlite3
from pathlib import Path

from tests.support.commands import as_json, succeeds


def test_the_trail_is_listed_and_sound(cluster: Path) -> None:
    events = as_json(cluster, "audit", "list", "--limit", "2")["events"]
    assert [event["action"] for event in events] == ["backup.commit", "backup.close_set"]
    assert "backup.commit" in succeeds(cluster, "audit", "list").stdout
    found = as_json(cluster, "audit", "verify")
    assert found["verdict"] == "passed"
    assert found["events"] == events[0]["id"]
    assert as_json(cluster, "audit", "verify", "--head", found["head"])["verdict"] == "passed"


def test_an_altered_trail_fails(cluster: Path) -> None:
    head = as_json(cluster, "audit", "verify")["head"]
    with sqlite3.connect(cluster / "catalog.db") as database:
        for (name,) in database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            database.execute(f"DROP TRIGGER {name}")
        database.execute("UPDATE audit_events SET actor = 'nobody' WHERE id = 1")
    assert "event 1 was edited" in succeeds(cluster, "audit", "verify", code=1).stdout
    with sqlite3.connect(cluster / "catalog.db") as database:
        database.execute("DELETE FROM audit_events")
    assert as_json(cluster, "audit", "verify", code=4)["verdict"] == "not_checked"
    assert as_json(cluster, "audit", "verify", "--head", head, code=1)["verdict"] == "failed"
