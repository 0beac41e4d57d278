"""Report: what a restore came to, as JSON for programs and as one HTML page for people.

Everything comes from the catalog, so the same request gives the same report at any later time.
"""

import errno
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from restore_lib.catalog import reporting
from restore_lib.catalog.reporting import (
    BatchRow,
    NotableItem,
    ShipmentRow,
    Tally,
    VolumeMarks,
)
from restore_lib.catalog.requests import Request, note, request
from restore_lib.errors import ConfigError, DiskFull
from restore_lib.model.objects import key_fields
from restore_lib.model.states import ITEM_ENDS, ItemState, LossClass, Way
from restore_lib.model.verdict import Verdict
from restore_lib.restore.report_html import render
from restore_lib.restore.stages import compared, covered, reads, spans_of
from restore_lib.site import Site
from restore_lib.vault.courier import write_atomically

FORMAT = 1
GIVEN_UP = "given_up"
"""The code of a failed item that no single error ended: it was tried as often as is allowed."""
_ENDS = ("restored", "kept", "unrestorable", "failed")
_WAYS: Mapping[Way | None, str] = {
    Way.PRESENT: "present",
    Way.ALTERNATE: "from_alternates",
    Way.PARITY: "rebuilt_from_parity",
}
_COUNTS = ("asked", *LossClass, *_ENDS, "unfinished", "verified", "unverified", *_WAYS.values())


@dataclass(frozen=True, slots=True)
class ReportPaths:
    """Where the two forms of a report are."""

    json: Path
    html: Path


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the catalog says of one request, read in one transaction."""

    request: Request
    counts: Mapping[str, int]
    size: int
    moved: int
    batches: Sequence[BatchRow]
    shipments: Sequence[ShipmentRow]
    ended_at: datetime | None


def write_report(site: Site, request_id: int) -> ReportPaths:
    """Write the report of a request as JSON and HTML, and note its verdict and HTML path.

    What each stage took is noted with its plan, as ``measured``, beside what was estimated.

    Each file is replaced whole or not at all, the catalog is told last, and a second run writes the
    same again. Raises Refused when there is no such request, DiskFull or ConfigError when the
    folder ``[restore] reports`` takes no files.
    """
    report = build_report(site, request_id)
    folder = site.config.restore.reports.absolute()
    paths = ReportPaths(
        folder / f"restore-{request_id}.json", folder / f"restore-{request_id}.html"
    )
    page = render(report, paths.json.name)
    text = json.dumps(report, ensure_ascii=False, indent=1) + "\n"
    write_document(paths.json, text)
    write_document(paths.html, page)
    with site.catalog.write() as connection:
        plan = request(connection, request_id).plan
        note(
            connection,
            request_id,
            verdict=Verdict(report["verdict"]),
            report=str(paths.html),
            plan={**(plan or {}), "measured": report["estimate"]},
        )
    return paths


def write_document(path: Path, text: str) -> None:
    """Make ``text`` all of a file in ``[restore] reports``, whole or not at all.

    Raises DiskFull or ConfigError when the folder takes no files.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        what = f"The file {path} can't be written: {error.strerror}."
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFull(what) from error
        remedy = "set [restore] reports to a folder that this user can write to"
        raise ConfigError(what, remedy=remedy) from error


