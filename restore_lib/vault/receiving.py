"""Everything that waits at the couriers, worked through: the one way in which news come in."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from restore_lib.catalog import shipments
from restore_lib.errors import RetryLater, TapeflowError
from restore_lib.model.objects import display_key
from restore_lib.model.shipment import Direction, Shipment, ShipmentState
from restore_lib.site import Site
from restore_lib.vault.courier import Courier, open_courier
from restore_lib.vault.deliveries import acknowledged, delivered
from restore_lib.vault.desk import ReceiveResult, Rejection, Visit
from restore_lib.vault.documents import (
    Acknowledgement,
    DeliveryNote,
    Document,
    PackingList,
    PickList,
    PickupReceipt,
    VaultReceipt,
)
from restore_lib.vault.ledger import Ledger
from restore_lib.vault.overdue import any_overdue, overdue
from restore_lib.vault.recalls import any_unsent, dispatch
from restore_lib.vault.receipts import picked_up, vaulted

_NOT_HANDED_OUT = frozenset({ShipmentState.DRAFT, ShipmentState.PICK_LISTED, ShipmentState.PACKED})


def waiting(site: Site) -> bool:
    """Return whether a document waits at any courier; it looks at nothing else, so it is cheap.

    At a courier that does not answer something may wait.
    """
    return any(_waits(site, name) for name in site.config.couriers)


def needs_attention(site: Site) -> bool:
    """Return whether ``receive`` would find something to do.

    That is a document that waits, a recall that a crash kept from being sent, or a shipment that is
    past its time.
    """
    return waiting(site) or any_unsent(site) or any_overdue(site)


def receive(site: Site, actor: str) -> ReceiveResult:
    """Work through every document that waits, and ask (again) for what is unsent or overdue.

    The same document again has no effect; one that can't be read, or is of no shipment of ours, is
    set aside and named, with the reason. A document is archived only when all that it led to is
    done or drafted, so after a crash this is called again and goes on. An error with one document
    or one courier leaves what it concerns waiting, does not keep the others, and is raised at the
    end.
    """
    visit = Visit.begin(site, actor)
    result = ReceiveResult()
    handled: list[tuple[Courier, str]] = []
    failures: list[TapeflowError] = []
    for courier, name, document in _letters(site, failures):
        with _kept(failures):
            result += _work_through(visit, courier, name, document)
            handled.append((courier, name))
    with _kept(failures):
        dispatch(site)
    with _kept(failures):
        result += overdue(site, actor)
    for courier, name in handled:
        with _kept(failures):
            courier.done(name)
    if failures:
        raise failures[0]
    return result


@contextmanager
def _kept(failures: list[TapeflowError]) -> Iterator[None]:
    """Keep an error among ``failures`` and go on."""
    try:
        yield
    except TapeflowError as error:
        failures.append(error)


def _waits(site: Site, name: str) -> bool:
    try:
        return open_courier(name, site.config.couriers[name]).waiting()
    except RetryLater:
        return True


def _letters(
    site: Site, failures: list[TapeflowError]
) -> Iterator[tuple[Courier, str, Document | TapeflowError]]:
    """Yield what waits at each courier that answers."""
    for name, config in site.config.couriers.items():
        with _kept(failures):
            courier = open_courier(name, config)
            for letter, document in courier.receive():
                yield courier, letter, document


def _work_through(
    visit: Visit, courier: Courier, name: str, document: Document | TapeflowError
) -> ReceiveResult:
    if isinstance(document, TapeflowError):
        problem = str(document)
    else:
        problem = _problem(visit.site, courier, document)
        if not problem:
            return _enter(visit, document)
    courier.reject(name, problem)
    return ReceiveResult(rejected=(Rejection(display_key(os.fsencode(name)), problem),))


def _enter(visit: Visit, document: Document) -> ReceiveResult:
    if isinstance(document, DeliveryNote):
        return delivered(visit, document.shipment, document)
    with visit.site.catalog.write() as connection:
        ledger = Ledger.open(connection, visit, document.shipment)
        if ledger is not None:
            match document:
                case Acknowledgement():
                    return acknowledged(ledger, document)
                case PickupReceipt():
                    return picked_up(ledger, document)
                case VaultReceipt():
                    return vaulted(ledger, document)
    return ReceiveResult()


def _problem(site: Site, courier: Courier, document: Document) -> str:
    """Say why a document that can be read is not one to act on; nothing when it is."""
    if isinstance(document, PickList | PackingList):
        return f"a {document.title} goes to the vault, it does not come from it"
    if document.cluster != site.config.cluster.id:
        return f"it is for cluster {document.cluster}, this is {site.config.cluster.id}"
    with site.catalog.read() as connection:
        shipment = shipments.shipment(connection, document.shipment)
    if shipment is None:
        return f"there is no shipment {document.shipment}"
    vault = site.config.vaults.get(shipment.vault)
    if shipment.vault != document.vault or vault is None or vault.courier != courier.name:
        return f"shipment {shipment.id} is with vault {shipment.vault} and its courier"
    return _out_of_turn(document, shipment)


def _out_of_turn(document: Document, shipment: Shipment) -> str:
    inbound = isinstance(document, Acknowledgement | DeliveryNote)
    if inbound is not (shipment.direction is Direction.IN):
        return f"shipment {shipment.id} goes the other way"
    if not inbound and shipment.state in _NOT_HANDED_OUT:
        return f"shipment {shipment.id} is {shipment.state}: it has not been handed out yet"
    return ""
