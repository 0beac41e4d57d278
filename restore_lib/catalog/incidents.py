"""Incidents: which objects a store has lost, each by name, and what the catalog has of them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row, Select, func, insert, select, update

from restore_lib.catalog.bulk import CHUNK
from restore_lib.catalog.liveness import is_held, next_points
from restore_lib.catalog.recovery_points import live_at, prefix_range
from restore_lib.catalog.tables import (
    incidents,
    losses,
    objects,
    restore_requests,
    versions,
)
from restore_lib.errors import Refused
from restore_lib.model.states import (
    OPEN_REQUESTS,
    IncidentState,
    LossClass,
    RecoveryPointState,
    RequestState,
)
from restore_lib.model.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Incident:
    """One scan that found losses: of which store, against what, and how many of each kind."""

    id: int
    store: str
    reference: str
    rp_id: int | None
    found_at: datetime
    state: IncidentState
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Loss:
    """One lost object, with the size (bytes) and SHA-256 (hex) that it should have, where known.

    ``version_id`` is the newest version on tape, None when there is none.
    """

    key: bytes
    loss_class: LossClass
    version_id: int | None
    size: int | None
    sha256: str | None


@dataclass(frozen=True, slots=True)
class BackedUp:
    """One version of an object that is whole on tape and visible to restores."""

    key: bytes
    version_id: int
    size: int
    sha256: str
    modified_at: datetime


def versions_at(
    connection: Connection, store: str, rp_id: int, prefix: bytes = b""
) -> Iterator[BackedUp]:
    """Yield what recovery point ``rp_id`` of ``store`` holds, streaming, in order of the keys."""
    query = _backed_up(store, prefix).where(live_at(rp_id)).order_by(objects.c.key)
    return _stream(connection, query)


def newest_versions(connection: Connection, store: str, prefix: bytes = b"") -> Iterator[BackedUp]:
    """Yield the newest version of each object that any committed recovery point holds, streaming.

    An object that later recovery points do not hold any more is among them: it is still on tape.
    """
    points = next_points(RecoveryPointState.COMMITTED)
    newest = (
        select(func.max(versions.c.id).label("id"))
        .join(objects, objects.c.id == versions.c.object_id)
        .join(points, points.c.id == versions.c.first_rp)
        .where(objects.c.store == store, prefix_range(objects.c.key, prefix), is_held(points))
        .group_by(versions.c.object_id)
        .subquery()
    )
    query = _backed_up(store, prefix).join(newest, newest.c.id == versions.c.id)
    return _stream(connection, query.order_by(objects.c.key))


def add_incident(
    connection: Connection,
    *,
    store: str,
    reference: str,
    rp_id: int | None,
    at: datetime,
    counts: Mapping[str, int],
    lost: Iterable[Loss],
) -> int:
    """Insert an incident with all its losses, in bulk, and return its id."""
    row = {
        "store": store,
        "reference": reference,
        "rp_id": rp_id,
        "found_at": at,
        "state": IncidentState.OPEN,
        "counts": dict(counts),
    }
    incident_id: int = connection.execute(
        insert(incidents).values(row).returning(incidents.c.id)
    ).scalar_one()
    found = iter(lost)
    while chunk := list(islice(found, CHUNK)):
        connection.execute(
            insert(losses),
            [
                {
                    "incident_id": incident_id,
                    "key": loss.key,
                    "loss_class": loss.loss_class,
                    "version_id": loss.version_id,
                    "size": loss.size,
                    "sha256": loss.sha256,
                }
                for loss in chunk
            ],
        )
    return incident_id


def incident(connection: Connection, incident_id: int) -> Incident:
    """Return an incident; Refused when there is none of this id."""
    row = connection.execute(select(incidents).where(incidents.c.id == incident_id)).one_or_none()
    if row is None:
        raise Refused(
            f"There is no incident {incident_id}.", remedy="run `tapeflow loss-scan` to find losses"
        )
    return _incident(row)


def incidents_of(connection: Connection, store: str | None = None) -> list[Incident]:
    """Return incidents, newest first."""
    query = select(incidents).order_by(incidents.c.id.desc())
    if store is not None:
        query = query.where(incidents.c.store == store)
    return [_incident(row) for row in connection.execute(query)]


def untouched_incidents(connection: Connection, store: str, reference: str) -> list[Incident]:
    """Return the incidents of this store and reference that no restore was asked for yet."""
    asked = select(restore_requests.c.id).where(restore_requests.c.incident_id == incidents.c.id)
    query = (
        select(incidents)
        .where(
            incidents.c.store == store,
            incidents.c.reference == reference,
            incidents.c.state == IncidentState.OPEN,
            ~asked.exists(),
        )
        .order_by(incidents.c.id.desc())
    )
    return [_incident(row) for row in connection.execute(query)]


def close(connection: Connection, incident_id: int) -> None:
    """Close an incident: what it has lost is no longer kept for it; one that is closed stays so."""
    connection.execute(
        update(incidents).where(incidents.c.id == incident_id).values(state=IncidentState.CLOSED)
    )


def restored_before(connection: Connection, store: str, at: datetime) -> list[int]:
    """Return the open incidents found until ``at`` that a restore has brought back whole."""
    asked = select(restore_requests.c.id).where(restore_requests.c.incident_id == incidents.c.id)
    passed = asked.where(
        restore_requests.c.state == RequestState.ENDED,
        restore_requests.c.verdict == Verdict.PASSED,
    )
    waiting = asked.where(restore_requests.c.state.in_(OPEN_REQUESTS))
    query = (
        select(incidents.c.id)
        .where(
            incidents.c.store == store,
            incidents.c.state == IncidentState.OPEN,
            incidents.c.found_at <= at,
            passed.exists(),
            ~waiting.exists(),
        )
        .order_by(incidents.c.id)
    )
    return list(connection.execute(query).scalars())


def losses_of(
    connection: Connection, incident_id: int, loss_class: LossClass | None = None
) -> Iterator[Loss]:
    """Yield the losses of an incident, streaming, in order of their keys."""
    query = select(losses).where(losses.c.incident_id == incident_id).order_by(losses.c.key)
    if loss_class is not None:
        query = query.where(losses.c.loss_class == loss_class)
    for row in connection.execute(query.execution_options(yield_per=CHUNK)):
        yield Loss(bytes(row.key), LossClass(row.loss_class), row.version_id, row.size, row.sha256)


def _backed_up(store: str, prefix: bytes) -> Select[Any]:
    return (
        select(
            objects.c.key,
            versions.c.id,
            versions.c.size,
            versions.c.sha256,
            versions.c.modified_at,
        )
        .join(objects, objects.c.id == versions.c.object_id)
        .where(objects.c.store == store, prefix_range(objects.c.key, prefix))
    )


def _stream(connection: Connection, query: Select[Any]) -> Iterator[BackedUp]:
    for row in connection.execute(query.execution_options(yield_per=CHUNK)):
        yield BackedUp(bytes(row.key), row.id, row.size, row.sha256, row.modified_at)


def _incident(row: Row[Any]) -> Incident:
    return Incident(
        row.id,
        row.store,
        row.reference,
        row.rp_id,
        row.found_at,
        IncidentState(row.state),
        row.counts,
    )
