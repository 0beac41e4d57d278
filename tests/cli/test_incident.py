import base64
from pathlib import Path

from tests.support.commands import FILES, HOSTILE, as_json, refused, succeeds


def lose(root: Path, keys: list[bytes]) -> int:
    for key in keys:
        (root / "live" / key.decode("utf-8", "surrogateescape")).unlink()
    incident: int = as_json(root, "loss-scan", "live")["incident_id"]
    return incident


def test_losses_are_shown_by_name(cluster: Path) -> None:
    incident = lose(cluster, [*HOSTILE, b"d1/file-001.txt"])
    shown = succeeds(cluster, "incident", "show", incident).stdout
    assert "on_tape               d1/file-001.txt\n" in shown
    assert r"on_tape               line\nbreak.txt" in shown
    assert r"not-utf8-\xff\xfe" in shown
    assert "[bold]markup[/bold] :smile:" in shown
    found = as_json(cluster, "incident", "show", incident)
    by_bytes = {
        base64.b64decode(loss["key_b64"]) if "key_b64" in loss else loss["key"].encode()
        for loss in found["losses"]
    }
    assert by_bytes == {*HOSTILE, b"d1/file-001.txt"}
    assert found["counts"]["expected"] == len(FILES)


def test_losses_of_one_class(cluster: Path) -> None:
    incident = lose(cluster, [b"d1/file-001.txt"])
    shown = as_json(cluster, "incident", "show", incident, "--class", "never_backed_up")
    assert shown["losses"] == []


def test_incidents_are_listed(cluster: Path) -> None:
    assert as_json(cluster, "incident", "list") == {"incidents": []}
    incident = lose(cluster, [b"d1/file-001.txt"])
    [found] = as_json(cluster, "incident", "list")["incidents"]
    assert (found["id"], found["store"]) == (incident, "live")
    assert "recovery point 1" in succeeds(cluster, "incident", "list").stdout
    assert "no incident 99" in refused(cluster, "incident", "show", "99", code=64)


def test_an_incident_is_closed(cluster: Path) -> None:
    incident = lose(cluster, [b"d1/file-001.txt"])
    assert as_json(cluster, "incident", "show", incident)["state"] == "open"
    assert as_json(cluster, "incident", "close", incident) == {"closed": incident}
    assert (
        f"Incident {incident} is closed." in succeeds(cluster, "incident", "close", incident).stdout
    )
    assert as_json(cluster, "incident", "list")["incidents"][0]["state"] == "closed"
    asked = ("restore", "run", "--incident", incident, "--dry-run")
    assert "tapeflow loss-scan" in refused(cluster, *asked, code=64)