def build_report(site: Site, request_id: int) -> dict[str, Any]:
    """Return the report of a request as plain values for JSON; Refused when there is none.

    Times are RFC 3339 in UTC or null, durations are in seconds, sizes in bytes. Its keys:

    - ``format`` is 1; ``verdict`` as in ``Verdict``, ``summary`` says in a sentence what it means.
    - ``request``: what was asked for, by whom, when; ``finished_at`` is null while items lack ends.
    - ``counts`` of objects, see ``counts_of``; ``bytes`` brought back, of objects of known size.
    - ``errors``: objects by error code, of those that failed or that nothing can bring back.
    - ``volumes``: barcodes; ``bad`` are those that turned out suspect or broken meanwhile, the
      others as in ``VolumeMarks``. ``shipments``: the recalls.
    - ``waves`` and ``batches``, the timeline. A batch that failed gave its objects to later ones,
      so ``objects`` (planned) may count one twice; ``restored`` counts it once.
    - ``throughput`` over the ``seconds`` in which at least one batch ran; null when none did.
    - ``estimate``: by stage what half of such restores take (``estimated_seconds``), 95 of 100
      (``p95_seconds``), and this one (``actual_seconds``), each without the time in which nothing
      of the stage went on; ``total`` runs from the request to its end.
    - ``names``: lists in order of the keys, each as long as the count of its name;
      ``never_backed_up`` and ``changed_after_backup`` tell in ``state`` what became of an object.
      ``key`` is the name as people read it; where that is not the name itself, byte for byte,
      ``key_b64`` has it. ``unverified`` objects came from an alternate store with no digest known.
    """
    with site.catalog.read() as connection:
        asked = request(connection, request_id)
        tallies = reporting.tallies(connection, request_id)
        batches = reporting.batch_rows(connection, request_id)
        facts = _Facts(
            asked,
            counts_of(tallies),
            _total(tallies, size=True),
            _total(tallies, size=False),
            batches,
            reporting.shipment_rows(connection, request_id),
            asked.finished_at or _ended_at(connection, request_id, tallies),
        )
        waves = reporting.wave_rows(connection, request_id)
        marks = _marks(connection, facts)
        spans = spans_of(connection, asked, batches, facts.shipments, marks, facts.ended_at)
        names = _names(reporting.notable_items(connection, request_id))
    return {
        "format": FORMAT,
        "verdict": str(verdict_of(facts.counts)),
        "summary": summary_of(facts.counts),
        "request": _request(facts),
        "counts": dict(facts.counts),
        "bytes": facts.size,
        "errors": _errors(tallies),
        "volumes": _volumes(marks),
        "shipments": [_plain(row) for row in facts.shipments],
        "waves": [_plain(row) for row in waves],
        "batches": [_plain(row) for row in batches],
        "throughput": _throughput(facts),
        "estimate": compared(asked.plan, spans),
        "names": names,
    }


def counts_of(tallies: Iterable[Tally]) -> dict[str, int]:
    """Return the counts of a report.

    ``asked`` = ``on_tape`` + ``changed_after_backup`` + ``never_backed_up``, by what the backups
    hold, and = ``restored`` + ``kept`` + ``unrestorable`` + ``failed`` + ``unfinished``, by what
    became of it. ``restored`` = ``verified`` + ``unverified``; of these ``present`` stood at the
    target already, ``from_alternates`` and ``rebuilt_from_parity`` came that way.
    """
    counts = dict.fromkeys(map(str, _COUNTS), 0)
    for tally in tallies:
        names = ["asked", str(tally.loss_class)]
        names.append(str(tally.state) if tally.state in ITEM_ENDS else "unfinished")
        if tally.state is ItemState.RESTORED:
            names.append("verified" if tally.proven else "unverified")
            names += [_WAYS[tally.way]] if tally.way in _WAYS else []
        for name in names:
            counts[name] += tally.objects
    return counts


def verdict_of(counts: Mapping[str, int]) -> Verdict:
    """Return the verdict on a restore from its counts.

    FAILED when an object failed or has no end yet. NOT_CHECKED when nothing came back, or nothing
    that could be verified. PASSED when all that was asked for came back verified. PARTIAL when the
    rest is named: it can't be restored, was kept at the target, or had no digest to verify it by.
    """
    if counts["failed"] or counts["asked"] != sum(counts[name] for name in _ENDS):
        return Verdict.FAILED
    if not counts["verified"]:
        return Verdict.NOT_CHECKED
    return Verdict.PASSED if counts["verified"] == counts["asked"] else Verdict.PARTIAL


def summary_of(counts: Mapping[str, int]) -> str:
    """Return what the verdict means, in a sentence or two that hold on their own."""
    asked = _objects(counts["asked"])
    back = f"{counts['verified']:,} of {asked} came back verified"
    verdict = verdict_of(counts)
    if verdict is Verdict.PASSED:
        every = "The one object" if counts["asked"] == 1 else f"Each of the {asked}"
        return f"{every} asked for came back and was verified by its digest."
    rest = _rest(counts)
    if verdict is Verdict.PARTIAL:
        return f"{back}. The rest is named in this report: {rest}."
    if verdict is Verdict.FAILED:
        return f"The restore is not complete: {back}; {rest}."
    if not counts["asked"]:
        return "Nothing was asked for, so nothing was checked. This is not a success."
    return f"Nothing could be verified, so this is not a success. Of {asked} asked for: {rest}."


