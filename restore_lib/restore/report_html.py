"""The report of a restore as one HTML page that needs nothing else: no script, no other file.

It is written for a person at three in the morning: what the verdict means comes first, then the
figures, then each object and each volume that needs a look.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from restore_lib.model.verdict import Verdict
from restore_lib.restore.report_markup import (
    UNKNOWN,
    Markup,
    duration,
    joined,
    moment,
    number,
    size,
    tag,
)
from restore_lib.restore.report_style import STYLE
from restore_lib.restore.report_timeline import timeline

SHOWN = 200
"""How many rows of a list the page shows; the JSON has all."""
_SOURCE_LETTERS = 300
_Rows = Sequence[Mapping[str, Any]]
_Columns = Sequence[tuple[str, Callable[[Mapping[str, Any]], object]]]
_More = Callable[[int, str], Markup | None]

_HEADLINES = {
    Verdict.PASSED: "Passed",
    Verdict.PARTIAL: "Partly restored",
    Verdict.FAILED: "Failed",
    Verdict.NOT_CHECKED: "Not checked",
}
_NEXT_STEPS = {
    Verdict.PASSED: "Nothing is left to do.",
    Verdict.PARTIAL: "Look at the objects by name: another restore of them ends the same "
    "unless volumes turn up or the overwrite policy changes.",
    Verdict.FAILED: "Look at the errors below. A new restore of the same objects leaves alone "
    "those that are back, and tries the others again.",
    Verdict.NOT_CHECKED: "Look at what was asked for, and at the objects by name.",
}
_FATES = {
    "verified": "restored and verified",
    "unverified": "restored, no digest to verify by",
    "kept": "kept as found at the target",
    "unrestorable": "not restorable",
    "failed": "failed",
    "unfinished": "no end so far",
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
        _estimate(report),
        _waves(report["waves"], more),
        _recalls(report["shipments"], more),
        _volumes(report, more),
        _failed_batches(report["batches"], more),
        _request(report),
        _names(report["names"], more),
        tag("footer", "All lists are whole in ", tag("code", json_name), ", beside this page."),
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="color-scheme" content="light dark">\n'
        f"{tag('title', title)}\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _banner(report: Mapping[str, Any]) -> Markup:
    asked, verdict = report["request"], Verdict(report["verdict"])
    where = asked["store"]
    if asked["target"] != where:
        where = f"{where} to {asked['target']}"
    named = any(report["names"].values())
    link = tag("a", "Go to the objects by name.", href="#names") if named else None
    return tag(
        "header",
        tag("p", f"Restore {asked['id']} of {where}", class_="over"),
        tag("h1", _HEADLINES[verdict]),
        tag("p", report["summary"], class_="summary"),
        tag("p", f"{_NEXT_STEPS[verdict]} ", link),
        class_=f"banner {verdict}",
    )


def _figures(report: Mapping[str, Any]) -> Markup | None:
    counts = report["counts"]
    tiles = [
        _tile("asked for", number(counts["asked"])),
        _tile("restored and verified", number(counts["verified"])),
        _tile("not restorable", number(counts["unrestorable"]), alarm=counts["unrestorable"] > 0),
        _tile("failed", number(counts["failed"]), alarm=counts["failed"] > 0),
        _tile("brought back", size(report["bytes"])),
        _tile("took", duration(report["estimate"]["total"]["actual_seconds"])),
    ]
    return _section(
        "Objects",
        tag("div", *tiles, class_="tiles"),
        _proportions(counts),
        tag(
            "div",
            _counts("What the backups hold", _ORIGINS, counts),
            _counts("What became of them", _FATES, counts),
            _counts("How some came back", _WAYS, counts),
            class_="columns",
        ),
    )


def _tile(label: str, figure: str, *, alarm: bool = False) -> Markup:
    return tag(
        "div", tag("b", figure), tag("span", label), class_="tile alarm" if alarm else "tile"
    )


def _proportions(counts: Mapping[str, int]) -> Markup | None:
    """Return one bar of what became of the objects, in proportion."""
    if not counts["asked"]:
        return None
    parts = [
        tag(
            "span",
            class_=name,
            title=f"{number(counts[name])} {text}",
            style=f"flex-grow:{counts[name]}",
        )
        for name, text in _FATES.items()
        if counts[name]
    ]
    return tag("div", *parts, class_="share")


def _counts(title: str, labels: Mapping[str, str], counts: Mapping[str, int]) -> Markup:
    rows = [
        tag(
            "tr",
            tag("th", tag("i", class_=name) if name in _FATES else None, text),
            tag("td", number(counts[name])),
        )
        for name, text in labels.items()
    ]
    return tag("table", tag("caption", title), tag("tbody", *rows), class_="counts")


def _names(names: Mapping[str, _Rows], more: _More) -> Markup | None:
    lost = [row for row in names["unrestorable"] if row["class"] != "never_backed_up"]
    never = [row for row in names["never_backed_up"] if row["state"] != "restored"]
    why = (("Object", _name), ("Why", _why))
    fate = (("Object", _name), ("What became of it", lambda row: row["state"]))
    lists = [
        _listing("Failed", names["failed"], why, more, "names.failed"),
        _listing("Backed up, but not restorable", lost, why, more, "names.unrestorable"),
        _listing("Never backed up, and not restored", never, fate, more, "names.never_backed_up"),
        _listing("Kept at the target", names["kept"], why, more, "names.kept"),
        _listing(
            "Restored with no digest to verify by",
            names["unverified"],
            why[:1],
            more,
            "names.unverified",
        ),
        _listing(
            "On tape in an older version than was lost",
            names["changed_after_backup"],
            fate,
            more,
            "names.changed_after_backup",
        ),
    ]
    return _section("Objects by name", *lists, name="names")


def _name(row: Mapping[str, Any]) -> Markup:
    exact = None
    if "key_b64" in row:
        hint = f"not the name byte for byte: its base64 is {row['key_b64']}"
        exact = tag("small", "shown with escapes", title=hint)
    return joined(tag("code", row["key"]), exact)


def _why(row: Mapping[str, Any]) -> Markup:
    return _free(": ".join(text for text in (row.get("code"), row["error"]) if text))


def _failed_batches(batches: _Rows, more: _More) -> Markup | None:
    failed = [row for row in batches if row["state"] == "failed"]
    columns = (
        ("Batch", lambda row: row["id"]),
        ("Volumes", lambda row: _free(", ".join(row["volumes"]))),
        ("Attempts", lambda row: row["attempts"]),
        ("Ended", lambda row: _when(row["ended_at"])),
        ("Error", lambda row: _free(row["error"])),
    )
    note = "Their objects went into later batches, over other volumes where there was need."
    return _section(
        "Batches that failed",
        tag("p", note, class_="quiet") if failed else None,
        _listing("", failed, columns, more, "batches"),
    )


def _volumes(report: Mapping[str, Any], more: _More) -> Markup | None:
    reads: dict[str, int] = {}
    for batch in report["batches"]:
        for barcode in batch["volumes"] if batch["started_at"] else ():
            reads[barcode] = reads.get(barcode, 0) + 1
    marked: dict[str, list[str]] = {barcode: [] for barcode in reads}
    for name in _MARKS:
        for barcode in report["volumes"][name]:
            marked.setdefault(barcode, []).append(name)
    calm = [barcode for barcode, marks in marked.items() if not set(marks) - {"recalled"}]
    rows = [
        {"barcode": barcode, "marks": marked[barcode], "reads": reads.get(barcode, 0)}
        for barcode in (*sorted(marked.keys() - calm), *sorted(calm))
    ]
    columns = (
        ("Volume", lambda row: tag("code", row["barcode"])),
        ("What happened to it", lambda row: joined(*map(_mark, row["marks"]))),
        ("Batches that read it", lambda row: number(row["reads"])),
    )
    said = ", ".join(
        f"{number(len(report['volumes'][name]))} {text}" for name, text in _MARKS.items()
    )
    return _section(
        "Volumes",
        tag("p", f"{said}, {number(len(reads))} read.", class_="quiet"),
        _listing("", rows, columns, more, "volumes"),
    )


def _mark(name: str) -> Markup:
    return tag("span", _MARKS[name], class_="mark" if name == "recalled" else "mark alarm")


def _estimate(report: Mapping[str, Any]) -> Markup | None:
    stages = [{"stage": stage, **row} for stage, row in report["estimate"].items()]
    columns = (
        ("Stage", lambda row: row["stage"]),
        ("Estimate", lambda row: duration(row["estimated_seconds"])),
        ("95 of 100 within", lambda row: duration(row["p95_seconds"])),
        ("Actual", lambda row: duration(row["actual_seconds"])),
        ("Actual against estimate", _ratio),
    )
    speed = report["throughput"]
    rate = speed["objects_per_second"]
    said = (
        "No batch has ended, so there is no throughput."
        if rate is None
        else f"{number(rate)} objects and {size(speed['bytes_per_second'])} a second over the "
        f"{duration(speed['seconds'])} in which batches ran."
    )
    return _section("Estimate and actual", _table(columns, stages), tag("p", said, class_="quiet"))


def _ratio(row: Mapping[str, Any]) -> str:
    planned, actual = row["estimated_seconds"], row["actual_seconds"]
    return UNKNOWN if not planned or actual is None else f"{actual / planned:.0%}"


def _waves(waves: _Rows, more: _More) -> Markup | None:
    columns = (
        ("Wave", lambda row: row["number"]),
        ("State", lambda row: row["state"]),
        ("Opened", lambda row: _when(row["opened_at"])),
        ("Settled", lambda row: _when(row["settled_at"])),
        ("Batches", lambda row: number(row["batches"])),
        ("Objects planned", lambda row: number(row["objects"])),
        ("Restored", lambda row: number(row["restored"])),
        ("Planned size", lambda row: size(row["bytes"])),
        ("Run by", lambda row: _free(row["runner"])),
    )
    return _section("Waves", _listing("", waves, columns, more, "waves"))


def _recalls(shipments: _Rows, more: _More) -> Markup | None:
    columns = (
        ("Shipment", lambda row: row["id"]),
        ("From", lambda row: row["vault"]),
        ("State", lambda row: row["state"]),
        ("Asked for", lambda row: _when(row["created_at"])),
        ("Arrived", lambda row: _when(row["arrived_at"])),
        ("Volumes", lambda row: number(row["volumes"])),
        ("Left out", lambda row: number(row["omitted"])),
        ("Asks again for", lambda row: "" if row["follows"] is None else row["follows"]),
    )
    return _section("Recalls", _listing("", shipments, columns, more, "shipments"))


def _request(report: Mapping[str, Any]) -> Markup | None:
    asked = report["request"]
    source = json.dumps(asked["source"], ensure_ascii=False)
    if len(source) > _SOURCE_LETTERS:
        source = source[:_SOURCE_LETTERS] + " …"
    rows = {
        "Store": asked["store"],
        "Target": asked["target"],
        "What": source,
        "Overwrite": asked["overwrite"],
        "Asked for by": asked["actor"],
        "Reason": asked["reason"],
        "Asked for at": f"{moment(asked['created_at'])} UTC",
        "Finished at": moment(asked["finished_at"]) + (" UTC" if asked["finished_at"] else ""),
    }
    body = [tag("tr", tag("th", label), tag("td", value)) for label, value in rows.items()]
    return _section("Request", tag("table", tag("tbody", *body), class_="facts"))


def _section(title: str, *children: Markup | None, name: str | None = None) -> Markup | None:
    """Return a section, that links find by its ``name``; None when it would be empty."""
    if not any(children):
        return None
    return tag("section", tag("h2", title), *children, id=name)


def _listing(title: str, rows: _Rows, columns: _Columns, more: _More, where: str) -> Markup | None:
    """Return the first rows of a list under its title and count, None when it is empty."""
    if not rows:
        return None
    heading = tag("h3", f"{title} ", tag("small", number(len(rows)))) if title else None
    return joined(heading, _table(columns, rows[:SHOWN]), more(len(rows), where))


def _more(json_name: str, found: int, where: str) -> Markup | None:
    """Return where the rest of a list is, None when the page has it all."""
    if found <= SHOWN:
        return None
    text = f"These are the first {number(SHOWN)} of {number(found)}; all are in "
    return tag(
        "p", text, tag("code", json_name), ", under ", tag("code", where), ".", class_="quiet"
    )


def _when(instant: str | None) -> Markup:
    return tag("span", moment(instant), class_="when")


def _free(text: str | None) -> Markup:
    """Return text that may be broken anywhere: it can hold names without a space."""
    return tag("span", text, class_="free")


def _table(columns: _Columns, rows: Iterable[Mapping[str, Any]]) -> Markup:
    head = tag("tr", *(tag("th", label, scope="col") for label, _ in columns))
    body = [tag("tr", *(tag("td", cell(row)) for _, cell in columns)) for row in rows]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="wide")
