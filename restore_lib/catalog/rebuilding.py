"""An empty catalog filled from what a rebuild has found on tapes, in one transaction."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select, text, update

from restore_lib.catalog import audit
from restore_lib.catalog.bulk import CHUNK
from restore_lib.catalog.findings import Findings
from restore_lib.catalog.numbering import Numbering, RebuiltPoint
from restore_lib.catalog.recovery_points import changed_in, counts_at, sets_written
from restore_lib.catalog.tables import (
    audit_events,
    custody_events,
    extents,
    objects,
    recovery_points,
    stripes,
    tape_files,
    tape_sets,
    versions,
    volumes,
)
from restore_lib.errors import Refused
from restore_lib.model.states import RecoveryPointState, SetState
from restore_lib.model.volume import LIBRARY, Content, Custody, Flag, Health

ACTION = "catalog.rebuild"
UNKNOWN_DIGEST = "0" * 64
_NUMBERED = (objects, versions, recovery_points, stripes, extents)


@dataclass(frozen=True, slots=True)
class RebuiltSet:
    """A tape set as it goes into the catalog; ``barcodes`` are by position."""

    id: str
    k: int
    m: int
    block_size: int
    recipients: tuple[str, ...]
    created_at: datetime
    stripes: int
    closed: bool
    barcodes: Mapping[int, str]

    @property
    def policy(self) -> str:
        """The policy that a set's id begins with."""
        return self.id.rpartition("-")[0]


@dataclass(frozen=True, slots=True)
class RebuiltVolume:
    """A volume as it goes into the catalog."""

    barcode: str
    tape_set: str | None
    position: int | None
    content: Content
    health: Health
    flags: tuple[Flag, ...] = ()


def is_empty(connection: Connection) -> bool:
    """Return whether a catalog knows no volume, set, object or recovery point."""
    tables = (volumes, tape_sets, objects, recovery_points)
    return all(connection.execute(select(t).limit(1)).first() is None for t in tables)


def is_rebuilt_by(connection: Connection, rebuild_id: str) -> bool:
    """Return whether rebuild ``rebuild_id`` has filled this catalog."""
    subject = f"rebuild {rebuild_id}"
    query = select(audit_events.c.id).where(
        audit_events.c.action == ACTION, audit_events.c.subject == subject
    )
    return connection.execute(query.limit(1)).first() is not None


def fill_catalog(
    connection: Connection,
    findings: Findings,
    sets: Sequence[RebuiltSet],
    held: Sequence[RebuiltVolume],
    *,
    actor: str,
    at: datetime,
    detail: Mapping[str, Any],
) -> None:
    """Enter all that was found, as part of the transaction; Refused unless the catalog is empty.

    Streams: what is in memory does not grow with the number of objects.
    """
    if not is_empty(connection):
        raise Refused(
            "The catalog is not empty; a rebuild does not mix with what is there.",
            remedy="name an empty database in [catalog] url, or compare with --diff",
        )
    numbering = Numbering(findings.database, [(s.id, s.stripes, s.created_at) for s in sets])
    points = numbering.points()
    points += _points_without_objects(points, sets)
    _insert(connection, recovery_points, (_point(point) for point in points))
    _insert(connection, tape_sets, (_set(one, at) for one in sets))
    _enter_volumes(connection, held, actor, at)
    _enter_stripes(connection, findings, sets, numbering, points)
    _insert(
        connection,
        objects,
        ({"id": id_, "store": store, "key": key} for id_, store, key in numbering.objects()),
    )
    _insert(connection, versions, map(_version, numbering.versions()))
    names = [column.name for column in extents.columns if column.name != "id"]
    _insert(
        connection, extents, (dict(zip(names, row, strict=True)) for row in numbering.extents())
    )
    _count(connection, points, sets)
    _advance_sequences(connection)
    audit.record(connection, at, actor, ACTION, f"rebuild {findings.id}", detail)


def _points_without_objects(
    points: Sequence[RebuiltPoint], sets: Sequence[RebuiltSet]
) -> list[RebuiltPoint]:
    """Return a recovery point for stripes to belong to where no object is known at all."""
    written = [one for one in sets if one.stripes]
    if points or not written:
        return []
    return [RebuiltPoint(1, written[0].policy, written[0].id, written[0].created_at)]


def _point(point: RebuiltPoint) -> dict[str, Any]:
    return {
        "id": point.id,
        "policy": point.tape_set.rpartition("-")[0],
        "store": point.store,
        "state": RecoveryPointState.COMMITTED,
        "started_at": point.at,
        "committed_at": point.at,
        "summary": {},
    }


def _set(one: RebuiltSet, at: datetime) -> dict[str, Any]:
    return {
        "id": one.id,
        "policy": one.policy,
        "k": one.k,
        "m": one.m,
        "block_size": one.block_size,
        "recipients": list(one.recipients),
        "state": SetState.CLOSED if one.closed else SetState.OPEN,
        "stripes": one.stripes,
        "job_id": None,
        "created_at": one.created_at,
        "closed_at": at if one.closed else None,
    }


