"""The books of one shipment during one transaction: custody, flags, lines, audit."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from sqlalchemy import Connection

from restore_lib.catalog import audit, shipments, volumes
from restore_lib.model.shipment import Line, LineState, Shipment, ShipmentState
from restore_lib.model.volume import Custody, Flag, Health, Volume
from restore_lib.vault.desk import Visit


@dataclass
class Ledger:
    """Writes what happens to the volumes of ``shipment``, each entry with its cause."""

    connection: Connection
    visit: Visit
    shipment: Shipment
    lines: list[Line] = field(default_factory=list)

    @classmethod
    def open(cls, connection: Connection, visit: Visit, shipment_id: int) -> Self | None:
        """Take a shipment for this transaction alone, with its lines; None when there is none."""
        found = shipments.shipment(connection, shipment_id, lock=True)
        if found is None:
            return None
        return cls(connection, visit, found, shipments.lines_of(connection, shipment_id))

    def advance(self, *way: ShipmentState, **values: object) -> None:
        """Take the shipment through the states of ``way``."""
        shipments.advance(self.connection, self.shipment, *way, **values)
        self._reread()

    def mark(self, barcodes: Iterable[str], state: LineState, note: str = "") -> None:
        """Bring the lines of these volumes to ``state``."""
        wanted = set(barcodes)
        chosen = [line for line in self.lines if line.barcode in wanted]
        if chosen:
            shipments.change_lines(self.connection, chosen, state, note=note)
            self._reread()

    def add_extra(self, barcodes: list[str], note: str) -> None:
        """Add lines for volumes that are not on the list."""
        if barcodes:
            shipments.add_extra_lines(self.connection, self.shipment, barcodes, note)
            self._reread()

    def move(
        self,
        barcodes: Iterable[str],
        way: tuple[Custody, Custody],
        place: str | None,
        reason: str,
    ) -> None:
        """Hand volumes over, from the first custody of ``way`` to the second.

        They are at ``place`` from then on, or where they were when it is None.
        """
        cause = self.cause(reason)
        volumes.change(self.connection, barcodes, "custody", *way, place=place, **cause)

    def heal(self, barcodes: Iterable[str], way: tuple[Health, Health], reason: str) -> None:
        """Bring the health of volumes from the first of ``way`` to the second."""
        volumes.change(self.connection, barcodes, "health", *way, **self.cause(reason))

    def flag(self, barcodes: Iterable[str], flag: Flag, reason: str) -> list[str]:
        """Set a flag on volumes; return those that did not have it."""
        return volumes.set_flag(self.connection, barcodes, flag, **self.cause(reason))

    def unflag(self, barcodes: Iterable[str], flags: Iterable[Flag], reason: str) -> None:
        """Clear flags on volumes."""
        names = list(barcodes)
        for flag in flags:
            volumes.clear_flag(self.connection, names, flag, **self.cause(reason))

    def audit(self, action: str, **detail: Any) -> None:
        """Append an event on this shipment to the audit trail."""
        subject = f"shipment:{self.shipment.id}"
        now, actor = self.visit.now, self.visit.actor
        audit.record(self.connection, now, actor, action, subject, detail)

    def in_state(self, *states: LineState) -> list[str]:
        """Return the volumes whose lines are in one of ``states``."""
        return [line.barcode for line in self.lines if line.state in states]

    def volumes(self, barcodes: Iterable[str], *custody: Custody) -> list[Volume]:
        """Return those of these volumes that are in one of ``custody``, or all of them."""
        return volumes.volumes(self.connection, barcodes, custody=custody or None)

    def cause(self, reason: str) -> dict[str, Any]:
        """Return who, why, when and by which shipment, as the catalog's functions take it."""
        return {
            "actor": self.visit.actor,
            "reason": reason,
            "shipment_id": self.shipment.id,
            "at": self.visit.now,
        }

    def _reread(self) -> None:
        again = shipments.shipment(self.connection, self.shipment.id)
        self.shipment = again or self.shipment
        self.lines = shipments.lines_of(self.connection, self.shipment.id)
