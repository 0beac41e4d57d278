"""What became of shipments to a vault: the truck's receipt, then the vault's."""

from collections.abc import Collection, Sequence

from restore_lib.catalog import shipments
from restore_lib.catalog.shipments import route
from restore_lib.model.shipment import Direction, LineState, ShipmentState
from restore_lib.model.volume import TRUCK, Custody, Flag, vault_place
from restore_lib.vault.desk import ReceiveResult
from restore_lib.vault.documents import PickupReceipt, VaultReceipt
from restore_lib.vault.ledger import Ledger

_ONTO_TRUCK = (Custody.NOTMOUNTABLE, Custody.COURIER)


def picked_up(ledger: Ledger, receipt: PickupReceipt | VaultReceipt) -> ReceiveResult:
    """Record which volumes of a sealed shipment the truck took; the same receipt again: nothing.

    What it left stays on the dock and goes with a later shipment.
    """
    shipment = ledger.shipment
    if shipment.state is not ShipmentState.SEALED:
        return ReceiveResult()
    picked = set(ledger.in_state(LineState.PICKED))
    taken = sorted(picked & set(receipt.volumes))
    left = sorted(picked - set(receipt.volumes))
    ledger.advance(*route(shipment.state, ShipmentState.IN_TRANSIT))
    ledger.mark(taken, LineState.SHIPPED)
    ledger.mark(left, LineState.OMITTED, "left on the dock")
    ledger.move(taken, _ONTO_TRUCK, TRUCK, "picked up")
    _compare_seals(ledger, receipt, taken)
    if left:
        ledger.audit("vault.exceptions", left=left)
    return ReceiveResult(
        advanced=(shipment.id,), omitted=tuple(left), strangers=_unlisted(ledger, receipt.volumes)
    )


def vaulted(ledger: Ledger, receipt: VaultReceipt) -> ReceiveResult:
    """Record which volumes the vault has, and close the shipment; again: nothing.

    A volume that the truck took and the vault has not is flagged as missing. One that turns up in a
    later receipt of the same shipment is taken as arrived then.
    """
    result = picked_up(ledger, receipt)
    shipped = set(ledger.in_state(LineState.SHIPPED))
    missing = sorted(shipped - set(receipt.volumes))
    late = _arrived_late(ledger, receipt.volumes)
    arrived = sorted((shipped & set(receipt.volumes)) | late)
    staged = [v.barcode for v in ledger.volumes(late, Custody.NOTMOUNTABLE)]
    why = f"received by vault {ledger.shipment.vault}"
    ledger.move(staged, _ONTO_TRUCK, TRUCK, why)
    place = vault_place(ledger.shipment.vault)
    ledger.move(arrived, (Custody.COURIER, Custody.VAULT), place, why)
    ledger.mark(arrived, LineState.RECEIVED)
    ledger.unflag(arrived, (Flag.MISSING, Flag.OVERDUE), why)
    _compare_seals(ledger, receipt, arrived)
    ledger.mark(missing, LineState.OMITTED, "not in the vault")
    ledger.flag(missing, Flag.MISSING, f"vault {ledger.shipment.vault} has not received it")
    if missing:
        ledger.audit("vault.exceptions", missing=missing)
    closed = _close(ledger)
    return result + ReceiveResult(
        closed=closed,
        vaulted=tuple(arrived),
        omitted=tuple(missing),
        strangers=_unlisted(ledger, receipt.volumes),
    )


def _compare_seals(
    ledger: Ledger, receipt: PickupReceipt | VaultReceipt, barcodes: Sequence[str]
) -> None:
    """Flag volumes that came under another seal than they were sealed with."""
    seal = ledger.shipment.seal
    if not barcodes or receipt.seal == seal:
        return
    who = "the truck" if isinstance(receipt, PickupReceipt) else f"vault {receipt.vault}"
    if ledger.flag(barcodes, Flag.SEAL_BROKEN, f"{who} found seal {receipt.seal!r}, not {seal!r}"):
        ledger.audit("vault.exceptions", seal=receipt.seal)


def _arrived_late(ledger: Ledger, listed: Collection[str]) -> set[str]:
    """Return the omitted volumes that the vault has after all, and that no other shipment has."""
    omitted = set(ledger.in_state(LineState.OMITTED)) & set(listed)
    elsewhere = {
        line.barcode
        for line in shipments.open_lines(ledger.connection, omitted, Direction.OUT)
        if line.state is not LineState.OMITTED
    }
    found = ledger.volumes(omitted, Custody.NOTMOUNTABLE, Custody.COURIER)
    return {v.barcode for v in found} - elsewhere


def _close(ledger: Ledger) -> tuple[int, ...]:
    shipment = ledger.shipment
    if shipment.ended:
        return ()
    whole = len(ledger.in_state(LineState.RECEIVED)) == len(ledger.lines)
    end = ShipmentState.CLOSED if whole else ShipmentState.CLOSED_WITH_EXCEPTIONS
    way = route(shipment.state, ShipmentState.RECONCILING)
    ledger.advance(*way, end, arrived_at=ledger.visit.now)
    return (shipment.id,)


def _unlisted(ledger: Ledger, listed: Collection[str]) -> tuple[str, ...]:
    return tuple(sorted(set(listed) - {line.barcode for line in ledger.lines}))
