"""What earlier restores and drills have shown of the plant, for the forecast of the next one."""

from sqlalchemy import Connection

from restore_lib.catalog import reporting, requests
from restore_lib.catalog.requests import Request
from restore_lib.restore.learn import Seen, learned, seen_in
from restore_lib.restore.plant import Plant

_RESTORES = 5
_ENOUGH = 100
"""Batches that are looked at; a restore that begins below that number is looked at whole."""
_DURATIONS = 30
_OMISSIONS = 30
_READ = 1000


def experienced(connection: Connection, plant: Plant) -> tuple[Plant, list[int]]:
    """Return the plant with its priors narrowed by the newest restores that have ended.

    Also returns their ids, the oldest first. One restore counts as 30 durations, 30 volumes asked
    of a vault and 1,000 volumes read at most, since all of its cases share one day: on another,
    drives, trucks and vaults are different again. These weights are judgement.
    """
    found: list[tuple[int, Seen]] = []
    batches = 0
    for request in requests.newest_ended(connection, _RESTORES):
        seen = _seen_of(connection, plant, request)
        batches += seen.batches.count
        found.insert(0, (request.id, seen.at_most(_DURATIONS, _OMISSIONS, _READ)))
        if batches >= _ENOUGH:
            break
    for _, seen in found:
        plant = learned(plant, seen)
    return plant, [request_id for request_id, _ in found]


def crowding(request: Request) -> float:
    """Return how much longer than undisturbed ones the batches of a request were to take."""
    planned = (request.plan or {}).get("estimate") or {}
    return float(planned.get("crowding", 1.0))


def _seen_of(connection: Connection, plant: Plant, request: Request) -> Seen:
    rows = reporting.batch_rows(connection, request.id)
    recalls = reporting.shipment_rows(connection, request.id)
    read = {barcode for batch in rows for barcode in batch.volumes}
    marks = reporting.volume_marks(
        connection, request.id, read, request.created_at, request.finished_at
    )
    return seen_in(plant, crowding(request), rows, recalls, marks)
