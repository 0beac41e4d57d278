"""Volumes and their custody: each change compare-and-set, each with its append-only event.

Every function works in the caller's transaction, and changes all the volumes that it is given or,
raising, none of them.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from itertools import groupby
from typing import Any, Literal

from sqlalchemy import Connection, Row, Select, String, insert, literal, select, update

from restore_lib.catalog.bulk import chunks
from restore_lib.catalog.columns import Id, UtcDateTime
from restore_lib.catalog.tables import custody_events
from restore_lib.catalog.tables import volumes as table
from restore_lib.errors import InvalidTransition, Refused
from restore_lib.model.volume import (
    CONTENT_CHANGES,
    CUSTODY_CHANGES,
    HEALTH_CHANGES,
    LIBRARY,
    Content,
    Custody,
    CustodyEvent,
    Flag,
    Health,
    Volume,
    check_change,
)

Field = Literal["content", "health", "custody"]

_COLUMNS = [table.c[field.name] for field in fields(Volume)]
_CONTENTS = {str(state): state for state in Content}
_HEALTHS = {str(state): state for state in Health}
_CUSTODIES = {str(state): state for state in Custody}
_UNFLAGGED: frozenset[Flag] = frozenset()
_HISTORY = [custody_events.c[field.name] for field in fields(CustodyEvent)]
_RULES: Mapping[str, Mapping[Any, frozenset[Any]]] = {
    "content": CONTENT_CHANGES,
    "health": HEALTH_CHANGES,
    "custody": CUSTODY_CHANGES,
}


@dataclass(frozen=True, slots=True)
class _Cause:
    """Who changed something, why, by which shipment, and when."""

    actor: str
    reason: str
    shipment_id: int | None
    at: datetime


_EVENT_COLUMNS = ["barcode", "at", "field", "before", "after", "place"]
_EVENT_COLUMNS += ["actor", "reason", "shipment_id"]


def add_blank(
    connection: Connection,
    barcodes: Iterable[str],
    *,
    place: str = LIBRARY,
    actor: str,
    reason: str = "new volume",
    at: datetime,
) -> None:
    """Register blank, mountable volumes; Refused, naming them, when some are known already."""
    wanted = _names(barcodes)
    if known := [volume.barcode for volume in volumes(connection, wanted)]:
        raise Refused(
            f"The catalog has {_listed(known)} already.", remedy="give new volumes new barcodes"
        )
    if not wanted:
        return
    first: dict[str, StrEnum] = {
        "content": Content.BLANK,
        "health": Health.OK,
        "custody": Custody.MOUNTABLE,
    }
    connection.execute(
        insert(table), [{"barcode": b, "flags": [], "place": place, **first} for b in wanted]
    )
    for field, state in first.items():
        _record(connection, wanted, field, ("", state), _Cause(actor, reason, None, at))


def change(
    connection: Connection,
    barcodes: Iterable[str],
    field: Field,
    before: StrEnum,
    after: StrEnum,
    *,
    place: str | None = None,
    actor: str,
    reason: str,
    shipment_id: int | None = None,
    at: datetime,
) -> None:
    """Bring one field of all these volumes from ``before`` to ``after``, and record who and why.

    ``place`` is where they are from now on, None where they stay. Raises InvalidTransition when the
    rules forbid the change or volumes are not in ``before`` (any more), naming those; Refused when
    the catalog does not know one.
    """
    wanted = known(connection, barcodes, lock=True)
    if not wanted:
        return
    check_change(_RULES[field], wanted[0].barcode, before, after)
    if others := [
        f"{v.barcode} is {state}" for v in wanted if (state := getattr(v, field)) != before
    ]:
        raise InvalidTransition(
            f"These volumes can't go from {field} {before} to {after}: {_listed(others)}.",
            remedy="if another task did the work, run this one again; it starts from what is",
        )
    names = [v.barcode for v in wanted]
    values: dict[str, Any] = {field: after} | ({} if place is None else {"place": place})
    for chunk in chunks(names):
        connection.execute(
            update(table).where(table.c.barcode.in_(chunk), table.c[field] == before).values(values)
        )
    _record(connection, names, field, (before, after), _Cause(actor, reason, shipment_id, at))


def set_flag(
    connection: Connection,
    barcodes: Iterable[str],
    flag: Flag,
    *,
    actor: str,
    reason: str,
    shipment_id: int | None = None,
    at: datetime,
) -> list[str]:
    """Set ``flag`` on these volumes; return those that did not have it yet.

    Refused when the catalog does not know one of them.
    """
    lacking = [v for v in known(connection, barcodes, lock=True) if flag not in v.flags]
    _rewrite_flags(connection, {v.barcode: v.flags | {flag} for v in lacking})
    changed = [v.barcode for v in lacking]
    _record(connection, changed, "flag", ("", flag), _Cause(actor, reason, shipment_id, at))
    return changed


def clear_flag(
    connection: Connection,
    barcodes: Iterable[str],
    flag: Flag,
    *,
    actor: str,
    reason: str,
    shipment_id: int | None = None,
    at: datetime,
) -> list[str]:
    """Clear ``flag`` on these volumes; return those that had it.

    Refused when the catalog does not know one of them.
    """
    having = [v for v in known(connection, barcodes, lock=True) if flag in v.flags]
    _rewrite_flags(connection, {v.barcode: v.flags - {flag} for v in having})
    changed = [v.barcode for v in having]
    _record(connection, changed, "flag", (flag, ""), _Cause(actor, reason, shipment_id, at))
    return changed


def volumes(
    connection: Connection,
    barcodes: Iterable[str] | None = None,
    *,
    content: Collection[Content] | None = None,
    health: Collection[Health] | None = None,
    custody: Collection[Custody] | None = None,
    tape_sets: Collection[str] | None = None,
) -> list[Volume]:
    """Return volumes in order of their barcodes: all, or those that meet every condition given.

    Barcodes that the catalog does not know are passed over.
    """
    query = select(*_COLUMNS).order_by(table.c.barcode)
    for column, allowed in (
        (table.c.content, content),
        (table.c.health, health),
        (table.c.custody, custody),
        (table.c.tape_set, tape_sets),
    ):
        if allowed is not None:
            query = query.where(column.in_(allowed))
    return [_volume(row) for row in _rows(connection, query, barcodes)]


def sets_of(connection: Connection, barcodes: Iterable[str]) -> list[str]:
    """Return the tape sets of volumes, in their order; volumes without one are passed over."""
    query = select(table.c.tape_set).distinct().where(table.c.tape_set.is_not(None))
    return sorted({row.tape_set for row in _rows(connection, query, barcodes)})


def known(connection: Connection, barcodes: Iterable[str], *, lock: bool = False) -> list[Volume]:
    """Return these volumes; Refused when the catalog does not know one of them.

    With ``lock`` they are kept from other transactions' changes until this one ends.
    """
    wanted = _names(barcodes)
    query = select(*_COLUMNS).order_by(table.c.barcode)
    query = query.with_for_update() if lock else query
    found = [_volume(row) for row in _rows(connection, query, wanted)]
    if unknown := sorted(set(wanted) - {volume.barcode for volume in found}):
        raise Refused(
            f"The catalog does not know the volume {_listed(unknown)}.",
            remedy="check the barcode; `tapeflow volumes` lists all",
        )
    return found


def volume(connection: Connection, barcode: str) -> Volume:
    """Return one volume; Refused when the catalog does not know it."""
    return known(connection, [barcode])[0]


def history(connection: Connection, barcode: str) -> list[CustodyEvent]:
    """Return all custody events of a volume, oldest first."""
    query = select(*_HISTORY).where(custody_events.c.barcode == barcode)
    return [
        CustodyEvent(**row)
        for row in connection.execute(query.order_by(custody_events.c.id)).mappings()
    ]


def _rows(
    connection: Connection, query: Select[Any], barcodes: Iterable[str] | None
) -> Iterator[Row[Any]]:
    if barcodes is None:
        yield from connection.execute(query)
        return
    for chunk in chunks(_names(barcodes)):
        yield from connection.execute(query.where(table.c.barcode.in_(chunk)))


def _rewrite_flags(connection: Connection, flags: Mapping[str, frozenset[Flag]]) -> None:
    """Write flags, a statement for each combination of them."""
    texts = sorted((sorted(wanted), barcode) for barcode, wanted in flags.items())
    for wanted, group in groupby(texts, key=lambda pair: pair[0]):
        for chunk in chunks([barcode for _, barcode in group]):
            connection.execute(update(table).where(table.c.barcode.in_(chunk)).values(flags=wanted))


def _record(
    connection: Connection, barcodes: list[str], field: str, step: tuple[str, str], cause: _Cause
) -> None:
    """Append an event for each volume, at the place where it is now."""
    for chunk in chunks(barcodes):
        rows = select(
            table.c.barcode,
            literal(cause.at, UtcDateTime),
            literal(field, String),
            literal(step[0], String),
            literal(step[1], String),
            table.c.place,
            literal(cause.actor, String),
            literal(cause.reason, String),
            literal(cause.shipment_id, Id),
        ).where(table.c.barcode.in_(chunk))
        connection.execute(
            insert(custody_events).from_select(_EVENT_COLUMNS, rows.order_by(table.c.barcode))
        )


def _names(barcodes: Iterable[str]) -> list[str]:
    return sorted(set(barcodes))


def _listed(names: list[str]) -> str:
    more = len(names) - 20
    return ", ".join(names[:20]) + (f" and {more} more" if more > 0 else "")


def _volume(row: Sequence[Any]) -> Volume:
    barcode, tape_set, position, content, health, custody, flags = row[:7]
    return Volume(
        barcode,
        tape_set,
        position,
        _CONTENTS[content],
        _HEALTHS[health],
        _CUSTODIES[custody],
        frozenset(map(Flag, flags)) if flags else _UNFLAGGED,
        *row[7:],
    )
