"""How long each stage of a restore took, in the terms in which its forecast is made."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from restore_lib.catalog.dwelling import dwells
from restore_lib.catalog.reporting import BatchRow, ShipmentRow, VolumeMarks
from restore_lib.catalog.requests import Request
from restore_lib.model.states import BatchState
from restore_lib.model.volume import Custody, Reason
from restore_lib.restore.spans import Stage

TOTAL = "total"
Span = tuple[datetime, datetime]
Spans = Mapping[str, Sequence[Span]]


def spans_of(
    connection: Connection,
    request: Request,
    batches: Sequence[BatchRow],
    shipments: Sequence[ShipmentRow],
    marks: VolumeMarks,
    ended_at: datetime | None,
) -> Spans:
    """Return when which stage of a request went on, and the total where it has ended.

    Planning goes up to the first recall or read, so with the time in which the plan waited for a
    person; publishing goes from the end of the first batch to that of the last, since objects are
    verified and published while they are read.
    """
    created = request.created_at
    began = [row.created_at for row in shipments]
    began += [row.started_at for row in batches if row.started_at is not None]
    ends = [row.ended_at for row in batches if row.ended_at and row.state is BatchState.DONE]
    stays = list(
        dwells(
            connection,
            marks.recalled | marks.unexpected,
            [Custody.ONSITERETRIEVE, Custody.ACCLIMATING],
            created,
            ended_at,
        )
    )
    return {
        Stage.PLAN: [(created, min(began))] if began else [],
        Stage.RECALL: _trips(shipments, redundancy=False),
        Stage.ACCLIMATION: [stay[1:] for stay in stays if stay[0] is Custody.ACCLIMATING],
        Stage.IMPORT: [stay[1:] for stay in stays if stay[0] is Custody.ONSITERETRIEVE],
        Stage.READ: reads(batch for batch in batches if not _rebuilds(batch)),
        Stage.REDUNDANCY: [
            *_trips(shipments, redundancy=True),
            *reads(batch for batch in batches if _rebuilds(batch)),
        ],
        Stage.PUBLISH: [(min(ends), max(ends))] if ends else [],
        TOTAL: [] if ended_at is None else [(created, ended_at)],
    }


def compared(plan: Mapping[str, Any] | None, spans: Spans) -> dict[str, dict[str, float | None]]:
    """Return what was estimated for each stage and for the total beside what it took, in seconds.

    ``estimated_seconds`` is what half of such restores take, ``p95_seconds`` what 95 of 100 do;
    None where nothing was estimated. ``actual_seconds`` is None where nothing went on.
    """
    planned = (plan or {}).get("estimate") or {}
    stages = {**planned.get("stages", {}), TOTAL: planned}
    return {
        stage: {
            "estimated_seconds": stages.get(stage, {}).get("seconds"),
            "p95_seconds": stages.get(stage, {}).get("p95_seconds"),
            "actual_seconds": covered(went_on) if went_on else None,
        }
        for stage, went_on in spans.items()
    }


def reads(batches: Iterable[BatchRow]) -> list[Span]:
    """Return when batches ran, those that have ended."""
    return [
        (batch.started_at, batch.ended_at)
        for batch in batches
        if batch.started_at is not None and batch.ended_at is not None
    ]


def covered(spans: Iterable[Span]) -> float:
    """Return the seconds in which at least one of ``spans`` went on."""
    seconds = 0.0
    reached: datetime | None = None
    for start, end in sorted(spans):
        begin = start if reached is None else max(start, reached)
        seconds += max((end - begin).total_seconds(), 0.0)
        reached = end if reached is None else max(end, reached)
    return seconds


def _trips(shipments: Iterable[ShipmentRow], *, redundancy: bool) -> list[Span]:
    return [
        (row.created_at, row.arrived_at)
        for row in shipments
        if row.arrived_at is not None and (row.reason is Reason.REDUNDANCY) is redundancy
    ]


def _rebuilds(batch: BatchRow) -> bool:
    return batch.barcode is not None and batch.barcode not in batch.volumes
