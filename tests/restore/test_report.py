"""The report of a restore: its counts, its verdict, its files."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from restore_lib.catalog.requests import request
from restore_lib.config import load_config
from restore_lib.errors import ConfigError, Refused
from restore_lib.model.verdict import Verdict
from restore_lib.restore.report import build_report, counts_of, summary_of, verdict_of, write_report
from restore_lib.site import Site
from tests.support.clock import ManualClock
from tests.support.restores import PLAN, History, at

Fill = Callable[[History], None]

CONFIG = """
[cluster]
id = "test"
[catalog]
url = "{url}"
[keys]
recipients = ["age1test"]
[stores.shop]
kind = "local"
path = "shop"
[library]
[restore]
reports = "reports"
"""


@pytest.fixture
def site(sqlite_url: str, tmp_path: Path) -> Iterator[Site]:
    path = tmp_path / "tapeflow.toml"
    path.write_text(CONFIG.format(url=sqlite_url))
    opened = Site(load_config(path), ManualClock())
    yield opened
    opened.close()


def written(site: Site, fill: Fill, **values: object) -> int:
    with site.catalog.write() as connection:
        history = History(connection, **values)
        fill(history)
        return history.id


def report_of(site: Site, fill: Fill, **values: object) -> dict[str, Any]:
    return build_report(site, written(site, fill, **values))


def counts(**given: int) -> dict[str, int]:
    """Return counts in which what is not given is 0, and ``asked`` and ``restored`` add up."""
    filled = counts_of([]) | given
    filled["restored"] = filled["verified"] + filled["unverified"]
    ends = sum(filled[name] for name in ("restored", "kept", "unrestorable", "failed"))
    return filled | {"asked": ends + filled["unfinished"]}


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        ({}, Verdict.NOT_CHECKED),
        ({"verified": 1}, Verdict.PASSED),
        ({"verified": 9, "unrestorable": 1}, Verdict.PARTIAL),
        ({"verified": 9, "kept": 1}, Verdict.PARTIAL),
        ({"verified": 9, "unverified": 1}, Verdict.PARTIAL),
        ({"unverified": 3}, Verdict.NOT_CHECKED),
        ({"unrestorable": 3}, Verdict.NOT_CHECKED),
        ({"kept": 3}, Verdict.NOT_CHECKED),
        ({"verified": 9, "failed": 1}, Verdict.FAILED),
        ({"verified": 9, "unfinished": 1}, Verdict.FAILED),
        ({"unrestorable": 3, "failed": 1}, Verdict.FAILED),
        ({"unfinished": 1}, Verdict.FAILED),
    ],
)
def test_the_verdict_follows_from_the_counts(given: dict[str, int], verdict: Verdict) -> None:
    assert verdict_of(counts(**given)) is verdict


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"verified": 1}, "The one object asked for came back and was verified by its digest."),
        (
            {"verified": 6203},
            "Each of the 6,203 objects asked for came back and was verified by its digest.",
        ),
        (
            {"verified": 1, "kept": 2},
            (
                "1 of 3 objects came back verified. The rest is named in this report: "
                "2 kept as found at the target."
            ),
        ),
        (
            {"failed": 2},
            "The restore is not complete: 0 of 2 objects came back verified; 2 failed.",
        ),
        ({}, "Nothing was asked for, so nothing was checked. This is not a success."),
    ],
)
def test_the_summary_says_what_the_verdict_means(given: dict[str, int], said: str) -> None:
    assert summary_of(counts(**given)) == said


def a_bit_of_everything(history: History) -> None:
    history.volume("V1", "V2", "V3")
    first = history.shipment(5, 25, {"V1": "loaded", "V2": "omitted"})
    history.shipment(25, 45, {"V2": "loaded"}, follows=first)
    wave = history.wave(25, 90)
    batch = history.batch(["V1"], 30, 40, wave_id=wave, objects=6)
    history.batch(["V3"], 35, 50, wave_id=wave, state="failed", error="torn")
    history.batch(["V1", "V2"], 60, 85, wave_id=wave, kind="gather")
    history.event(50, "V3", "health", "ok", "broken")
    history.item(b"tape", "restored", batch_id=batch, size=100)
    history.item(b"parity", "restored", batch_id=batch, way="parity", size=200)
    history.item(b"present", "restored", batch_id=batch, way="present", size=5000)
    history.item(b"older", "restored", loss_class="changed_after_backup", size=50)
    history.item(b"copy", "restored", loss_class="never_backed_up", way="alternate", size=50)
    history.item(
        b"unsure", "restored", loss_class="never_backed_up", way="alternate", sha256=None, size=None
    )
    history.item(b"never", "unrestorable", loss_class="never_backed_up", sha256=None, size=None)
    history.item(b"gone", "unrestorable", error_code="too_many_losses")
    history.item(b"stands", "kept", error="another object stands there")


def test_a_report_counts_everything_once(site: Site) -> None:
    report = report_of(site, a_bit_of_everything)
    assert report["format"] == 1
    assert report["counts"] == {
        "asked": 9,
        "on_tape": 5,
        "changed_after_backup": 1,
        "never_backed_up": 3,
        "restored": 6,
        "verified": 5,
        "unverified": 1,
        "present": 1,
        "from_alternates": 2,
        "rebuilt_from_parity": 1,
        "kept": 1,
        "unrestorable": 2,
        "failed": 0,
        "unfinished": 0,
    }
    assert report["verdict"] == "partial"
    assert report["bytes"] == 400
    assert report["errors"] == {"never_backed_up": 1, "too_many_losses": 1}


def test_a_report_names_volumes_and_times(site: Site) -> None:
    report = report_of(site, a_bit_of_everything)
    assert report["volumes"] == {
        "recalled": ["V1", "V2"],
        "omitted": ["V2"],
        "bad": ["V3"],
        "missing": [],
        "lost": [],
        "unexpected": [],
    }
    assert report["throughput"] == {
        "seconds": 45.0,
        "objects_per_second": 5 / 45,
        "bytes_per_second": 400 / 45,
    }
    assert {name: tuple(row.values()) for name, row in report["estimate"].items()} == {
        "plan": (None, None, 5.0),
        "recall": (60.0, 90.0, 40.0),
        "acclimation": (None, None, None),
        "import": (None, None, None),
        "read": (40.0, 50.0, 45.0),
        "redundancy": (None, None, None),
        "publish": (None, None, 45.0),
        "total": (100.0, 150.0, 90.0),
    }
    assert list(report["estimate"]["read"]) == [
        "estimated_seconds",
        "p95_seconds",
        "actual_seconds",
    ]
    assert report["request"]["created_at"] == "2030-01-01T09:00:00Z"
    assert report["request"]["finished_at"] == "2030-01-01T09:01:30Z"
    assert [(row["volumes"], row["started_at"]) for row in report["batches"]] == [
        (["V1"], "2030-01-01T09:00:30Z"),
        (["V3"], "2030-01-01T09:00:35Z"),
        (["V1", "V2"], "2030-01-01T09:01:00Z"),
    ]
    assert [(row["number"], row["objects"], row["restored"]) for row in report["waves"]] == [
        (1, 8, 3)
    ]
    assert [row["follows"] for row in report["shipments"]] == [None, report["shipments"][0]["id"]]


def test_a_report_names_each_object_that_needs_a_look(site: Site) -> None:
    names = report_of(site, a_bit_of_everything)["names"]
    assert names == {
        "never_backed_up": [
            {"key": "copy", "state": "restored"},
            {"key": "never", "state": "unrestorable"},
            {"key": "unsure", "state": "restored"},
        ],
        "changed_after_backup": [{"key": "older", "state": "restored"}],
        "unrestorable": [
            {"key": "gone", "class": "on_tape", "code": "too_many_losses", "error": ""},
            {"key": "never", "class": "never_backed_up", "code": "never_backed_up", "error": ""},
        ],
        "failed": [],
        "kept": [{"key": "stands", "error": "another object stands there"}],
        "unverified": [{"key": "unsure"}],
    }


def test_each_list_of_names_is_as_long_as_its_count(site: Site) -> None:
    report = report_of(site, a_bit_of_everything)
    assert {name: len(rows) for name, rows in report["names"].items()} == {
        name: report["counts"][name] for name in report["names"]
    }


HOSTILE = [
    b"plain/\xc3\xa9t\xc3\xa9",
    b"two\nlines",
    b"two\\nlines",
    b"\xff\xfe",
    b"<script>alert(1)</script>",
    "right\u202eleft".encode(),
    b"'\"&",
    b"x" * 255,
]


def test_hostile_names_come_through_the_json_byte_for_byte(site: Site) -> None:
    def fill(history: History) -> None:
        for key in HOSTILE:
            history.item(key, "failed")

    request_id = written(site, fill)
    path = write_report(site, request_id).json
    rows = json.loads(path.read_text("utf-8"))["names"]["failed"]
    keys = [
        base64.b64decode(row["key_b64"]) if "key_b64" in row else row["key"].encode()
        for row in rows
    ]
    assert keys == sorted(HOSTILE)
    assert all(row["key"].isprintable() for row in rows)
    assert "key_b64" not in next(row for row in rows if row["key"].startswith("plain"))


def test_a_failed_item_tells_its_code_and_error(site: Site) -> None:
    def fill(history: History) -> None:
        history.item(b"a", "failed", error_code="digest_mismatch", error="not the bytes")
        history.item(b"b", "failed", error="tried again and again")

    report = report_of(site, fill)
    assert report["verdict"] == "failed"
    assert [(row["code"], row["error"]) for row in report["names"]["failed"]] == [
        ("digest_mismatch", "not the bytes"),
        ("given_up", "tried again and again"),
    ]
    assert report["errors"] == {"digest_mismatch": 1, "given_up": 1}


def test_while_items_have_no_end_the_report_has_none(site: Site) -> None:
    def fill(history: History) -> None:
        history.item(b"a", "restored")
        history.item(b"b", "batched")
        history.batch(["V1"], 3)

    report = report_of(site, fill, plan=None)
    assert report["verdict"] == "failed"
    assert report["counts"]["unfinished"] == 1
    assert report["request"]["finished_at"] is None
    assert report["throughput"]["objects_per_second"] is None
    nothing = {"estimated_seconds": None, "p95_seconds": None, "actual_seconds": None}
    assert report["estimate"].pop("plan") == nothing | {"actual_seconds": 3.0}
    assert all(row == nothing for row in report["estimate"].values())


def test_what_was_measured_is_kept_with_the_plan(site: Site) -> None:
    request_id = written(site, a_bit_of_everything)
    write_report(site, request_id)
    with site.catalog.read() as connection:
        plan = dict(request(connection, request_id).plan or {})
    assert plan == {**PLAN, "measured": build_report(site, request_id)["estimate"]}


def test_the_end_that_the_catalog_has_counts(site: Site) -> None:
    report = report_of(site, lambda history: None, finished_at=at(500))
    assert report["verdict"] == "not_checked"
    assert report["estimate"]["total"]["actual_seconds"] == 500.0


def test_writing_notes_verdict_and_path_and_may_run_twice(site: Site) -> None:
    request_id = written(site, a_bit_of_everything)
    paths = write_report(site, request_id)
    assert paths.json == site.config.restore.reports / f"restore-{request_id}.json"
    first = paths.json.read_bytes(), paths.html.read_bytes()
    assert json.loads(first[0]) == build_report(site, request_id)
    assert write_report(site, request_id) == paths
    assert (paths.json.read_bytes(), paths.html.read_bytes()) == first
    assert sorted(paths.json.parent.iterdir()) == sorted([paths.json, paths.html])
    with site.catalog.read() as connection:
        noted = request(connection, request_id)
    assert (noted.verdict, noted.report) == ("partial", str(paths.html))


def test_a_crash_before_the_second_file_leaves_whole_files_and_no_note(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_id = written(site, a_bit_of_everything)
    replace = Path.replace

    def torn(self: Path, target: Path) -> Path:
        if target.suffix == ".html":
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", torn)
    with pytest.raises(KeyboardInterrupt):
        write_report(site, request_id)
    monkeypatch.undo()
    folder = site.config.restore.reports
    assert [path.name for path in folder.iterdir()] == [f"restore-{request_id}.json"]
    with site.catalog.read() as connection:
        assert request(connection, request_id).verdict is None
    assert write_report(site, request_id).html.exists()


def test_a_surrogate_from_the_catalog_does_not_stop_the_report(site: Site) -> None:
    paths = write_report(site, written(site, lambda history: None, source={"prefix": "\udcff<q>"}))
    assert json.loads(paths.json.read_text("utf-8"))["request"]["source"] == {"prefix": "\udcff<q>"}
    assert "<q>" not in paths.html.read_text("utf-8")


def test_a_folder_that_takes_no_files_is_named(site: Site) -> None:
    site.config.restore.reports.write_text("a file where the folder should be")
    with pytest.raises(ConfigError, match="reports"):
        write_report(site, written(site, lambda history: None))


def test_a_request_that_is_not_there_is_refused(site: Site) -> None:
    with pytest.raises(Refused, match="no restore request 7"):
        build_report(site, 7)
