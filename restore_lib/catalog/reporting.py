"""What a restore came to: a few set-based queries over one request, for its report.

All of them only read; run them on one connection of ``Catalog.read`` and they tell of one state.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, case, func, or_, select

from restore_lib.catalog.bulk import CHUNK, chunks
from restore_lib.catalog.tables import (
    batches,
    custody_events,
    items,
    shipment_lines,
    shipments,
    waves,
)
from restore_lib.model.shipment import Direction, LineState, ShipmentState
from restore_lib.model.states import BatchKind, BatchState, ItemState, LossClass, WaveState, Way
from restore_lib.model.volume import Flag, Health, Reason

_UNPROVEN = and_(items.c.way == Way.ALTERNATE, items.c.sha256.is_(None))


@dataclass(frozen=True, slots=True)
class Tally:
    """Items that fared alike; ``proven`` unless no digest was known to check the content against.

    ``size`` is the sum of their sizes in bytes as far as these are known.
    """

    state: ItemState
    way: Way | None
    loss_class: LossClass
    error_code: str | None
    proven: bool
    objects: int
    size: int


@dataclass(frozen=True, slots=True)
class WaveRow:
    """One wave; ``objects`` and ``size`` (bytes) were planned, ``restored`` of them came back."""

    number: int
    state: WaveState
    runner: str
    opened_at: datetime
    settled_at: datetime | None
    batches: int
    objects: int
    restored: int
    size: int


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One batch; ``objects``, ``size`` (bytes) and ``estimate`` (seconds) are as planned.

    ``wave`` is the wave's number, None while the batch waits for one. Where ``barcode`` is not
    among ``volumes``, these stand in for it.
    """

    id: int
    wave: int | None
    kind: BatchKind
    barcode: str | None
    volumes: tuple[str, ...]
    state: BatchState
    attempts: int
    started_at: datetime | None
    ended_at: datetime | None
    objects: int
    restored: int
    size: int
    estimate: float
    error: str | None


@dataclass(frozen=True, slots=True)
class ShipmentRow:
    """One recall; ``follows`` is the shipment whose omissions it asks for again."""

    id: int
    vault: str
    state: ShipmentState
    reason: Reason
    round: int
    follows: int | None
    created_at: datetime
    arrived_at: datetime | None
    volumes: int
    omitted: int


@dataclass(slots=True)
class VolumeMarks:
    """Barcodes by what happened to them during a request.

    ``recalled`` were asked for and ``omitted`` were left out at least once, also when they came
    later; ``unexpected`` came without being asked for; ``suspect`` and ``broken`` turned out so
    while the request ran. ``missing`` and ``lost`` were still so at its end.
    """

    recalled: set[str] = field(default_factory=set)
    omitted: set[str] = field(default_factory=set)
    unexpected: set[str] = field(default_factory=set)
    suspect: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class NotableItem:
    """An item that a report names; ``proven`` as in ``Tally``."""

    key: bytes
    state: ItemState
    way: Way | None
    loss_class: LossClass
    proven: bool
    error_code: str | None
    error: str | None


def tallies(connection: Connection, request_id: int) -> list[Tally]:
    """Return how many items of a request fared in which way."""
    proven = case((_UNPROVEN, 0), else_=1).label("proven")
    marked = (
        select(
            items.c.state,
            items.c.way,
            items.c.loss_class,
            items.c.error_code,
            proven,
            items.c.size,
        )
        .where(items.c.request_id == request_id)
        .subquery()
    )
    kinds = [column for column in marked.c if column is not marked.c.size]
    query = select(
        *kinds,
        func.count().label("objects"),
        func.coalesce(func.sum(marked.c.size), 0).label("bytes"),
    ).group_by(*kinds)
    return [
        Tally(
            ItemState(row.state),
            _way(row.way),
            LossClass(row.loss_class),
            row.error_code,
            bool(row.proven),
            row.objects,
            int(row.bytes),
        )
        for row in connection.execute(query)
    ]


def wave_rows(connection: Connection, request_id: int) -> list[WaveRow]:
    """Return the waves of a request in the order in which they were opened."""
    back = _restored_by_batch(request_id)
    query = (
        select(
            waves,
            func.count(batches.c.id).label("batches"),
            func.coalesce(func.sum(batches.c.objects), 0).label("objects"),
            func.coalesce(func.sum(back.c.restored), 0).label("restored"),
            func.coalesce(func.sum(batches.c.bytes), 0).label("bytes"),
        )
        .outerjoin(batches, batches.c.wave_id == waves.c.id)
        .outerjoin(back, back.c.batch_id == batches.c.id)
        .where(waves.c.request_id == request_id)
        .group_by(waves.c.id)
        .order_by(waves.c.number)
    )
    return [
        WaveRow(
            row.number,
            WaveState(row.state),
            row.runner,
            row.opened_at,
            row.settled_at,
            row.batches,
            int(row.objects),
            int(row.restored),
            int(row.bytes),
        )
        for row in connection.execute(query)
    ]


def batch_rows(connection: Connection, request_id: int) -> list[BatchRow]:
    """Return the batches of a request in the order in which they began, then those that did not."""
    back = _restored_by_batch(request_id)
    query = (
        select(batches, waves.c.number, func.coalesce(back.c.restored, 0).label("restored"))
        .outerjoin(waves, waves.c.id == batches.c.wave_id)
        .outerjoin(back, back.c.batch_id == batches.c.id)
        .where(batches.c.request_id == request_id)
        .order_by(batches.c.started_at.is_(None), batches.c.started_at, batches.c.id)
    )
    return [
        BatchRow(
            row.id,
            row.number,
            BatchKind(row.kind),
            row.barcode,
            tuple(row.volumes),
            BatchState(row.state),
            row.attempts,
            row.started_at,
            row.ended_at,
            row.objects,
            row.restored,
            row.bytes,
            row.estimate,
            row.error,
        )
        for row in connection.execute(query)
    ]


