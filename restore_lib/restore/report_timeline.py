"""The timeline of a restore: its recalls, waves and batches over time.

Batches are drawn one by one, in a row for each volume or, with many volumes, for each that ran at
the same time. Where even that is too much to read, they are counted over time instead.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any

from restore_lib.restore.report_chart import WORK, Bar, Chart, Lane, Scale, packed
from restore_lib.restore.report_markup import (
    Markup,
    count,
    duration,
    joined,
    moment,
    parsed,
    size,
    tag,
)

_MOST_LANES = 24
_MOST_BARS = 400
_BAD = "failed"
_ALTERNATES = "alternate stores"
_LEGEND = {
    WORK: "at work at the same time",
    "read": "read of one volume",
    "gather": "gathered from several volumes or rebuilt from parity",
    "alternate": "copied from alternate stores",
    _BAD: "failed or cancelled: later batches took its objects",
    "wave": "wave",
    "recall": "recall, from the request to the arrival",
}


def timeline(report: Mapping[str, Any]) -> Markup:
    """Return the chart of a report, or a sentence where nothing has begun."""
    end = _last_moment(report)
    if end is None:
        return tag("p", "Nothing has begun.", class_="quiet")
    groups = {
        "Recalls": [_recall(row, end) for row in report["shipments"]],
        "Waves": [_wave(row, end) for row in report["waves"]],
        "Batches": [_batch(row, end) for row in _begun(report)],
    }
    if not any(groups.values()):
        return tag("p", "Nothing has begun.", class_="quiet")
    scale = Scale.of(chain.from_iterable(groups.values()))
    chart = Chart(scale, "Recalls, waves and batches over time")
    looks: set[str] = set()
    for name, group in groups.items():
        lanes = packed(group)
        if name == "Batches":
            lanes = _lanes_by_volume(_begun(report), group) or lanes
        if len(lanes) > _MOST_LANES or len(group) > _MOST_BARS:
            chart.histogram(name, group, _BAD)
            looks |= {WORK} | {bar.look for bar in group if bar.look == _BAD}
        elif lanes:
            chart.lanes(name, lanes)
            looks |= {bar.look for bar in group}
    caption = f"{scale.start:%Y-%m-%d %H:%M:%S} to {scale.end:%Y-%m-%d %H:%M:%S}, times in UTC."
    return joined(
        tag("div", chart.drawn(), class_="chart"),
        _legend(looks),
        tag("p", caption, class_="quiet"),
    )


def _last_moment(report: Mapping[str, Any]) -> datetime | None:
    """Return the last time that the chart shows; None when nothing has begun."""
    rows = [*report["shipments"], *report["waves"], *report["batches"]]
    times = ("created_at", "arrived_at", "opened_at", "settled_at", "started_at", "ended_at")
    found = [parsed(row[name]) for row in rows for name in times if row.get(name)]
    return max((at for at in found if at is not None), default=None)


def _begun(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row for row in report["batches"] if row["started_at"]]


def _recall(row: Mapping[str, Any], end: datetime) -> Bar:
    title = (
        f"Recall {row['id']} from {row['vault']}: {row['state']}, {count(row['volumes'], 'volume')}"
        f", {row['omitted']} left out, asked for {moment(row['created_at'])}, "
        f"arrived {moment(row['arrived_at'])}"
    )
    arrived = parsed(row["arrived_at"])
    started = parsed(row["created_at"]) or end
    return Bar(started, arrived or end, "recall", title, arrives=arrived is not None)


def _wave(row: Mapping[str, Any], end: datetime) -> Bar:
    started, ended = parsed(row["opened_at"]) or end, parsed(row["settled_at"]) or end
    title = (
        f"Wave {row['number']}: {row['state']}, {count(row['batches'], 'batch')}, "
        f"{row['restored']} of {count(row['objects'], 'object')} restored, {_took(started, ended)}"
    )
    return Bar(started, ended, "wave", title, str(row["number"]))


def _batch(row: Mapping[str, Any], end: datetime) -> Bar:
    started, ended = parsed(row["started_at"]) or end, parsed(row["ended_at"]) or end
    title = (
        f"Batch {row['id']}: {row['kind']}, {row['state']}, "
        f"{', '.join(row['volumes']) or _ALTERNATES}, {row['restored']} of "
        f"{count(row['objects'], 'object')} restored, {size(row['bytes'])}, "
        f"{_took(started, ended)}{': ' if row['error'] else ''}{row['error'] or ''}"
    )
    bad = row["state"] in {"failed", "cancelled"}
    return Bar(started, ended, _BAD if bad else row["kind"], title)


def _took(started: datetime, ended: datetime) -> str:
    return duration((ended - started).total_seconds())


def _lanes_by_volume(rows: Sequence[Mapping[str, Any]], bars: Sequence[Bar]) -> list[Lane]:
    """Return a lane for each volume that batches read, none when these are too many."""
    held: dict[str, list[Bar]] = {}
    for row, bar in zip(rows, bars, strict=True):
        for barcode in row["volumes"] or [_ALTERNATES]:
            held.setdefault(barcode, []).append(bar)
    if len(held) > _MOST_LANES:
        return []
    return [Lane(barcode, held[barcode]) for barcode in sorted(held)]


def _legend(looks: set[str]) -> Markup:
    entries = [
        tag("li", tag("i", class_=look), text) for look, text in _LEGEND.items() if look in looks
    ]
    return tag("ul", *entries, class_="legend")
