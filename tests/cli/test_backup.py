import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import (
    FILES,
    POLICY,
    as_json,
    process,
    refused,
    succeeds,
)
from tests.support.sites import digests, image, make_site, open_site, write_files


def test_a_dry_run_shows_the_plan_and_writes_nothing(fresh: Path) -> None:
    before = digests(fresh / "tapes")
    plan = as_json(fresh, "backup", "run", "live", "--dry-run")
    assert plan["counts"]["new"] == len(FILES)
    assert plan["size"] == sum(map(len, FILES.values()))
    assert "volumes" in succeeds(fresh, "backup", "run", "live", "--dry-run").stdout
    assert digests(fresh / "tapes") == before
    assert as_json(fresh, "backup", "list") == {"recovery_points": []}


def test_a_backup_makes_a_recovery_point(fresh: Path) -> None:
    point = as_json(fresh, "backup", "run", "live")
    assert point["state"] == "committed"
    assert (point["backed_up"], point["objects"]) == (len(FILES), len(FILES))
    again = as_json(fresh, "backup", "run", "live")
    assert (again["backed_up"], again["objects"]) == (0, len(FILES))
    assert [p["recovery_point"] for p in as_json(fresh, "backup", "list")["recovery_points"]] == [
        2,
        1,
    ]


def test_a_recovery_point_is_shown_with_its_volumes(cluster: Path) -> None:
    shown = as_json(cluster, "backup", "show", "1")
    assert [v["barcode"] for v in shown["volumes"]] == [f"TF{n:04}L9" for n in range(6)]
    text = succeeds(cluster, "backup", "show", "1").stdout
    assert "TF0004L9" in text
    assert str(len(FILES)) in text
    assert "live" in succeeds(cluster, "backup", "list").stdout
    assert "no recovery point 9" in refused(cluster, "backup", "show", "9", code=64)


def deny(monkeypatch: pytest.MonkeyPatch, *names: str) -> set[str]:
    """Let files of these names be unreadable, for as long as they are in the set."""
    hidden = set(names)
    real = os.open

    def denied(path: Any, flags: int, *more: Any, **others: Any) -> int:
        if os.fsdecode(path) in hidden:
            raise PermissionError(13, "Permission denied")
        return real(path, flags, *more, **others)

    monkeypatch.setattr(os, "open", denied)
    return hidden


def test_an_unreadable_object_is_named_and_the_rest_backed_up(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = deny(monkeypatch, "line\nbreak.txt", "file-007.txt")
    result = succeeds(fresh, "backup", "run", "live", code=3)
    assert r"not backed up: line\nbreak.txt: " in result.stderr
    assert "2 objects could not be read." in result.stderr
    assert as_json(fresh, "backup", "list")["recovery_points"][0]["objects"] == len(FILES) - 2
    shown = succeeds(fresh, "backup", "show", 1).stdout
    assert r"not backed up: line\nbreak.txt: " in shown
    assert "not backed up: d2/file-007.txt: " in shown
    assert set(as_json(fresh, "backup", "show", 1)["unreadable"]) == {
        r"line\nbreak.txt",
        "d2/file-007.txt",
    }
    hidden.remove("file-007.txt")
    assert "1 object could not be read." in succeeds(fresh, "backup", "run", "live", code=3).stderr


def test_more_objects_than_are_named_are_counted(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deny(monkeypatch, *(f"file-{number:03}.txt" for number in range(9)))
    monkeypatch.setattr("restore_lib.backup.stage._NAMED", 2)
    result = succeeds(fresh, "backup", "run", "live", code=3)
    assert "9 objects could not be read." in result.stderr
    assert 2 <= result.stderr.count("not backed up: ") < 9
    [line] = [row for row in result.stdout.splitlines() if row.startswith("unreadable")]
    assert line.split() == ["unreadable", "9"]


def test_killed_and_run_again_it_ends_the_same(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAPEFLOW__LIBRARY__LEASE", "1s")
    running = process(fresh, "backup", "run", "live")
    first = fresh / "tapes"
    while running.poll() is None and not any(p.stat().st_size > 9000 for p in first.rglob("*.tap")):
        pass
    running.send_signal(signal.SIGKILL)
    running.communicate()
    point = as_json(fresh, "backup", "run", "live")
    assert point["recovery_point"] == 1
    assert point["objects"] == len(FILES)
    choice = ["--everything", "--store", "live", "--to", "out", "--yes"]
    succeeds(fresh, "restore", "run", *choice)
    assert digests(fresh / "out") == digests(fresh / "live")


def test_a_full_staging_disk_is_said_and_loses_nothing(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAPEFLOW__STAGING__RESERVE", "1000TB")
    said = refused(fresh, "backup", "run", "live", code=75)
    assert "staging" in said
    assert "free space" in said
    monkeypatch.delenv("TAPEFLOW__STAGING__RESERVE")
    assert as_json(fresh, "backup", "run", "live")["objects"] == len(FILES)


def test_a_foreign_tape_is_not_written(fresh: Path) -> None:
    site = open_site(fresh)
    drive = site.library.load("TF0000L9", 0, token=1)
    drive.write(b"somebody's backup of 2009".ljust(4096, b"\0"))
    drive.write_filemark()
    site.library.unload(0, token=1)
    site.close()
    before = image(site, "TF0000L9").read_bytes()
    said = refused(fresh, "backup", "run", "live", code=78)
    assert "TF0000L9" in said
    assert "take the volume out of the library" in said
    assert image(site, "TF0000L9").read_bytes() == before


def test_without_blank_volumes_it_says_what_to_do(tmp_path: Path) -> None:
    make_site(tmp_path / "small", policy=POLICY, blank=2).close()
    write_files(tmp_path / "small" / "live", FILES)
    said = refused(tmp_path / "small", "backup", "run", "live", code=78)
    assert "blank" in said
    assert "`tapeflow library" in said


def test_an_unknown_policy_is_refused_with_those_known(cluster: Path) -> None:
    assert "use one of live" in refused(cluster, "backup", "run", "nope", code=64)
