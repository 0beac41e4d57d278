"""Shipments and their lines: each change compare-and-set on the former state.

Every function works in the caller's transaction, and changes all that it is given or, raising,
nothing.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, insert, select, update

from restore_lib.catalog.bulk import chunks
from restore_lib.catalog.tables import shipment_lines, shipments
from restore_lib.errors import InvalidTransition
from restore_lib.model.shipment import (
    LINE_CHANGES,
    SHIPMENT_CHANGES,
    SHIPMENT_ENDS,
    SHIPMENT_ROUTE,
    Direction,
    Line,
    LineState,
    Shipment,
    ShipmentState,
)
from restore_lib.model.volume import Reason

_COLUMNS = [shipments.c[field.name] for field in fields(Shipment)]
_LINE_COLUMNS = [shipment_lines.c[field.name] for field in fields(Line)]


def create(
    connection: Connection,
    boxes: Mapping[str, int],
    *,
    direction: Direction,
    vault: str,
    reason: Reason,
    at: datetime,
    due_at: datetime,
    request_id: int | None = None,
    follows: int | None = None,
    round_: int = 0,
) -> int:
    """Insert a drafted shipment with a line for each barcode of ``boxes``; return its id."""
    row = {
        "direction": direction,
        "state": ShipmentState.DRAFT,
        "vault": vault,
        "reason": reason,
        "request_id": request_id,
        "follows": follows,
        "round": round_,
        "created_at": at,
        "due_at": due_at,
    }
    created = connection.execute(insert(shipments).values(row).returning(shipments.c.id))
    shipment_id = int(created.scalar_one())
    _add_lines(connection, boxes, shipment_id=shipment_id, state=LineState.REQUESTED, reason=reason)
    return shipment_id


def add_extra_lines(
    connection: Connection, shipment: Shipment, barcodes: Collection[str], note: str
) -> None:
    """Add a line for each volume that came without being on the list."""
    boxes = dict.fromkeys(barcodes, 0)
    _add_lines(
        connection,
        boxes,
        shipment_id=shipment.id,
        state=LineState.EXTRA,
        reason=shipment.reason,
        note=note,
    )


def advance(
    connection: Connection, shipment: Shipment, *way: ShipmentState, **values: object
) -> None:
    """Take a shipment through the states of ``way``, setting other columns by ``values`` at last.

    Raises InvalidTransition when the rules forbid a step, or when the shipment has left
    ``shipment.state`` meanwhile.
    """
    before = shipment.state
    for after in way:
        _check(f"shipment {shipment.id}", SHIPMENT_CHANGES, before, after)
        before = after
    done = connection.execute(
        update(shipments)
        .where(shipments.c.id == shipment.id, shipments.c.state == shipment.state)
        .values(state=before, **values)
    )
    if done.rowcount != 1:
        raise _moved_on(f"shipment {shipment.id}", shipment.state, before)


def route(before: ShipmentState, after: ShipmentState) -> tuple[ShipmentState, ...]:
    """Return the states to pass from ``before`` to ``after``; none when it is there or past it."""
    if before in SHIPMENT_ENDS:
        return ()
    return SHIPMENT_ROUTE[SHIPMENT_ROUTE.index(before) + 1 : SHIPMENT_ROUTE.index(after) + 1]


def postpone(connection: Connection, shipment: Shipment, due_at: datetime | None) -> bool:
    """Count another round and set when it is due; False when another process just did."""
    done = connection.execute(
        update(shipments)
        .where(
            shipments.c.id == shipment.id,
            shipments.c.state == shipment.state,
            shipments.c.round == shipment.round,
        )
        .values(round=shipment.round + 1, due_at=due_at)
    )
    return done.rowcount == 1


def change_lines(
    connection: Connection, lines: Iterable[Line], after: LineState, *, note: str = ""
) -> None:
    """Bring lines from the state they are given in to ``after``, with a note on why.

    Raises InvalidTransition when the rules forbid it, or when a line has changed meanwhile.
    """

    def former(line: Line) -> tuple[int, LineState]:
        return line.shipment_id, line.state

    for (shipment_id, before), group in groupby(sorted(lines, key=former), key=former):
        _check(f"lines of shipment {shipment_id}", LINE_CHANGES, before, after)
        for chunk in chunks([line.barcode for line in group]):
            done = connection.execute(
                update(shipment_lines)
                .where(
                    shipment_lines.c.shipment_id == shipment_id,
                    shipment_lines.c.barcode.in_(chunk),
                    shipment_lines.c.state == before,
                )
                .values(state=after, note=note)
            )
            if done.rowcount != len(chunk):
                raise _moved_on(f"lines of shipment {shipment_id}", before, after)


def shipment(connection: Connection, shipment_id: int, *, lock: bool = False) -> Shipment | None:
    """Return a shipment, or None; with ``lock``, kept from others until the transaction ends."""
    query = select(*_COLUMNS).where(shipments.c.id == shipment_id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    return None if row is None else _shipment(row)


def find(
    connection: Connection,
    *,
    direction: Direction | None = None,
    states: Collection[ShipmentState] | None = None,
    request_id: int | None = None,
    due_before: datetime | None = None,
) -> list[Shipment]:
    """Return the shipments that meet every condition given, oldest first."""
    query = select(*_COLUMNS).order_by(shipments.c.id)
    if direction is not None:
        query = query.where(shipments.c.direction == direction)
    if states is not None:
        query = query.where(shipments.c.state.in_(states))
    if request_id is not None:
        query = query.where(shipments.c.request_id == request_id)
    if due_before is not None:
        query = query.where(shipments.c.due_at < due_before)
    return [_shipment(row) for row in connection.execute(query).mappings()]


def lines_of(connection: Connection, *shipment_ids: int) -> list[Line]:
    """Return the lines of shipments, by shipment and barcode."""
    query = select(*_LINE_COLUMNS).where(shipment_lines.c.shipment_id.in_(shipment_ids))
    return _lines(connection, query)


def open_lines(connection: Connection, barcodes: Iterable[str], direction: Direction) -> list[Line]:
    """Return the lines of these volumes in shipments that have not ended."""
    query = (
        select(*_LINE_COLUMNS)
        .join(shipments, shipments.c.id == shipment_lines.c.shipment_id)
        .where(shipments.c.direction == direction, shipments.c.state.not_in(SHIPMENT_ENDS))
    )
    found: list[Line] = []
    for chunk in chunks(sorted(set(barcodes))):
        found += _lines(connection, query.where(shipment_lines.c.barcode.in_(chunk)))
    return found


def _add_lines(connection: Connection, boxes: Mapping[str, int], **common: object) -> None:
    rows = [{"barcode": barcode, "box": box, **common} for barcode, box in sorted(boxes.items())]
    if rows:
        connection.execute(insert(shipment_lines), rows)


def _check(what: str, rules: Mapping[Any, frozenset[Any]], before: Any, after: Any) -> None:
    if after not in rules[before]:
        raise InvalidTransition(
            f"The {what} can't go from {before} to {after}.",
            remedy=f"from {before} it can go to {', '.join(sorted(rules[before])) or 'nothing'}",
        )


def _moved_on(what: str, before: str, after: str) -> InvalidTransition:
    return InvalidTransition(
        f"The {what} did not go from {before} to {after}: another process has changed it.",
        remedy="run this again; it starts from what is",
    )


def _lines(connection: Connection, query: Select[Any]) -> list[Line]:
    ordered = query.order_by(shipment_lines.c.shipment_id, shipment_lines.c.barcode)
    return [
        Line(**(dict(row) | {"state": LineState(row["state"]), "reason": Reason(row["reason"])}))
        for row in connection.execute(ordered).mappings()
    ]


def _shipment(row: RowMapping) -> Shipment:
    states = {
        "direction": Direction(row["direction"]),
        "state": ShipmentState(row["state"]),
        "reason": Reason(row["reason"]),
    }
    return Shipment(**(dict(row) | states))
