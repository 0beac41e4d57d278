"""Batches: the planned reads of restores, and the objects in them."""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, Text, case, cast, func, insert, select, update

from restore_lib.catalog.bulk import chunks
from restore_lib.catalog.tables import (
    batches,
    extent_in_tape_file,
    extents,
    items,
    stripes,
    tape_files,
    tape_sets,
    versions,
)
from restore_lib.errors import Refused
from restore_lib.model.states import BatchKind, BatchState, ItemState


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch as planned: its volumes in the order of their mounts, the number of its items."""

    kind: BatchKind
    barcode: str | None
    volumes: tuple[str, ...]
    objects: int
    size: int
    estimate: float


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as the catalog has it; ``estimate`` is in seconds."""

    id: int
    request_id: int
    wave_id: int | None
    kind: BatchKind
    barcode: str | None
    volumes: tuple[str, ...]
    objects: int
    size: int
    estimate: float
    state: BatchState
    attempts: int
    error: str | None

    @property
    def lost(self) -> bool:
        """Whether parity stands in for a volume: ``barcode`` is then not among ``volumes``."""
        return self.barcode is not None and self.barcode not in self.volumes


@dataclass(frozen=True, slots=True)
class BatchExtent:
    """One extent to read, with all that checks it."""

    part: int
    stripe: int
    position: int
    barcode: str
    tape_set: str
    member: str
    offset: int
    size: int
    sha256: str
    stored_size: int
    stored_sha256: str


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One object to bring back, and its extents in the order of its parts.

    ``attempts`` counts the tries that sent it elsewhere.
    """

    id: int
    attempts: int
    key: bytes
    size: int | None
    sha256: str | None
    modified_at: datetime | None
    content_type: str | None
    metadata: Mapping[str, str]
    extents: tuple[BatchExtent, ...]


def add_batches(connection: Connection, request_id: int, planned: Sequence[NewBatch]) -> list[int]:
    """Insert batches, into which their items go afterwards; return their ids in the same order."""
    if not planned:
        return []
    rows = [
        {
            "request_id": request_id,
            "kind": batch.kind,
            "barcode": batch.barcode,
            "volumes": list(batch.volumes),
            "objects": batch.objects,
            "bytes": batch.size,
            "estimate": batch.estimate,
            "state": BatchState.PLANNED,
            "attempts": 0,
        }
        for batch in planned
    ]
    returning = insert(batches).returning(batches.c.id, sort_by_parameter_order=True)
    return list(connection.execute(returning, rows).scalars())


def volumes_in_use(connection: Connection, request_id: int) -> set[str]:
    """Return the volumes that batches of a request still want."""
    query = select(batches.c.volumes).where(
        batches.c.request_id == request_id,
        batches.c.state.in_([BatchState.PLANNED, BatchState.RUNNING]),
    )
    return {barcode for row in connection.execute(query) for barcode in row.volumes}


def batch(connection: Connection, batch_id: int) -> Batch:
    """Return a batch; Refused when there is none of this id."""
    row = connection.execute(select(batches).where(batches.c.id == batch_id)).one_or_none()
    if row is None:
        raise Refused(f"There is no batch {batch_id}.", remedy="see `tapeflow restore list`")
    return _batch(row)


def batches_of(
    connection: Connection,
    *,
    request_id: int | None = None,
    wave_id: int | None = None,
    states: Collection[BatchState] | None = None,
) -> list[Batch]:
    """Return batches by request or wave, in the order in which they were planned."""
    query = select(batches).order_by(batches.c.id)
    if request_id is not None:
        query = query.where(batches.c.request_id == request_id)
    if wave_id is not None:
        query = query.where(batches.c.wave_id == wave_id)
    if states is not None:
        query = query.where(batches.c.state.in_(states))
    return [_batch(row) for row in connection.execute(query)]


def unclaimed(connection: Connection, request_id: int) -> list[Batch]:
    """Return the planned batches of a request that are in no wave."""
    return [_batch(row) for row in connection.execute(_unclaimed(request_id))]


def unclaimed_by_volumes(
    connection: Connection, request_id: int
) -> dict[tuple[str, ...], list[int]]:
    """Return the ids of the batches that ``unclaimed`` returns, by the volumes that they read."""
    unclaimed = _unclaimed(request_id).with_only_columns(
        batches.c.id, cast(batches.c.volumes, Text)
    )
    found: defaultdict[str, list[int]] = defaultdict(list)
    for batch_id, volumes in connection.execute(unclaimed):
        found[volumes].append(batch_id)
    return {tuple(json.loads(volumes)): ids for volumes, ids in found.items()}


def _unclaimed(request_id: int) -> Select[Any]:
    return (
        select(batches)
        .where(
            batches.c.request_id == request_id,
            batches.c.state == BatchState.PLANNED,
            batches.c.wave_id.is_(None),
        )
        .order_by(batches.c.id)
    )


def waiting_reads(connection: Connection, barcodes: Collection[str]) -> dict[str, float]:
    """Return, by volume, the seconds of reads that are claimed and have not begun."""
    query = (
        select(batches.c.barcode, func.sum(batches.c.estimate).label("seconds"))
        .where(
            batches.c.barcode.in_(barcodes),
            batches.c.kind == BatchKind.READ,
            batches.c.state == BatchState.PLANNED,
            batches.c.wave_id.is_not(None),
        )
        .group_by(batches.c.barcode)
    )
    return {row.barcode: row.seconds for row in connection.execute(query)}


def begin_batch(connection: Connection, batch_id: int, at: datetime) -> Batch:
    """Count an attempt at a batch, unless it has ended, and return it as it is then."""
    connection.execute(
        update(batches)
        .where(
            batches.c.id == batch_id,
            batches.c.state.in_([BatchState.PLANNED, BatchState.RUNNING]),
        )
        .values(
            state=BatchState.RUNNING,
            attempts=batches.c.attempts + 1,
            started_at=func.coalesce(batches.c.started_at, at),
        )
    )
    return batch(connection, batch_id)


def note_error(connection: Connection, batch_id: int, error: str) -> None:
    """Keep why the last attempt at a running batch came to nothing."""
    connection.execute(
        update(batches)
        .where(batches.c.id == batch_id, batches.c.state == BatchState.RUNNING)
        .values(error=error)
    )


def end_batch(
    connection: Connection, batch_id: int, state: BatchState, at: datetime, error: str | None
) -> None:
    """End a batch that has not ended; what it did not finish goes back to PENDING."""
    done = connection.execute(
        update(batches)
        .where(
            batches.c.id == batch_id,
            batches.c.state.in_([BatchState.PLANNED, BatchState.RUNNING]),
        )
        .values(state=state, ended_at=at, error=error)
    )
    if done.rowcount:
        connection.execute(
            update(items)
            .where(items.c.batch_id == batch_id, items.c.state == ItemState.BATCHED)
            .values(
                state=ItemState.PENDING,
                batch_id=None,
                error=error,
                attempts=items.c.attempts + (0 if state is BatchState.CANCELLED else 1),
            )
        )


def batch_items(connection: Connection, batch_id: int) -> list[BatchItem]:
    """Return the items of a batch that have no end yet, in reading order, with their extents."""
    heads: dict[int, Row[Any]] = {}
    found: dict[int, list[BatchExtent]] = {}
    for row in connection.execute(_items_with_extents(batch_id)):
        heads.setdefault(row[0], row)
        held = found.setdefault(row[0], [])
        if row.part is not None:
            held.append(_extent(row))
    return [_item(row, found[item_id]) for item_id, row in heads.items()]


def geometry(connection: Connection, set_id: str) -> tuple[int, int, int]:
    """Return k, m and block size (bytes) of a tape set."""
    row = connection.execute(
        select(tape_sets.c.k, tape_sets.c.m, tape_sets.c.block_size).where(tape_sets.c.id == set_id)
    ).one()
    return row.k, row.m, row.block_size


def stripe_files(
    connection: Connection, set_id: str, numbers: Collection[int]
) -> dict[tuple[int, int], tuple[str, int]]:
    """Return barcode and length in blocks by (stripe, position) for some stripes of a set."""
    found: dict[tuple[int, int], tuple[str, int]] = {}
    for chunk in chunks(sorted(numbers)):
        query = (
            select(
                stripes.c.number,
                tape_files.c.position,
                tape_files.c.barcode,
                tape_files.c.blocks,
            )
            .join(stripes, stripes.c.id == tape_files.c.stripe_id)
            .where(stripes.c.tape_set == set_id, stripes.c.number.in_(chunk))
        )
        for number, position, barcode, blocks in connection.execute(query):
            found[number, position] = (barcode, blocks)
    return found


def _items_with_extents(batch_id: int) -> Select[Any]:
    source = func.coalesce(items.c.source_id, items.c.version_id)
    return (
        select(
            items.c.id,
            items.c.attempts,
            items.c.key,
            items.c.size.label("object_size"),
            items.c.sha256.label("object_sha256"),
            versions.c.modified_at,
            versions.c.content_type,
            versions.c.metadata,
            extents,
            stripes.c.number,
            stripes.c.tape_set,
            tape_files.c.barcode,
        )
        .outerjoin(versions, versions.c.id == items.c.version_id)
        .outerjoin(extents, extents.c.version_id == source)
        .outerjoin(stripes, stripes.c.id == extents.c.stripe_id)
        .outerjoin(tape_files, extent_in_tape_file)
        .where(items.c.batch_id == batch_id, items.c.state == ItemState.BATCHED)
        .order_by(
            stripes.c.tape_set,
            case((versions.c.parts > 1, items.c.id), else_=0),
            extents.c.part,
            stripes.c.number,
            extents.c.position,
            extents.c.offset,
            items.c.key,
        )
    )


def _batch(row: Row[Any]) -> Batch:
    return Batch(
        row.id,
        row.request_id,
        row.wave_id,
        BatchKind(row.kind),
        row.barcode,
        tuple(row.volumes),
        row.objects,
        row.bytes,
        row.estimate,
        BatchState(row.state),
        row.attempts,
        row.error,
    )


def _extent(row: Row[Any]) -> BatchExtent:
    return BatchExtent(
        row.part,
        row.number,
        row.position,
        row.barcode,
        row.tape_set,
        row.member,
        row.offset,
        row.size,
        row.sha256,
        row.stored_size,
        row.stored_sha256,
    )


def _item(row: Row[Any], held: list[BatchExtent]) -> BatchItem:
    return BatchItem(
        row[0],
        row.attempts,
        bytes(row.key),
        row.object_size,
        row.object_sha256,
        row.modified_at,
        row.content_type,
        row.metadata or {},
        tuple(sorted(held, key=lambda extent: extent.part)),
    )
