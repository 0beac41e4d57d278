from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection

from restore_lib.catalog import shipments, volumes
from restore_lib.catalog.engine import Catalog
from restore_lib.errors import InvalidTransition
from restore_lib.model.shipment import (
    LINE_CHANGES,
    SHIPMENT_ENDS,
    Direction,
    Line,
    LineState,
    Shipment,
    ShipmentState,
)
from restore_lib.model.volume import Reason

NOW = datetime(2030, 1, 1, tzinfo=UTC)
BOXES = {"V00001": 1, "V00002": 1, "V00003": 2}


def make(connection: Connection, **more: Any) -> Shipment:
    if not volumes.volumes(connection):
        volumes.add_blank(connection, [*BOXES, "V00009"], actor="ann", at=NOW)
    values: dict[str, Any] = {
        "direction": Direction.IN,
        "vault": "north",
        "reason": Reason.RESTORE,
        "at": NOW,
        "due_at": NOW + timedelta(hours=16),
    } | more
    shipment_id = shipments.create(connection, BOXES, **values)
    return current(connection, shipment_id)


def current(connection: Connection, shipment_id: int) -> Shipment:
    found = shipments.shipment(connection, shipment_id)
    assert found is not None
    return found


def test_a_shipment_is_drafted_with_its_lines(catalog: Catalog) -> None:
    with catalog.write() as connection:
        made = make(connection)
        follower = make(connection, follows=made.id, round_=1)
    with catalog.read() as connection:
        assert shipments.shipment(connection, made.id) == Shipment(
            id=made.id,
            direction=Direction.IN,
            state=ShipmentState.DRAFT,
            vault="north",
            reason=Reason.RESTORE,
            request_id=None,
            follows=None,
            round=0,
            created_at=NOW,
            due_at=NOW + timedelta(hours=16),
            arrived_at=None,
            seal=None,
        )
        assert (follower.follows, follower.round) == (made.id, 1)
        assert shipments.lines_of(connection, made.id) == [
            Line(made.id, barcode, box, LineState.REQUESTED, Reason.RESTORE, "")
            for barcode, box in BOXES.items()
        ]
        assert shipments.shipment(connection, 404) is None


def test_a_shipment_goes_its_way_and_ends(catalog: Catalog) -> None:
    with catalog.write() as connection:
        made = make(connection)
        way = shipments.route(made.state, ShipmentState.SEALED)
        shipments.advance(connection, made, *way, seal="TF-1")
        sealed = current(connection, made.id)
        assert (sealed.state, sealed.seal) == (ShipmentState.SEALED, "TF-1")
        way = shipments.route(sealed.state, ShipmentState.RECONCILING)
        shipments.advance(connection, sealed, *way, ShipmentState.CLOSED, arrived_at=NOW)
        closed = current(connection, made.id)
    assert closed.ended
    assert closed.arrived_at == NOW
    assert shipments.route(closed.state, ShipmentState.RECONCILING) == ()
    assert shipments.route(sealed.state, ShipmentState.PACKED) == ()


@pytest.mark.parametrize(
    "way",
    [
        (ShipmentState.SEALED,),
        (ShipmentState.PICK_LISTED, ShipmentState.CLOSED),
        (*shipments.route(ShipmentState.DRAFT, ShipmentState.HANDED_OVER), ShipmentState.CANCELLED),
    ],
)
def test_a_shipment_skips_no_state(catalog: Catalog, way: tuple[ShipmentState, ...]) -> None:
    with pytest.raises(InvalidTransition, match="can't go from"), catalog.write() as connection:
        shipments.advance(connection, make(connection), *way)


@pytest.mark.parametrize("end", sorted(SHIPMENT_ENDS))
def test_an_ended_shipment_stays_so(catalog: Catalog, end: ShipmentState) -> None:
    with catalog.write() as connection:
        ended = replace(make(connection), state=end)
        with pytest.raises(InvalidTransition):
            shipments.advance(connection, ended, ShipmentState.PICK_LISTED)