def _enter_volumes(
    connection: Connection, held: Sequence[RebuiltVolume], actor: str, at: datetime
) -> None:
    """Enter volumes, each with the first events of its history."""
    _insert(connection, volumes, map(_volume, held))
    _insert(
        connection, custody_events, (event for one in held for event in _events(one, actor, at))
    )


def _volume(volume: RebuiltVolume) -> dict[str, Any]:
    return {
        "barcode": volume.barcode,
        "tape_set": volume.tape_set,
        "position": volume.position,
        "content": volume.content,
        "health": volume.health,
        "custody": Custody.MOUNTABLE,
        "flags": sorted(volume.flags),
        "place": LIBRARY,
    }


def _events(volume: RebuiltVolume, actor: str, at: datetime) -> Iterator[dict[str, Any]]:
    states: list[tuple[str, str]] = [("content", volume.content), ("health", volume.health)]
    states += [("custody", Custody.MOUNTABLE), *(("flag", flag) for flag in volume.flags)]
    for field, state in states:
        yield {
            "barcode": volume.barcode,
            "at": at,
            "field": field,
            "before": "",
            "after": state,
            "place": LIBRARY,
            "actor": actor,
            "reason": "catalog rebuild",
        }


def _enter_stripes(
    connection: Connection,
    findings: Findings,
    sets: Sequence[RebuiltSet],
    numbering: Numbering,
    points: Sequence[RebuiltPoint],
) -> None:
    bases, of_stripe = numbering.stripe_bases(), numbering.stripe_points()
    oldest = min((point.id for point in points), default=1)
    for one in sets:
        rows: list[dict[str, Any]] = []
        for number in range(1, one.stripes + 1):
            known = findings.files(one.id, number).values()
            stripe_id = bases[one.id] + number
            rows.append(
                {
                    "id": stripe_id,
                    "tape_set": one.id,
                    "number": number,
                    "rp_id": of_stripe.get(stripe_id, oldest),
                    "rows": max((file.blocks for file in known), default=0),
                    "committed_at": one.created_at,
                }
            )
        _insert(connection, stripes, rows)
        _insert(connection, tape_files, _files(findings, one, bases[one.id]))


def _files(findings: Findings, one: RebuiltSet, base: int) -> Iterator[dict[str, Any]]:
    """Yield tape files; one that nobody knows has no blocks and a digest of zeros."""
    indexed = findings.indexed(one.id)
    for number in range(1, one.stripes + 1):
        known = findings.files(one.id, number)
        for position, barcode in sorted(one.barcodes.items()):
            file, index = known.get(position), indexed.get((number, position))
            yield {
                "stripe_id": base + number,
                "position": position,
                "barcode": barcode,
                "blocks": file.blocks if file else 0,
                "sha256": file.sha256 if file else UNKNOWN_DIGEST,
                "index_offset": index[0] if index else None,
            }


def _version(row: Sequence[Any]) -> dict[str, Any]:
    """Return a row of ``Numbering.versions``, which are in the order of the table's columns."""
    names = [column.name for column in versions.columns]
    values = dict(zip(names, row, strict=True))
    return values | {
        "modified_at": datetime.fromisoformat(values["modified_at"]),
        "metadata": json.loads(values["metadata"]),
    }


def _count(
    connection: Connection, points: Sequence[RebuiltPoint], sets: Sequence[RebuiltSet]
) -> None:
    """Count what is on each volume and in each recovery point."""
    size = {one.id: one.block_size for one in sets}
    counted = connection.execute(
        select(
            tape_files.c.barcode,
            stripes.c.tape_set,
            func.count(),
            func.sum(tape_files.c.blocks),
        )
        .join(stripes, stripes.c.id == tape_files.c.stripe_id)
        .group_by(tape_files.c.barcode, stripes.c.tape_set)
    ).all()
    for barcode, tape_set, count, blocks in counted:
        connection.execute(
            update(volumes)
            .where(volumes.c.barcode == barcode)
            .values(files=count, bytes=int(blocks) * size[tape_set])
        )
    for point in points:
        count, total = counts_at(connection, point.store, point.id)
        added, added_size, gone = changed_in(connection, point.id)
        summary = {
            "rebuilt": True,
            "tape_sets": sets_written(connection, point.id),
            "unreadable_objects": 0,
            "unreadable": {},
            "backed_up": added,
            "bytes_backed_up": int(added_size),
            "gone": gone,
            "objects": count,
            "bytes": int(total),
        }
        connection.execute(
            update(recovery_points).where(recovery_points.c.id == point.id).values(summary=summary)
        )


def _insert(connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    waiting: Iterator[Mapping[str, Any]] = iter(rows)
    while chunk := list(islice(waiting, CHUNK)):
        connection.execute(insert(table), chunk)


def _advance_sequences(connection: Connection) -> None:
    """Let PostgreSQL number further rows behind the ones entered."""
    if connection.dialect.name != "postgresql":
        return
    for table in _NUMBERED:
        highest = select(func.coalesce(func.max(table.c.id), 0)).scalar_subquery()
        connection.execute(
            select(
                func.setval(
                    func.pg_get_serial_sequence(table.name, "id"), highest + 1, text("false")
                )
            )
        )
