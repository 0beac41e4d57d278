"""What became of recalls: the vault's acknowledgement, then the truck at the dock."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from restore_lib.catalog import shipments, volumes
from restore_lib.catalog.shipments import route
from restore_lib.errors import TapeflowError, VolumeAbsent
from restore_lib.model.shipment import (
    EXPECTED_LINES,
    Direction,
    Line,
    LineState,
    ShipmentState,
)
from restore_lib.model.volume import (
    DOCK,
    HEALTH_CHANGES,
    LIBRARY,
    TRUCK,
    Custody,
    Flag,
    Health,
    Volume,
)
from restore_lib.vault.desk import ReceiveResult, Visit, due
from restore_lib.vault.documents import Acknowledgement, DeliveryNote
from restore_lib.vault.ledger import Ledger
from restore_lib.vault.recalls import ask_again

AT_ONCE = 200
"""How many volumes of a delivery are taken in before they are entered in the catalog."""
_ASKED = frozenset({ShipmentState.DRAFT, ShipmentState.PICK_LISTED})
_RECALLED = (Custody.VAULT, Custody.VAULTRETRIEVE)
_UNLISTED = "not on the delivery note"
"""The note on a line that no delivery note had so far: one that has it is of another truck."""
_ON_DOCK = (Custody.NOTMOUNTABLE, Custody.ONSITERETRIEVE)


def acknowledged(ledger: Ledger, paper: Acknowledgement) -> ReceiveResult:
    """Record what the vault will send, and ask for the rest again at once; again: nothing.

    The time in which it should come runs anew from now on.
    """
    requested = set(ledger.in_state(LineState.REQUESTED))
    if ledger.shipment.state not in _ASKED or not requested:
        return ReceiveResult()
    shipment = ledger.shipment
    due_at = due(ledger.visit, shipment.vault, shipment.round)
    ledger.advance(*route(shipment.state, ShipmentState.PICK_LISTED), due_at=due_at)
    ledger.mark(requested & set(paper.volumes), LineState.VENDOR_ACKED)
    rest = sorted(requested - set(paper.volumes))
    omitted = [v.barcode for v in ledger.volumes(rest, Custody.VAULTRETRIEVE)]
    ledger.mark(set(rest) - set(omitted), LineState.RECEIVED, "came with another shipment")
    ledger.mark(omitted, LineState.OMITTED, "not acknowledged")
    if not ledger.in_state(LineState.VENDOR_ACKED):
        ledger.advance(ShipmentState.CANCELLED)
    result = ask_again(ledger, omitted, "not acknowledged")
    return result + ReceiveResult(advanced=(ledger.shipment.id,))


@dataclass(frozen=True, slots=True)
class Findings:
    """A scan of the dock against a shipment's lines."""

    received: tuple[str, ...]
    came_before: tuple[str, ...]
    omitted: tuple[str, ...]
    extra: tuple[str, ...]
    strangers: tuple[str, ...]


def compare(
    lines: Sequence[Line],
    dock: Collection[str],
    known: Iterable[Volume],
    elsewhere: Collection[str],
) -> Findings:
    """Compare what lies on the dock with what was to come.

    ``elsewhere`` are the volumes that other open shipments are to bring: they are left to those,
    but for those that this one was to bring and still may. Volumes that wait on the dock to go out
    are nobody's concern here.
    """
    by_name = {v.barcode: v for v in known}
    custody = {name: v.custody for name, v in by_name.items()}
    expected = {line.barcode for line in lines if line.state in EXPECTED_LINES}
    late = {line.barcode for line in lines if line.state is LineState.OMITTED}
    received = {b for b in (expected | late) & set(dock) if custody[b] in _RECALLED}
    absent = expected - received
    omitted = {b for b in absent if custody[b] is Custody.VAULTRETRIEVE}
    others = set(dock) - received - set(elsewhere)
    extra = {b for b in others & by_name.keys() if _came_unasked(by_name[b])}
    waiting = {b for b in others if custody.get(b) in _ON_DOCK}
    return Findings(
        received=tuple(sorted(received)),
        came_before=tuple(sorted(absent - omitted)),
        omitted=tuple(sorted(omitted)),
        extra=tuple(sorted(extra)),
        strangers=tuple(sorted(others - extra - waiting)),
    )


def delivered(visit: Visit, shipment_id: int, note: DeliveryNote) -> ReceiveResult:
    """Compare a delivery with a scan of the dock, and put what came into the library.

    What should have come and does not lie on the dock is flagged as missing and asked for again at
    once; a volume that nobody asked for is taken in and flagged. After a crash it goes on where it
    was, and the same note again does nothing. Raises what the library raises, after recording what
    it did take in.
    """
    dock = visit.site.library.dock()
    result = ReceiveResult()
    with visit.site.catalog.write() as connection:
        ledger = Ledger.open(connection, visit, shipment_id)
        if ledger is not None and ledger.shipment.state is not ShipmentState.RECONCILING:
            result = _reconcile(ledger, dock, note)
    return result + _take_in(visit, shipment_id)


