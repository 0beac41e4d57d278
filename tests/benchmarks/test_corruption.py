"""The corruption campaign in small, and that it sees what it is made to see."""

import json
import random
from itertools import repeat
from pathlib import Path

import pytest

from benchmarks import corruption, corruption_checks
from benchmarks.corruption import SITE_EVERY, Campaign, Report
from tests.support.spoil import SPOILERS, joined, parts, spoil
from tests.support.tape_sets import tap

RECORDS = [bytes([n]) * (n * 7 or 1) for n in range(9)]
IMAGE = joined([*RECORDS[:4], b"", *RECORDS[4:], b"", b""])


def run(folder: Path, numbers: range, seed: int = 7) -> Report:
    return Campaign(seed, folder, folder / "kept").run(numbers)


def test_sixty_cases_hold(tmp_path: Path) -> None:
    report = run(tmp_path, range(60))
    assert report.failures == []
    assert (report.cases, report.restores) == (60, 60 // SITE_EVERY)
    assert report.restores > 0
    assert len(report.damage) == len(SPOILERS)
    outcomes = {name.split(": ")[1] for name in report.seen}
    assert {"as written", "corrupt_tape_file", "digest_mismatch", "medium_error"} <= outcomes
    assert not (tmp_path / "kept").exists()


def test_wrong_bytes_taken_for_good_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corruption_checks, "restore_payload", lambda *_: None)
    report = run(tmp_path, range(5))
    assert {failure.kind for failure in report.failures} == {"wrong bytes"}
    kept = list((tmp_path / "kept").rglob("*.tap"))
    assert len(kept) == len(report.failures)


def test_another_label_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corruption_checks, "read_label", lambda drive: "another")
    assert {failure.kind for failure in run(tmp_path, range(3)).failures} == {"wrong bytes"}


def test_errors_without_a_name_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corruption_checks, "verify_segment", lambda blocks: next(iter(())))
    report = run(tmp_path, range(3))
    assert {failure.kind for failure in report.failures} == {"crash"}
    assert "StopIteration" in report.failures[0].what


def test_what_never_ends_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corruption, "LIMIT_SECONDS", 0.2)
    monkeypatch.setattr(corruption_checks, "read_label", lambda drive: [0 for _ in repeat(0) if _])
    [failure] = run(tmp_path, range(1)).failures
    assert failure.kind == "hang"


def test_an_object_restored_wrong_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corruption, "digests", lambda folder: {b"key": folder.name})
    numbers = range(SITE_EVERY - 1, SITE_EVERY)
    [failure] = run(tmp_path, numbers).failures
    assert failure.kind == "wrong bytes"


def test_the_command_tells_what_it_found(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert corruption.main(["--cases", "3", "--seed", "5", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert (told["seed"], told["cases"], told["failures"]) == (5, 3, [])
    monkeypatch.setattr(corruption_checks, "read_label", lambda drive: "another")
    assert corruption.main(["--only", "2"]) == 1
    assert "case 2: wrong bytes after" in capfd.readouterr().out


def test_the_same_seed_and_number_do_the_same_damage() -> None:
    for number in range(200):
        once = spoil(random.Random(number), IMAGE)
        assert once == spoil(random.Random(number), IMAGE)
        assert set(once[0]) <= set(SPOILERS)


def test_images_are_taken_apart_and_put_together() -> None:
    assert joined(parts(IMAGE)) == IMAGE
    assert joined(parts(IMAGE[:-4])) == IMAGE
    assert parts(tap([b"ab", b"", b"cdef"], 2)) == [b"ab", b"", b"", b"cd", b"ef", b""]


@pytest.mark.parametrize("kind", sorted(SPOILERS))
def test_each_kind_of_damage_does_some(kind: str) -> None:
    results = {SPOILERS[kind](random.Random(number), IMAGE) for number in range(20)}
    assert len(results - {IMAGE}) > 1