def test_a_shipment_that_another_has_advanced_is_not_advanced_again(catalog: Catalog) -> None:
    with catalog.write() as connection:
        made = make(connection)
        shipments.advance(connection, made, ShipmentState.PICK_LISTED)
        with pytest.raises(InvalidTransition, match="another process"):
            shipments.advance(connection, made, ShipmentState.PICK_LISTED)
        assert current(connection, made.id).state is ShipmentState.PICK_LISTED


def test_lines_change_together_or_not_at_all(catalog: Catalog) -> None:
    with catalog.write() as connection:
        made = make(connection)
        lines = shipments.lines_of(connection, made.id)
        shipments.change_lines(connection, lines[:1], LineState.OMITTED, note="not there")
        shipments.change_lines(connection, lines[1:], LineState.VENDOR_ACKED)
        mixed = shipments.lines_of(connection, made.id)
        shipments.change_lines(connection, mixed, LineState.RECEIVED)
        done = shipments.lines_of(connection, made.id)
    assert [(line.state, line.note) for line in mixed] == [
        (LineState.OMITTED, "not there"),
        (LineState.VENDOR_ACKED, ""),
        (LineState.VENDOR_ACKED, ""),
    ]
    assert {line.state for line in done} == {LineState.RECEIVED}
    with pytest.raises(InvalidTransition, match="another process"), catalog.write() as connection:
        shipments.change_lines(connection, lines, LineState.OMITTED)
    with catalog.read() as connection:
        assert shipments.lines_of(connection, made.id) == done


def test_lines_go_forward_only() -> None:
    assert LineState.REQUESTED not in LINE_CHANGES[LineState.VENDOR_ACKED]
    assert LineState.OMITTED not in LINE_CHANGES[LineState.RECEIVED]
    assert LineState.OMITTED in LINE_CHANGES[LineState.SHIPPED]
    assert LINE_CHANGES[LineState.LOADED] == frozenset()
    assert set(LINE_CHANGES) == set(LineState)


def test_extra_volumes_get_lines_of_their_own(catalog: Catalog) -> None:
    with catalog.write() as connection:
        made = make(connection)
        shipments.add_extra_lines(connection, made, ["V00009"], "on the dock")
        lines = shipments.lines_of(connection, made.id)
    assert (lines[-1].barcode, lines[-1].state) == ("V00009", LineState.EXTRA)
    assert lines[-1].note == "on the dock"


def test_finding_shipments_and_open_lines(catalog: Catalog) -> None:
    with catalog.write() as connection:
        first = make(connection)
        second = make(connection, due_at=NOW + timedelta(days=9))
        out = make(connection, direction=Direction.OUT)
        shipments.advance(connection, first, ShipmentState.CANCELLED)
    with catalog.read() as connection:
        inbound = shipments.find(connection, direction=Direction.IN)
        assert [s.id for s in inbound] == [first.id, second.id]
        late = shipments.find(connection, due_before=NOW + timedelta(days=1))
        assert [s.id for s in late] == [first.id, out.id]
        drafted = shipments.find(connection, states=[ShipmentState.DRAFT])
        assert [s.id for s in drafted] == [second.id, out.id]
        assert shipments.find(connection, request_id=1) == []
        lines = shipments.open_lines(connection, ["V00001", "V00009"], Direction.IN)
        assert [(line.shipment_id, line.barcode) for line in lines] == [(second.id, "V00001")]


def test_a_shipment_is_postponed_once_a_round(catalog: Catalog) -> None:
    with catalog.write() as connection:
        made = make(connection)
        later = NOW + timedelta(days=2)
        assert shipments.postpone(connection, made, later)
        assert not shipments.postpone(connection, made, later)
        again = current(connection, made.id)
    assert (again.round, again.due_at) == (1, later)