def _reconcile(ledger: Ledger, dock: set[str], note: DeliveryNote) -> ReceiveResult:
    names = {line.barcode for line in ledger.lines}
    elsewhere = {
        line.barcode
        for line in shipments.open_lines(ledger.connection, dock, Direction.IN)
        if line.shipment_id != ledger.shipment.id and line.state in EXPECTED_LINES
    }
    lines = ledger.lines
    if ledger.shipment.ended:
        lines = [
            line
            for line in lines
            if line.barcode not in elsewhere
            or (line.note == _UNLISTED and line.barcode in note.volumes)
        ]
    found = compare(lines, dock, ledger.volumes(names | dock), elsewhere)
    if not ledger.shipment.ended:
        way = route(ledger.shipment.state, ShipmentState.RECONCILING)
        ledger.advance(*way, arrived_at=ledger.visit.now)
    ledger.mark(found.received, LineState.RECEIVED)
    ledger.mark(found.came_before, LineState.RECEIVED, "came with another shipment")
    ledger.add_extra([b for b in found.extra if b not in names], "on the dock, not on the list")
    ledger.flag(found.extra, Flag.UNEXPECTED, "on the dock, though nobody asked for it")
    _bring_in(ledger, found.received + found.extra)
    listed = [b for b in found.omitted if b in note.volumes]
    ledger.mark(listed, LineState.OMITTED, "on the delivery note, not on the dock")
    ledger.mark(set(found.omitted) - set(listed), LineState.OMITTED, _UNLISTED)
    ledger.flag(found.omitted, Flag.MISSING, "expected with a delivery, not on the dock")
    if found.extra or found.omitted:
        ledger.audit("vault.exceptions", extra=found.extra, omitted=found.omitted)
    result = ask_again(ledger, found.omitted, "not delivered")
    return result + ReceiveResult(extra=found.extra, strangers=found.strangers)


def _bring_in(ledger: Ledger, barcodes: Sequence[str]) -> None:
    """Take volumes from the vault to the dock, in the books."""
    why = f"delivered by vault {ledger.shipment.vault}"
    unasked = [v.barcode for v in ledger.volumes(barcodes, Custody.VAULT)]
    ledger.move(unasked, (Custody.VAULT, Custody.VAULTRETRIEVE), None, why)
    sent = [v.barcode for v in ledger.volumes(barcodes, Custody.VAULTRETRIEVE)]
    ledger.move(sent, (Custody.VAULTRETRIEVE, Custody.COURIERRETRIEVE), TRUCK, why)
    ledger.move(sent, (Custody.COURIERRETRIEVE, Custody.ONSITERETRIEVE), DOCK, why)
    found_again = [v.barcode for v in ledger.volumes(barcodes) if v.health is Health.LOST]
    ledger.heal(found_again, (Health.LOST, Health.SUSPECT), "found again")
    ledger.unflag(barcodes, (Flag.MISSING, Flag.OVERDUE), why)


def _take_in(visit: Visit, shipment_id: int) -> ReceiveResult:
    """Admit what a delivery brought into the library, and close the shipment once all is in.

    Some volumes are entered at a time, so that they may be read while the others come in, and what
    two runs do twice when both are at it stays little.
    """
    result = ReceiveResult()
    while True:
        with visit.site.catalog.read() as connection:
            names = [line.barcode for line in shipments.lines_of(connection, shipment_id)]
            arrived = _arrived(volumes.volumes(connection, names))[:AT_ONCE]
        result += _admit(visit, shipment_id, arrived)
        if len(arrived) < AT_ONCE:
            return result


def _admit(visit: Visit, shipment_id: int, arrived: Sequence[str]) -> ReceiveResult:
    """Admit some volumes of a shipment, and enter what came of it."""
    admitted: list[str] = []
    vanished: list[str] = []
    failure: TapeflowError | None = None
    for barcode in arrived:
        try:
            visit.site.library.admit(barcode)
            admitted.append(barcode)
        except VolumeAbsent:
            vanished.append(barcode)
        except TapeflowError as error:
            failure = error
            break
    result = ReceiveResult()
    with visit.site.catalog.write() as connection:
        if ledger := Ledger.open(connection, visit, shipment_id):
            result = _enter(ledger, admitted, vanished)
    if failure is not None:
        raise failure
    return result


def _enter(ledger: Ledger, admitted: Sequence[str], vanished: Sequence[str]) -> ReceiveResult:
    here = _arrived(ledger.volumes(admitted))
    ledger.move(here, (Custody.ONSITERETRIEVE, Custody.MOUNTABLE), LIBRARY, "in the library")
    ledger.mark(set(here) & set(ledger.in_state(LineState.RECEIVED)), LineState.LOADED)
    ledger.flag(vanished, Flag.MISSING, "gone from the dock before it came into the library")
    for volume in ledger.volumes(vanished):
        if Health.LOST in HEALTH_CHANGES[volume.health]:
            ledger.heal([volume.barcode], (volume.health, Health.LOST), "gone from the dock")
    closed: tuple[int, ...] = ()
    names = [line.barcode for line in ledger.lines]
    if ledger.shipment.state is ShipmentState.RECONCILING and not _arrived(ledger.volumes(names)):
        arrived = ledger.in_state(LineState.RECEIVED, LineState.LOADED)
        whole = len(arrived) == len(ledger.lines) and not vanished
        ledger.advance(ShipmentState.CLOSED if whole else ShipmentState.CLOSED_WITH_EXCEPTIONS)
        closed = (ledger.shipment.id,)
    return ReceiveResult(closed=closed, received=tuple(here), lost=tuple(vanished))


def _arrived(found: Iterable[Volume]) -> list[str]:
    """Return the volumes that are between the dock and the library."""
    return [
        v.barcode
        for v in found
        if v.custody is Custody.ONSITERETRIEVE and Flag.MISSING not in v.flags
    ]


def _came_unasked(volume: Volume) -> bool:
    """Return whether a volume on the dock should be in a vault, or had vanished from the dock."""
    vanished = volume.custody is Custody.ONSITERETRIEVE and Flag.MISSING in volume.flags
    return vanished or volume.custody in _RECALLED