def _rest(counts: Mapping[str, int]) -> str:
    said = {
        "failed": "failed",
        "unfinished": "without an end so far",
        "unrestorable": "not restorable",
        "kept": "kept as found at the target",
        "unverified": "copied from an alternate store with no digest to verify by",
    }
    return ", ".join(f"{counts[name]:,} {text}" for name, text in said.items() if counts[name])


def _objects(number: int) -> str:
    return f"{number:,} object{'' if number == 1 else 's'}"


def _ended_at(connection: Connection, request_id: int, tallies: Iterable[Tally]) -> datetime | None:
    if any(tally.state not in ITEM_ENDS for tally in tallies):
        return None
    return reporting.last_end(connection, request_id)


def _total(tallies: Iterable[Tally], *, size: bool) -> int:
    """Return how many objects, or bytes, were brought back, without those that stood there."""
    return sum(
        tally.size if size else tally.objects
        for tally in tallies
        if tally.state is ItemState.RESTORED and tally.way is not Way.PRESENT
    )


def _request(facts: _Facts) -> dict[str, Any]:
    asked = facts.request
    return {
        "id": asked.id,
        "store": asked.store,
        "target": asked.target,
        "source": dict(asked.source),
        "incident_id": asked.incident_id,
        "recovery_point": asked.rp_id,
        "overwrite": str(asked.overwrite),
        "actor": asked.actor,
        "reason": str(asked.reason),
        "created_at": _instant(asked.created_at),
        "finished_at": _instant(facts.ended_at),
    }


def _errors(tallies: Iterable[Tally]) -> dict[str, int]:
    found: dict[str, int] = {}
    for tally in tallies:
        if tally.state in {ItemState.FAILED, ItemState.UNRESTORABLE}:
            code = _code(tally)
            found[code] = found.get(code, 0) + tally.objects
    return dict(sorted(found.items()))


def _code(item: Tally | NotableItem) -> str:
    """Return why an item did not come back; the catalog says so unless it was clear from start."""
    if item.error_code:
        return item.error_code
    never = item.loss_class is LossClass.NEVER_BACKED_UP and item.state is ItemState.UNRESTORABLE
    return str(LossClass.NEVER_BACKED_UP) if never else GIVEN_UP


def _marks(connection: Connection, facts: _Facts) -> VolumeMarks:
    read = {barcode for batch in facts.batches for barcode in batch.volumes}
    asked = facts.request
    return reporting.volume_marks(connection, asked.id, read, asked.created_at, facts.ended_at)


def _volumes(marks: VolumeMarks) -> dict[str, list[str]]:
    return {
        "recalled": sorted(marks.recalled),
        "omitted": sorted(marks.omitted),
        "bad": sorted(marks.suspect | marks.broken),
        "missing": sorted(marks.missing),
        "lost": sorted(marks.lost),
        "unexpected": sorted(marks.unexpected),
    }


def _names(found: Iterable[NotableItem]) -> dict[str, list[dict[str, str]]]:
    names: dict[str, list[dict[str, str]]] = {
        "never_backed_up": [],
        "changed_after_backup": [],
        "unrestorable": [],
        "failed": [],
        "kept": [],
        "unverified": [],
    }
    for item in found:
        key = key_fields(item.key)
        if item.loss_class is not LossClass.ON_TAPE:
            names[item.loss_class].append(key | {"state": str(item.state)})
        if item.state in {ItemState.FAILED, ItemState.UNRESTORABLE}:
            why = {"class": str(item.loss_class), "code": _code(item), "error": item.error or ""}
            names[item.state].append(key | why)
        elif item.state is ItemState.KEPT:
            names["kept"].append(key | {"error": item.error or ""})
        elif item.state is ItemState.RESTORED and not item.proven:
            names["unverified"].append(key)
    return names


def _throughput(facts: _Facts) -> dict[str, float | None]:
    seconds = covered(reads(facts.batches))
    return {
        "seconds": seconds,
        "objects_per_second": facts.moved / seconds if seconds else None,
        "bytes_per_second": facts.size / seconds if seconds else None,
    }


def _plain(row: Any) -> dict[str, Any]:
    """Return a row of the catalog as plain values; sizes are called bytes outside of Python."""
    plain: dict[str, Any] = {}
    for name in row.__slots__:
        value = getattr(row, name)
        if isinstance(value, datetime):
            value = _instant(value)
        elif isinstance(value, tuple):
            value = list(value)
        elif isinstance(value, str):
            value = str(value)
        plain["bytes" if name == "size" else name] = value
    return plain


def _instant(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
