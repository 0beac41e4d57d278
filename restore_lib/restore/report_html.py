"""The report of a restore as one HTML page that needs nothing else: no script, no other file.

It is written for a person at three in the morning: what the verdict means comes first, then the
figures, then each object and each volume that needs a look.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

from restore_lib.model.verdict import Verdict
from restore_lib.restore.report_markup import (
    Markup,
    count,
    duration,
    escaped,
    joined,
    moment,
    number,
    parsed,
    size,
    tag,
)
from restore_lib.restore.report_style import STYLE
from restore_lib.restore.report_timeline import timeline

SHOWN = 200
"""How many rows of a list the page shows; the JSON has all."""
_SOURCE_LETTERS = 300

_HEADLINES = {
    Verdict.PASSED: "Passed",
    Verdict.PARTIAL: "Partly restored",
    Verdict.FAILED: "Failed",
    Verdict.NOT_CHECKED: "Not checked",
}
_NEXT_STEPS = {
    Verdict.PASSED: "Nothing is left to do.",
    Verdict.PARTIAL: "Look at the objects named below: another restore of them ends the same "
    "unless volumes turn up or the overwrite policy changes.",
    Verdict.FAILED: "Look at the errors below. A new restore of the same objects leaves alone "
    "those that are back, and tries the others again.",
    Verdict.NOT_CHECKED: "Look at what was asked for, and at the objects named below.",
}
_ENDS = ("verified", "unverified", "kept", "unrestorable", "failed", "unfinished")
_FATES = {
    "verified": "restored and verified",
    "unverified": "restored, no digest to verify by",
    "kept": "kept as they stood at the target",
    "unrestorable": "can't be restored",
    "failed": "failed",
    "unfinished": "no end yet",
}
_ORIGINS = {
    "on_tape": "on tape as they were lost",
    "changed_after_backup": "on tape in an older version",
    "never_backed_up": "never backed up",
}
_WAYS = {
    "rebuilt_from_parity": "rebuilt from parity",
    "from_alternates": "copied from alternate stores",
    "present": "stood at the target already",
}
_MARKS = {
    "recalled": "asked for",
    "omitted": "left out of a shipment",
    "bad": "suspect or broken",
    "missing": "missing",
    "lost": "lost",
    "unexpected": "came unasked",
}


def render(report: Mapping[str, Any], json_name: str) -> str:
    """Return the page of a report; ``json_name`` is the file that holds all of its lists."""
    title = f"Restore {report['request']['id']}: {_HEADLINES[Verdict(report['verdict'])]}"
    more = partial(_more, json_name)
    body = tag(
        "main",
        _banner(report),
        _figures(report),
        _section("Timeline", timeline(report)),
        _names(report["names"], more),
        _failed_batches(report["batches"], more),
        _volumes(report, more),
        _estimate(report),
        _waves(report["waves"], more),
        _recalls(report["shipments"], more),
        _request(report),
        tag("footer", "All lists are whole in ", tag("code", json_name), ", beside this page."),
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="color-scheme" content="light dark">\n'
        f"{tag('title', title)}\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _banner(report: Mapping[str, Any]) -> Markup:
    asked, verdict = report["request"], Verdict(report["verdict"])
    where = asked["store"]
    if asked["target"] != where:
        where = f"{where} to {asked['target']}"
    return tag(
        "header",
        tag("p", f"Restore {asked['id']} of {where}", class_="over"),
        tag("h1", _HEADLINES[verdict]),
        tag("p", report["summary"], class_="summary"),
        tag("p", _NEXT_STEPS[verdict]),
        class_=f"banner {verdict}",
    )


def _figures(report: Mapping[str, Any]) -> Markup:
    counts = report["counts"]
    tiles = [
        _tile("asked for", number(counts["asked"])),
        _tile("restored and verified", number(counts["verified"])),
        _tile("can't be restored", number(counts["unrestorable"]), bool(counts["unrestorable"])),
        _tile("failed", number(counts["failed"]), bool(counts["failed"])),
        _tile("brought back", size(report["bytes"])),
        _tile("took", duration(report["estimate"]["total"]["actual_seconds"])),
    ]
    return _section(
        "Objects",
        tag("div", *tiles, class_="tiles"),
        _proportions(counts),
        tag(
            "div",
            _counts("What the backups hold", _ORIGINS, counts, _ORIGINS),
            _counts("What became of them", _FATES, counts, ("verified",)),
            _counts("How they came back", _WAYS, counts, _WAYS),
            class_="columns",
        ),
    )


def _tile(label: str, figure: str, alarm: bool = False) -> Markup:  # noqa: FBT001, FBT002 - TODO
    return tag(
        "div", tag("b", figure), tag("span", label), class_="tile alarm" if alarm else "tile"
    )
