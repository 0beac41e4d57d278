"""The page of a report: whole, harmless whatever is in it, and readable at any size."""

from collections.abc import Mapping
from typing import Any

import pytest

from restore_lib.model.verdict import Verdict
from restore_lib.restore.report_html import SHOWN, render
from tests.support.reports import Page, batch, report, shipment, wave

_LOADERS = {"src", "href", "srcset", "data", "action", "xlink:href", "background", "poster"}
ATTACK = "<script>alert('1')</script>\"><img src=x onerror=y>&amp;\x00\x1b[31m\u202e"


def rendered(**changes: Any) -> Page:
    return Page(render(report(**changes), "restore-12.json"))


@pytest.mark.parametrize("verdict", list(Verdict))
def test_the_banner_says_the_verdict_and_what_it_means(verdict: Verdict) -> None:
    page = rendered(verdict=str(verdict), summary="What it means.")
    assert len(page.all("header", f"banner {verdict}")) == 1
    assert "What it means." in page.text("p")
    assert page.text("h1") in page.text("title")


def test_the_page_needs_nothing_else() -> None:
    page = rendered(
        batches=[batch(1)],
        waves=[wave()],
        shipments=[shipment()],
        names=report()["names"] | {"kept": [{"key": "a", "error": ""}]},
    )
    names = {tag for tag, _ in page.elements}
    assert names.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "image", "use"})
    loaded = {
        value for _, attrs in page.elements for name, value in attrs.items() if name in _LOADERS
    }
    assert loaded == {"#names"}
    assert [attrs for attrs in page.all("section") if attrs.get("id") == "names"]
    policy = next(a for a in page.all("meta") if a.get("http-equiv"))["content"] or ""
    assert policy.startswith("default-src 'none'")
    style = page.text("style")
    assert "url(" not in style
    assert "@import" not in style


def attacked(value: Any) -> Any:
    """Return a report in which every text that is not part of the schema is an attack."""
    fixed = {"verdict", "created_at", "finished_at", "started_at", "ended_at", "opened_at"}
    fixed |= {"settled_at", "arrived_at", "class"}
    if isinstance(value, Mapping):
        return {name: inner if name in fixed else attacked(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [attacked(inner) for inner in value]
    return ATTACK if isinstance(value, str) else value


def test_whatever_is_in_a_report_shows_as_text() -> None:
    everything = report(
        batches=[batch(1, state="failed", error="torn"), batch(2)],
        waves=[wave()],
        shipments=[shipment()],
        volumes={name: ["V1"] for name in report()["volumes"]},
        names={
            "never_backed_up": [{"key": "a", "state": "unrestorable"}],
            "changed_after_backup": [{"key": "b", "key_b64": "Yg==", "state": "restored"}],
            "unrestorable": [{"key": "c", "class": "on_tape", "code": "x", "error": "y"}],
            "failed": [{"key": "d", "class": "on_tape", "code": "x", "error": "y"}],
            "kept": [{"key": "e", "error": "y"}],
            "unverified": [{"key": "f"}],
        },
    )
    clean = Page(render(everything, "restore-12.json"))
    text = render(attacked(everything), ATTACK)
    page = Page(text)
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in clean.elements}
    assert {name for _, attrs in page.elements for name in attrs} == {
        name for _, attrs in clean.elements for name in attrs
    }
    assert page.text("code").count("<script>alert('1')</script>") >= 6
    assert page.text("span").count("<img src=x onerror=y>&amp;\\x00\\x1b[31m\\u202e") >= 4
    assert all(c.isprintable() or c == "\n" for c in text)


def test_long_lists_are_cut_and_say_where_the_rest_is() -> None:
    rows = [
        {"key": f"k{n:04}", "class": "on_tape", "code": "medium_error", "error": "torn"}
        for n in range(SHOWN + 34)
    ]
    page = rendered(verdict="failed", names=report()["names"] | {"failed": rows})
    assert f"k{SHOWN - 1:04}" in page.text("code")
    assert f"k{SHOWN:04}" not in page.text("code")
    assert "first 200 of 234" in page.text("p")
    assert "names.failed" in page.text("code")
    assert "restore-12.json" in page.text("code")


def test_a_list_that_fits_is_whole_and_says_nothing_of_a_rest() -> None:
    rows = [{"key": f"k{n:04}", "error": "stands"} for n in range(SHOWN)]
    page = rendered(names=report()["names"] | {"kept": rows})
    assert f"k{SHOWN - 1:04}" in page.text("code")
    assert "names.kept" not in page.text("code")


def test_never_backed_up_objects_are_named_once_and_only_if_they_are_not_back() -> None:
    names = report()["names"] | {
        "never_backed_up": [
            {"key": "back-from-alternate", "state": "restored"},
            {"key": "never-seen", "state": "unrestorable"},
        ],
        "unrestorable": [
            {"key": "never-seen", "class": "never_backed_up", "code": "never", "error": ""},
            {"key": "too-much-lost", "class": "on_tape", "code": "too_many_losses", "error": ""},
        ],
    }
    page = rendered(verdict="partial", names=names)
    assert page.text("code").count("never-seen") == 1
    assert page.text("code").count("too-much-lost") == 1
    assert "back-from-alternate" not in page.text("code")


def test_a_name_that_is_shown_with_escapes_says_so() -> None:
    names = report()["names"] | {"unverified": [{"key": "\\xff", "key_b64": "/w=="}, {"key": "b"}]}
    page = rendered(names=names)
    assert page.text("small").count("shown with escapes") == 1
    assert "/w==" in (page.all("small")[-1]["title"] or "")


def test_volumes_in_trouble_come_first() -> None:
    page = rendered(
        batches=[batch(1), batch(2)],
        volumes=report()["volumes"]
        | {"recalled": ["V1", "V2", "V3"], "omitted": ["V3"], "bad": ["V2"]},
    )
    codes = [text for tag, text in page.texts if tag == "code" and text.startswith("V")]
    assert codes == ["V2", "V3", "V1"]
    assert len(page.all("span", "mark alarm")) == 2


def test_estimate_and_actual_stand_side_by_side() -> None:
    page = rendered(
        estimate={
            "recall": {"estimated_seconds": 3600, "p95_seconds": 7200, "actual_seconds": 5400.0},
            "read": {"estimated_seconds": None, "p95_seconds": None, "actual_seconds": 59.4},
            "total": {
                "estimated_seconds": 90000.0,
                "p95_seconds": 172800.0,
                "actual_seconds": None,
            },
        },
        throughput={"seconds": 59.4, "objects_per_second": 12.25, "bytes_per_second": 2_500_000.0},
    )
    cells = page.text("td")
    assert "recall 1 h 2 h 1 h 30 min 150%" in cells
    assert "read — — 59 s —" in cells
    assert "total 1 d 1 h 2 d — —" in cells
    assert "12.2 objects and 2.5 MB a second over the 59 s in which batches ran." in page.text("p")


def test_the_same_report_gives_the_same_page() -> None:
    changes = {"batches": [batch(n) for n in range(50)], "waves": [wave()]}
    assert render(report(**changes), "r.json") == render(report(**changes), "r.json")
