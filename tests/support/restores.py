"""Restore requests as flows leave them, written straight into a catalog."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Table, insert

from restore_lib.catalog.tables import (
    batches,
    custody_events,
    items,
    restore_requests,
    shipment_lines,
    shipments,
    volumes,
    waves,
)

BEGAN = datetime(2030, 1, 1, 9, tzinfo=UTC)
PLAN: Mapping[str, Any] = {
    "estimate": {
        "seconds": 100.0,
        "p95_seconds": 150.0,
        "stages": {
            "recall": {"seconds": 60.0, "p95_seconds": 90.0},
            "read": {"seconds": 40.0, "p95_seconds": 50.0},
        },
    }
}


def at(seconds: float) -> datetime:
    """Return the time so long after the request was made."""
    return BEGAN + timedelta(seconds=seconds)


class History:
    """Writes rows of one request; the values that tests don't care about are filled in."""

    def __init__(self, connection: Connection, **values: object) -> None:
        self.connection = connection
        request = {
            "store": "shop",
            "target": "shop",
            "overwrite": "never",
            "source": {"incident": 1},
            "reason": "restore",
            "actor": "ann",
            "state": "active",
            "created_at": BEGAN,
            "plan": PLAN,
        }
        self.id = self._insert(restore_requests, request | values)
        self._waves = 0

    def item(self, key: bytes, state: str, **values: object) -> int:
        row = {
            "request_id": self.id,
            "key": key,
            "state": state,
            "loss_class": "on_tape",
            "size": 10,
            "sha256": "ab" * 32,
            "ended_at": None if state in {"pending", "batched"} else at(90),
        }
        if state == "restored":
            row["way"] = "tape"
        return self._insert(items, row | values)

    def wave(self, opened: float, settled: float | None = None, **values: object) -> int:
        self._waves += 1
        row = {
            "request_id": self.id,
            "number": self._waves,
            "state": "open" if settled is None else "settled",
            "runner": "cli",
            "opened_at": at(opened),
            "touched_at": at(opened),
            "settled_at": None if settled is None else at(settled),
        }
        return self._insert(waves, row | values)

    def batch(
        self,
        held: list[str],
        began: float | None = None,
        ended: float | None = None,
        **values: object,
    ) -> int:
        row = {
            "request_id": self.id,
            "kind": "read",
            "volumes": held,
            "objects": 1,
            "bytes": 10,
            "estimate": 1.0,
            "state": "planned" if began is None else "running" if ended is None else "done",
            "attempts": int(began is not None),
            "started_at": None if began is None else at(began),
            "ended_at": None if ended is None else at(ended),
        }
        return self._insert(batches, row | values)

    def volume(self, *barcodes: str) -> None:
        for barcode in barcodes:
            self.connection.execute(
                insert(volumes).values(
                    barcode=barcode,
                    content="full",
                    health="ok",
                    custody="mountable",
                    flags=[],
                    place="library",
                )
            )

    def shipment(
        self, asked: float, arrived: float | None, lines: Mapping[str, str], **values: object
    ) -> int:
        row = {
            "direction": "in",
            "state": "pick_listed" if arrived is None else "closed",
            "vault": "hill",
            "reason": "restore",
            "request_id": self.id,
            "round": 0,
            "created_at": at(asked),
            "arrived_at": None if arrived is None else at(arrived),
        }
        shipment_id = self._insert(shipments, row | values)
        for barcode, state in lines.items():
            self.connection.execute(
                insert(shipment_lines).values(
                    shipment_id=shipment_id, barcode=barcode, box=0, state=state, reason="restore"
                )
            )
        return shipment_id

    def event(self, seconds: float, barcode: str, field: str, before: str, after: str) -> None:
        self._insert(
            custody_events,
            {
                "barcode": barcode,
                "at": at(seconds),
                "field": field,
                "before": before,
                "after": after,
                "place": "library",
                "actor": "ann",
                "reason": "test",
            },
        )

    def _insert(self, table: Table, row: Mapping[str, object]) -> int:
        returning = insert(table).values(row).returning(table.c.id)
        return int(self.connection.execute(returning).scalar_one())
