"""The way of a shipment and of its lines."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from restore_lib.model.shipment import (
    EXPECTED_LINES,
    LINE_CHANGES,
    SHIPMENT_CHANGES,
    SHIPMENT_ENDS,
    SHIPMENT_ROUTE,
    Direction,
    LineState,
    Shipment,
    ShipmentState,
)
from restore_lib.model.volume import Reason

S, L = ShipmentState, LineState


def test_every_state_has_its_rule() -> None:
    assert set(SHIPMENT_CHANGES) == set(S)
    assert set(LINE_CHANGES) == set(L)


def test_the_route_is_allowed_step_by_step() -> None:
    for before, after in pairwise(SHIPMENT_ROUTE):
        assert after in SHIPMENT_CHANGES[before]
    assert SHIPMENT_CHANGES[SHIPMENT_ROUTE[-1]] == {S.CLOSED, S.CLOSED_WITH_EXCEPTIONS}


def test_what_was_handed_over_can_not_be_cancelled() -> None:
    cancellable = {state for state, after in SHIPMENT_CHANGES.items() if S.CANCELLED in after}
    assert cancellable == {S.DRAFT, S.PICK_LISTED, S.PACKED, S.SEALED}


def test_nothing_follows_an_end() -> None:
    ends = {S.CLOSED, S.CLOSED_WITH_EXCEPTIONS, S.CANCELLED}
    assert ends == SHIPMENT_ENDS


def test_a_line_goes_forward_only() -> None:
    order = [L.REQUESTED, L.VENDOR_ACKED, L.PICKED, L.SHIPPED, L.RECEIVED, L.INSPECTED, L.LOADED]
    for place, state in enumerate(order):
        assert LINE_CHANGES[state] - {L.OMITTED} == set(order[place + 1 :])


def test_only_what_has_not_arrived_can_be_omitted_and_still_arrive() -> None:
    assert {state for state, after in LINE_CHANGES.items() if L.OMITTED in after} == EXPECTED_LINES
    assert L.RECEIVED not in EXPECTED_LINES
    assert LINE_CHANGES[L.OMITTED] == {L.RECEIVED}


@pytest.mark.parametrize("state", S)
def test_a_shipment_has_ended_when_nothing_is_expected(state: ShipmentState) -> None:
    at = datetime(2030, 1, 1, tzinfo=UTC)
    shipment = Shipment(
        1, Direction.IN, state, "north", Reason.RESTORE, None, None, 0, at, None, None, None
    )
    assert shipment.ended == (not SHIPMENT_CHANGES[state])
