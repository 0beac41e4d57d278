"""Drills: when each began, what it restored, what it came to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from restore_lib.catalog.bulk import CHUNK
from restore_lib.catalog.tables import drills, items, restore_requests
from restore_lib.errors import Refused
from restore_lib.model.states import DrillState
from restore_lib.model.verdict import Verdict
from restore_lib.model.volume import Reason


@dataclass(frozen=True, slots=True)
class Drill:
    """One drill; ``requests`` are its restore requests, ``evidence`` what it showed so far."""

    id: int
    name: str
    state: DrillState
    started_at: datetime
    ended_at: datetime | None
    requests: tuple[int, ...]
    evidence: Mapping[str, Any]
    verdict: Verdict | None


def add_drill(connection: Connection, name: str, at: datetime, evidence: Mapping[str, Any]) -> int:
    """Insert an active drill without requests yet, and return its id."""
    row = {
        "name": name,
        "state": DrillState.ACTIVE,
        "started_at": at,
        "requests": [],
        "evidence": dict(evidence),
    }
    drill_id: int = connection.execute(
        insert(drills).values(row).returning(drills.c.id)
    ).scalar_one()
    return drill_id


def drill(connection: Connection, drill_id: int) -> Drill:
    """Return a drill; Refused when there is none of this id."""
    row = connection.execute(select(drills).where(drills.c.id == drill_id)).one_or_none()
    if row is None:
        raise Refused(f"There is no drill {drill_id}.", remedy="see `tapeflow drill list`")
    return _drill(row)


def drills_of(
    connection: Connection, name: str | None = None, state: DrillState | None = None
) -> list[Drill]:
    """Return drills, newest first: all, or those of this name and in this state."""
    query = select(drills).order_by(drills.c.id.desc())
    if name is not None:
        query = query.where(drills.c.name == name)
    if state is not None:
        query = query.where(drills.c.state == state)
    return [_drill(row) for row in connection.execute(query)]


def requests_by(connection: Connection, actor: str) -> list[tuple[int, Mapping[str, Any]]]:
    """Return the restore requests that a drill made under this actor's name, oldest first.

    Each as its id and its source.
    """
    query = (
        select(restore_requests.c.id, restore_requests.c.source)
        .where(restore_requests.c.reason == Reason.DRILL, restore_requests.c.actor == actor)
        .order_by(restore_requests.c.id)
    )
    return [(row.id, row.source) for row in connection.execute(query)]


def note_requests(connection: Connection, drill_id: int, request_ids: Sequence[int]) -> None:
    """Set the restore requests of a drill."""
    connection.execute(
        update(drills).where(drills.c.id == drill_id).values(requests=list(request_ids))
    )


def end_drill(
    connection: Connection,
    drill_id: int,
    at: datetime,
    verdict: Verdict,
    evidence: Mapping[str, Any],
) -> bool:
    """End an active drill; False when another process just did."""
    done = connection.execute(
        update(drills)
        .where(drills.c.id == drill_id, drills.c.state == DrillState.ACTIVE)
        .values(state=DrillState.ENDED, ended_at=at, verdict=verdict, evidence=dict(evidence))
    )
    return done.rowcount == 1


def asked_keys(connection: Connection, request_ids: Sequence[int]) -> Iterator[bytes]:
    """Yield the names of all objects that these requests ask for, each once, in order."""
    query = (
        select(items.c.key)
        .distinct()
        .where(items.c.request_id.in_(request_ids))
        .order_by(items.c.key)
        .execution_options(yield_per=CHUNK)
    )
    for key in connection.execute(query).scalars():
        yield bytes(key)


def _drill(row: Row[Any]) -> Drill:
    return Drill(
        row.id,
        row.name,
        DrillState(row.state),
        row.started_at,
        row.ended_at,
        tuple(row.requests),
        row.evidence,
        None if row.verdict is None else Verdict(row.verdict),
    )