def shipment_rows(connection: Connection, request_id: int) -> list[ShipmentRow]:
    """Return the recalls that a request made, oldest first."""
    line = shipment_lines.c
    query = (
        select(
            shipments,
            func.count(case((line.state != LineState.EXTRA, 1))).label("volumes"),
            func.count(case((line.state == LineState.OMITTED, 1))).label("omitted"),
        )
        .outerjoin(shipment_lines, line.shipment_id == shipments.c.id)
        .where(_recalls_of(request_id))
        .group_by(shipments.c.id)
        .order_by(shipments.c.id)
    )
    return [
        ShipmentRow(
            row.id,
            row.vault,
            ShipmentState(row.state),
            Reason(row.reason),
            row.round,
            row.follows,
            row.created_at,
            row.arrived_at,
            row.volumes,
            row.omitted,
        )
        for row in connection.execute(query)
    ]


def volume_marks(
    connection: Connection,
    request_id: int,
    read: Iterable[str],
    since: datetime,
    until: datetime | None,
) -> VolumeMarks:
    """Return what happened to the volumes of a request's recalls and to those that it ``read``.

    Custody events count from ``since`` up to and with ``until``, None being now.
    """
    marks = VolumeMarks()
    line = shipment_lines.c
    query = (
        select(line.barcode, line.state, shipments.c.follows)
        .join(shipments, shipments.c.id == line.shipment_id)
        .where(_recalls_of(request_id))
    )
    for barcode, state, follows in connection.execute(query):
        if state == LineState.EXTRA:
            marks.unexpected.add(barcode)
            continue
        marks.recalled.add(barcode)
        if state == LineState.OMITTED or follows is not None:
            marks.omitted.add(barcode)
    concerned = marks.recalled | marks.unexpected | set(read)
    for barcode, kind, before, after in _events(connection, concerned, since, until):
        if kind == "health":
            _mark_health(marks, barcode, after)
        else:
            _mark_flag(marks, barcode, before, after)
    return marks


def notable_items(connection: Connection, request_id: int) -> Iterator[NotableItem]:
    """Yield, in order of their keys, the items that did not plainly come back as they were lost.

    These are all but those that were restored, proven, from a backup as new as the lost object.
    """
    plain = and_(
        items.c.state == ItemState.RESTORED,
        items.c.loss_class == LossClass.ON_TAPE,
        or_(items.c.way.is_(None), items.c.way != Way.ALTERNATE, items.c.sha256.is_not(None)),
    )
    query = (
        select(
            items.c.key,
            items.c.state,
            items.c.way,
            items.c.loss_class,
            case((_UNPROVEN, 0), else_=1),
            items.c.error_code,
            items.c.error,
        )
        .where(items.c.request_id == request_id, ~plain)
        .order_by(items.c.key)
        .execution_options(yield_per=CHUNK)
    )
    for key, state, way, loss_class, proven, code, error in connection.execute(query):
        yield NotableItem(
            bytes(key),
            ItemState(state),
            _way(way),
            LossClass(loss_class),
            bool(proven),
            code,
            error,
        )


def last_end(connection: Connection, request_id: int) -> datetime | None:
    """Return when an item or a batch of a request last came to its end; None when none has."""
    ends = [
        select(func.max(table.c.ended_at)).where(table.c.request_id == request_id)
        for table in (items, batches)
    ]
    found = [connection.execute(query).scalar_one() for query in ends]
    return max((end for end in found if end is not None), default=None)


def _restored_by_batch(request_id: int) -> Any:
    return (
        select(items.c.batch_id, func.count().label("restored"))
        .where(items.c.request_id == request_id, items.c.state == ItemState.RESTORED)
        .group_by(items.c.batch_id)
        .subquery()
    )


def _recalls_of(request_id: int) -> Any:
    return and_(shipments.c.request_id == request_id, shipments.c.direction == Direction.IN)


def _events(
    connection: Connection, barcodes: Collection[str], since: datetime, until: datetime | None
) -> Iterator[tuple[str, str, str, str]]:
    """Yield (barcode, field, before, after) of health and flag changes, oldest first a volume."""
    event = custody_events.c
    query = (
        select(event.barcode, event.field, event.before, event.after)
        .where(event.field.in_(["health", "flag"]), event.at >= since)
        .order_by(event.id)
    )
    if until is not None:
        query = query.where(event.at <= until)
    for chunk in chunks(sorted(barcodes)):
        for row in connection.execute(query.where(event.barcode.in_(chunk))):
            yield row[0], row[1], row[2], row[3]


def _mark_health(marks: VolumeMarks, barcode: str, after: str) -> None:
    marks.lost.discard(barcode)
    noted = {Health.SUSPECT: marks.suspect, Health.BROKEN: marks.broken, Health.LOST: marks.lost}
    noted.get(Health(after), set()).add(barcode)


def _mark_flag(marks: VolumeMarks, barcode: str, before: str, after: str) -> None:
    if after == Flag.MISSING:
        marks.missing.add(barcode)
    if before == Flag.MISSING:
        marks.missing.discard(barcode)
    if after == Flag.UNEXPECTED:
        marks.unexpected.add(barcode)


def _way(way: str | None) -> Way | None:
    return None if way is None else Way(way)
