"""The kill campaign in small, and that it sees what it is made to see."""

import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import kills
from benchmarks.kill_scenarios import SCENARIOS, Scenario
from benchmarks.kills import Report, run_scenario, steps
from restore_lib.backup import load, write
from restore_lib.backup.job import JobRun
from restore_lib.library.base import Drive, Library
from restore_lib.library.simh import TapeImage
from restore_lib.library.virtual import VirtualLibrary
from restore_lib.tape.label import Label
from tests.support import watched
from tests.support.boundaries import READING, changing, methods
from tests.support.watched import run_watched

MOST = 30


def whats(report: Report) -> str:
    return "\n".join(failure.what for failure in report.failures)


def test_each_method_of_a_device_is_known_to_read_or_to_change() -> None:
    """A method that is new counts as one that changes; ``SCENARIOS`` have to come to it then."""
    assert changing(Drive) == {"write", "write_filemark"}
    assert changing(Library) == {"load", "unload", "export", "admit"}
    for protocol, reading in READING.items():
        assert reading <= methods(protocol)


@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_at_any_boundary_nothing_is_lost_or_left_unusable(name: str, tmp_path: Path) -> None:
    report = run_scenario(SCENARIOS[name], tmp_path, MOST)
    assert report.failures == []
    assert report.kills >= len(report.boundaries) > 0


def test_of_many_boundaries_the_last_of_each_name_are_taken_and_some_of_all() -> None:
    names = ["a"] * 10 + ["b", "c"] * 20
    assert steps(names, 50) == steps(names, None) == [*range(1, 51)]
    assert steps(names, 2) == steps(names, 3) == [10, 49, 50]
    assert steps(names, 8) == [1, 10, 11, 21, 31, 41, 49, 50]


def test_the_scenarios_come_to_all_that_changes_something(tmp_path: Path) -> None:
    seen: set[str] = set()
    for name in ("backup", "library"):
        root = tmp_path / name
        SCENARIOS[name].prepare(root)
        seen.update(SCENARIOS[name].watched(root).names)
    for protocol in READING:
        for method in changing(protocol):
            assert any(f": {protocol.__name__}.{method}: " in name for name in seen), method
    flows = {name.split(":")[0] for name in seen}
    assert {"backup.run.commit_backup", "backup.job.JobRun._folder"} <= flows


def test_a_method_that_is_said_to_read_and_changes_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = SCENARIOS["library"]
    library.prepare(tmp_path / "site")
    loaded = VirtualLibrary.loaded

    def changes(self: VirtualLibrary) -> Any:
        (self.root / "dock" / "counted").touch()
        return loaded(self)

    monkeypatch.setattr(VirtualLibrary, "loaded", changes)
    with pytest.raises(RuntimeError, match="failed by itself"):
        library.watched(tmp_path / "site")


def test_a_backup_that_writes_behind_what_a_kill_left_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_the_end(drive: Drive, label: Label, _: int, paths: Sequence[Path]) -> int:
        drive.space_to_end()
        for path in paths:
            write._append(drive, label.block_size, path)
        return len(paths)

    monkeypatch.setattr(load, "append_files", at_the_end)
    report = run_scenario(SCENARIOS["backup"], tmp_path, 12)
    assert 0 < len(report.failures) < report.kills
    assert "'suspect'" in whats(report)


def test_what_is_left_in_staging_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = itertools.count()

    def unaware(self: Any) -> Path:
        folder: Path = self._site.staging / "backup" / f"{self._run.number}-{next(numbers)}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    monkeypatch.setattr(JobRun, "_folder", unaware)
    report = run_scenario(SCENARIOS["backup"], tmp_path, 9)
    assert "left in staging" in whats(report)


def test_another_order_of_boundaries_is_seen(tmp_path: Path) -> None:
    runs = itertools.count()

    def run(root: Path, _: object, step: int | None) -> watched.Watched:
        dry = next(runs) == 0
        return run_watched(root, (root / "a").mkdir if dry else (root / "a").touch, step)

    scenario = replace(SCENARIOS["library"], prepare=Path.mkdir, run=run)
    [failure] = run_scenario(scenario, tmp_path).failures
    assert failure.what.startswith("came to other boundaries, the last is ('library: open',)")


def test_what_does_not_end_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(root: Path) -> None:
        if root.name == "killed":
            time.sleep(600)
        (root / "made").mkdir()

    def run(root: Path, _: object, step: int | None) -> watched.Watched:
        return run_watched(root, lambda: work(root), step)

    monkeypatch.setattr(kills, "LIMIT_SECONDS", 0.2)
    scenario = replace(SCENARIOS["library"], prepare=Path.mkdir, run=run)
    [failure] = run_scenario(scenario, tmp_path).failures
    assert failure.what.startswith("no end")


def test_a_process_that_outlives_the_kill_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "_END_SECONDS", 0.2)
    with pytest.raises(RuntimeError, match="1 processes have outlived"):
        run_watched(tmp_path / "site", lambda: subprocess.Popen(["sleep", "600"]))


def test_a_record_is_torn_between_two_boundaries(tmp_path: Path) -> None:
    (tmp_path / "T1.tap").touch()

    def work() -> None:
        with TapeImage(tmp_path / "T1.tap", writable=True) as image:
            image.write(bytes(1000))

    def size(step: int | None) -> int:
        (tmp_path / "T1.tap").write_bytes(b"")
        run_watched(tmp_path, work, step)
        return (tmp_path / "T1.tap").stat().st_size

    assert [size(1), size(2), size(None)] == [0, 504, 1008]


def test_the_command_tells_what_it_found(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kills.main(["--scenario", "library", "--most", "2", "--json"]) == 0
    [told] = json.loads(capfd.readouterr().out)
    assert (told["scenario"], told["failures"]) == ("library", [])
    assert told["kills"] == len(told["boundaries"]) == 10
    assert sum(told["boundaries"].values()) == 18
    monkeypatch.setattr(Scenario, "again", lambda self, root: 1 / 0)
    assert kills.main(["--scenario", "library", "--most", "1"]) == 1
    said = capfd.readouterr().out
    assert "library: 18 boundaries, " in said
    assert "ZeroDivisionError" in said


def test_each_way_to_change_a_file_is_a_boundary_where_it_changes_one(tmp_path: Path) -> None:
    root = tmp_path / "site"
    root.mkdir()

    def work() -> None:
        folder, other = root / "folder", tmp_path / "elsewhere"
        for path in (folder, folder, other):
            path.mkdir(exist_ok=True)
        for path in (folder / "a", other / "a"):
            path.write_bytes(b"0")
            path.open("wb").close()
            path.open("wb").close()
            path.touch()
            path.open("rb").close()
            handle = os.open(path, os.O_RDWR)
            os.write(handle, b"1")
            os.ftruncate(handle, 0)
            os.close(handle)
            path.rename(path.with_name("b"))
            path.with_name("c").hardlink_to(path.with_name("b"))
            path.symlink_to("c")
        (other / "a").replace(folder / "a")
        (folder / "none").unlink(missing_ok=True)
        shutil.rmtree(folder)
        shutil.rmtree(other)

    found = [name.removeprefix("library: ") for name in run_watched(root, work).names]
    made = ["os.mkdir", "open", "open", "write", "half of write", "os.truncate", "os.rename"]
    made += ["os.link", "os.symlink", "os.rename"]
    assert found == [*made, "os.remove", "os.remove", "os.remove", "os.rmdir"]
