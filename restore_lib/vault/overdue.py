"""Shipments that have not come in time: flagged, asked for again, given up in the end."""

from datetime import datetime

from restore_lib.catalog import shipments
from restore_lib.errors import TapeflowError
from restore_lib.model.shipment import (
    EXPECTED_LINES,
    SHIPMENT_ROUTE,
    Direction,
    LineState,
    Shipment,
    ShipmentState,
)
from restore_lib.model.volume import Custody, Flag
from restore_lib.site import Site
from restore_lib.vault.desk import ReceiveResult, Visit, due
from restore_lib.vault.ledger import Ledger
from restore_lib.vault.outbound import announce
from restore_lib.vault.recalls import give_up, send_pick_list

_UNDERWAY = SHIPMENT_ROUTE[: SHIPMENT_ROUTE.index(ShipmentState.ARRIVED)]


def overdue(site: Site, actor: str) -> ReceiveResult:
    """Flag the volumes of shipments that are past their time, and announce these again.

    Each time counts as a round, and gives more time than the one before. After the last round that
    the config allows, the volumes of a recall are given up for lost, until they come after all or
    are asked for by `recall`, and a shipment to the vault is left to a person, its volumes flagged
    as missing, so that restores do not wait for them. An error with one shipment leaves that for
    the next time, keeps no other, and is raised at the end.
    """
    visit = Visit.begin(site, actor)
    late = _late(site, visit.now)
    result = ReceiveResult()
    failures: list[TapeflowError] = []
    for shipment in late:
        try:
            _announce_again(site, shipment)
        except TapeflowError as error:
            failures.append(error)
            continue
        with site.catalog.write() as connection:
            ledger = Ledger.open(connection, visit, shipment.id)
            if ledger is not None and ledger.shipment == shipment:
                result += _overdue(ledger)
    if failures:
        raise failures[0]
    return result


def any_overdue(site: Site) -> bool:
    """Return whether ``overdue`` would find a shipment that is past its time."""
    return bool(_late(site, site.clock.now()))


def _late(site: Site, now: datetime) -> list[Shipment]:
    with site.catalog.read() as connection:
        return shipments.find(connection, states=_UNDERWAY, due_before=now)


def _announce_again(site: Site, shipment: Shipment) -> None:
    if shipment.direction is Direction.OUT:
        announce(site, shipment.id)
    elif shipment.round + 1 < site.config.restore.rounds:
        send_pick_list(site, shipment)


def _overdue(ledger: Ledger) -> ReceiveResult:
    shipment = ledger.shipment
    last = shipment.round + 1 >= ledger.visit.site.config.restore.rounds
    expected = ledger.in_state(*EXPECTED_LINES)
    due_at = None if last else due(ledger.visit, shipment.vault, shipment.round + 1)
    if shipment.direction is Direction.OUT:
        missed = tuple(expected)
    else:
        missed = tuple(v.barcode for v in ledger.volumes(expected, Custody.VAULTRETRIEVE))
    ledger.flag(missed, Flag.OVERDUE, f"due {shipment.due_at:%Y-%m-%d %H:%M} UTC")
    ledger.audit("vault.overdue", round=shipment.round, volumes=missed)
    if last and shipment.direction is Direction.IN:
        ledger.mark(set(expected) - set(missed), LineState.RECEIVED, "came with another shipment")
        ledger.mark(missed, LineState.OMITTED, "never delivered")
        ledger.advance(ShipmentState.CANCELLED)
        give_up(ledger, missed)
        return ReceiveResult(closed=(shipment.id,), overdue=missed, lost=missed)
    if last:
        ledger.flag(missed, Flag.MISSING, "neither fetched nor received after the last request")
    shipments.postpone(ledger.connection, shipment, due_at)
    return ReceiveResult(advanced=(shipment.id,), overdue=missed)
