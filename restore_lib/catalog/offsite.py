"""What could go offsite, what has to stay, and where the other members of its set are."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, and_, func, or_, select

from restore_lib.catalog.liveness import sets_under_repair
from restore_lib.catalog.shipments import open_lines
from restore_lib.catalog.tables import (
    batches,
    restore_requests,
    shipment_lines,
    shipments,
    tape_sets,
    volumes,
)
from restore_lib.catalog.volumes import volumes as found_volumes
from restore_lib.model.shipment import SHIPMENT_ENDS, Direction, LineState
from restore_lib.model.states import OPEN_REQUESTS, BatchState, SetState
from restore_lib.model.volume import Custody, Flag, Health, vault_of

_USABLE = (Health.OK, Health.SUSPECT)
_ONSITE = (Custody.MOUNTABLE, Custody.NOTMOUNTABLE)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A volume that could go offsite, and how many members its set can lose."""

    barcode: str
    tape_set: str
    m: int


def candidates(connection: Connection, policy: str | None = None) -> list[Candidate]:
    """Return the usable volumes of closed sets that are onsite and in no open shipment.

    Without those that are read here or will be, and those that are missing.
    """
    leaving = (
        select(shipment_lines.c.barcode)
        .join(shipments, shipments.c.id == shipment_lines.c.shipment_id)
        .where(
            shipments.c.direction == Direction.OUT,
            shipments.c.state.not_in(SHIPMENT_ENDS),
            shipment_lines.c.state != LineState.OMITTED,
        )
    )
    query = (
        select(volumes.c.barcode, volumes.c.tape_set, volumes.c.flags, tape_sets.c.m)
        .join(tape_sets, tape_sets.c.id == volumes.c.tape_set)
        .where(
            tape_sets.c.state == SetState.CLOSED,
            volumes.c.custody.in_(_ONSITE),
            volumes.c.health.in_(_USABLE),
            volumes.c.barcode.not_in(leaving),
        )
        .order_by(volumes.c.tape_set, volumes.c.barcode)
    )
    if policy is not None:
        query = query.where(tape_sets.c.policy == policy)
    kept = awaited(connection)
    return [
        Candidate(row.barcode, row.tape_set, row.m)
        for row in connection.execute(query)
        if row.barcode not in kept and Flag.MISSING not in row.flags
    ]


def left_behind(connection: Connection, barcodes: Iterable[str]) -> list[str]:
    """Return those of these volumes that wait on the dock though no shipment takes them."""
    waiting = [
        volume.barcode
        for volume in found_volumes(connection, barcodes, custody=[Custody.NOTMOUNTABLE])
        if Flag.MISSING not in volume.flags
    ]
    leaving = open_lines(connection, waiting, Direction.OUT)
    taken = {line.barcode for line in leaving if line.state is not LineState.OMITTED}
    return [barcode for barcode in waiting if barcode not in taken]


def awaited(connection: Connection) -> set[str]:
    """Return the volumes that are read here, or will be.

    They are what a restore that has not ended was or will be brought, what a batch reads even now,
    and the members of sets of which one is being written anew.
    """
    running = select(restore_requests.c.id).where(restore_requests.c.state.in_(OPEN_REQUESTS))
    recalled = (
        select(shipment_lines.c.barcode)
        .join(shipments, shipments.c.id == shipment_lines.c.shipment_id)
        .where(shipments.c.direction == Direction.IN, shipments.c.request_id.in_(running))
    )
    planned = select(batches.c.barcode, batches.c.volumes).where(
        or_(
            and_(batches.c.request_id.in_(running), batches.c.state == BatchState.PLANNED),
            batches.c.state == BatchState.RUNNING,
        )
    )
    repaired = select(volumes.c.barcode).where(
        volumes.c.tape_set.in_(sets_under_repair(connection))
    )
    wanted = set(connection.execute(recalled.union(repaired)).scalars())
    for row in connection.execute(planned):
        wanted.update(row.volumes, {row.barcode} - {None})
    return wanted


def members_by_vault(connection: Connection) -> Counter[tuple[str, str]]:
    """Count, by (tape set, vault), the volumes that are in a vault or on their way to it."""
    there = (
        select(volumes.c.tape_set, volumes.c.place, func.count())
        .where(volumes.c.tape_set.is_not(None), volumes.c.place.like("vault:%"))
        .group_by(volumes.c.tape_set, volumes.c.place)
    )
    leaving = (
        select(volumes.c.tape_set, shipments.c.vault, func.count())
        .join(shipment_lines, shipment_lines.c.barcode == volumes.c.barcode)
        .join(shipments, shipments.c.id == shipment_lines.c.shipment_id)
        .where(
            volumes.c.tape_set.is_not(None),
            shipments.c.direction == Direction.OUT,
            shipments.c.state.not_in(SHIPMENT_ENDS),
            shipment_lines.c.state != LineState.OMITTED,
        )
        .group_by(volumes.c.tape_set, shipments.c.vault)
    )
    counted: Counter[tuple[str, str]] = Counter()
    for tape_set, place, count in connection.execute(there):
        counted[tape_set, vault_of(place) or ""] += count
    for tape_set, vault, count in connection.execute(leaving):
        counted[tape_set, vault] += count
    return counted
