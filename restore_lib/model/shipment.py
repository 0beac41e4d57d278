"""The states of a shipment and of its lines, and which changes of them the rules allow."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from restore_lib.model.volume import Reason


class Direction(StrEnum):
    """Which way a shipment goes, seen from the library."""

    OUT = "out"
    IN = "in"


class ShipmentState(StrEnum):
    """How far a shipment is."""

    DRAFT = "draft"
    PICK_LISTED = "pick_listed"
    PACKED = "packed"
    SEALED = "sealed"
    HANDED_OVER = "handed_over"
    IN_TRANSIT = "in_transit"
    ARRIVED = "arrived"
    RECONCILING = "reconciling"
    CLOSED = "closed"
    CLOSED_WITH_EXCEPTIONS = "closed_with_exceptions"
    CANCELLED = "cancelled"


class LineState(StrEnum):
    """How far one volume of a shipment is; OMITTED and EXTRA are the exceptions."""

    REQUESTED = "requested"
    VENDOR_ACKED = "vendor_acked"
    PICKED = "picked"
    SHIPPED = "shipped"
    RECEIVED = "received"
    INSPECTED = "inspected"
    LOADED = "loaded"
    OMITTED = "omitted"
    EXTRA = "extra"


_S = ShipmentState
SHIPMENT_CHANGES: Mapping[ShipmentState, frozenset[ShipmentState]] = {
    _S.DRAFT: frozenset({_S.PICK_LISTED, _S.CANCELLED}),
    _S.PICK_LISTED: frozenset({_S.PACKED, _S.CANCELLED}),
    _S.PACKED: frozenset({_S.SEALED, _S.CANCELLED}),
    _S.SEALED: frozenset({_S.HANDED_OVER, _S.CANCELLED}),
    _S.HANDED_OVER: frozenset({_S.IN_TRANSIT}),
    _S.IN_TRANSIT: frozenset({_S.ARRIVED}),
    _S.ARRIVED: frozenset({_S.RECONCILING}),
    _S.RECONCILING: frozenset({_S.CLOSED, _S.CLOSED_WITH_EXCEPTIONS}),
    _S.CLOSED: frozenset(),
    _S.CLOSED_WITH_EXCEPTIONS: frozenset(),
    _S.CANCELLED: frozenset(),
}
SHIPMENT_ENDS = frozenset(state for state, after in SHIPMENT_CHANGES.items() if not after)
SHIPMENT_ROUTE = (
    _S.DRAFT,
    _S.PICK_LISTED,
    _S.PACKED,
    _S.SEALED,
    _S.HANDED_OVER,
    _S.IN_TRANSIT,
    _S.ARRIVED,
    _S.RECONCILING,
)
"""The way of every shipment that is not cancelled, up to its end."""

_L = LineState
_LINE_ROUTE = (
    _L.REQUESTED,
    _L.VENDOR_ACKED,
    _L.PICKED,
    _L.SHIPPED,
    _L.RECEIVED,
    _L.INSPECTED,
    _L.LOADED,
)
EXPECTED_LINES = frozenset(_LINE_ROUTE[:4])
"""The states of a line whose volume has yet to arrive."""


def _line_changes() -> Mapping[LineState, frozenset[LineState]]:
    """Forward only; a hop that has no document of its own is passed over."""
    changes = {
        state: frozenset(_LINE_ROUTE[place + 1 :])
        | (frozenset({_L.OMITTED}) if state in EXPECTED_LINES else frozenset())
        for place, state in enumerate(_LINE_ROUTE)
    }
    changes[_L.OMITTED] = frozenset({_L.RECEIVED})
    changes[_L.EXTRA] = frozenset()
    return changes


LINE_CHANGES = _line_changes()


@dataclass(frozen=True, slots=True)
class Shipment:
    """One truck's load between the library and a vault; ``round`` counts how often it was asked."""

    id: int
    direction: Direction
    state: ShipmentState
    vault: str
    reason: Reason
    request_id: int | None
    follows: int | None
    round: int
    created_at: datetime
    due_at: datetime | None
    arrived_at: datetime | None
    seal: str | None

    @property
    def ended(self) -> bool:
        """Whether nothing more is expected of it."""
        return self.state in SHIPMENT_ENDS


@dataclass(frozen=True, slots=True)
class Line:
    """One volume of a shipment; ``box`` is 0 where the vendor packs."""

    shipment_id: int
    barcode: str
    box: int
    state: LineState
    reason: Reason
    note: str
