"""Waves: batches of one request that became possible together, and who runs them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, case, func, insert, select, update

from restore_lib.catalog.bulk import chunks
from restore_lib.catalog.tables import batches, restore_requests, waves
from restore_lib.errors import InvalidTransition
from restore_lib.model.states import BatchKind, BatchState, WaveState

_AT_WORK = (BatchState.PLANNED, BatchState.RUNNING)


@dataclass(frozen=True, slots=True)
class Wave:
    """Batches of one request that became possible together."""

    id: int
    request_id: int
    number: int
    state: WaveState
    runner: str


def open_wave(
    connection: Connection,
    request_id: int,
    batch_ids: Sequence[int],
    runner: str,
    at: datetime,
) -> int:
    """Make a wave of planned batches; InvalidTransition when one is in another wave already."""
    number = connection.execute(
        select(func.count()).select_from(waves).where(waves.c.request_id == request_id)
    ).scalar_one()
    opened = insert(waves).values(
        request_id=request_id,
        number=number + 1,
        state=WaveState.OPEN,
        runner=runner,
        opened_at=at,
        touched_at=at,
    )
    wave_id: int = connection.execute(opened.returning(waves.c.id)).scalar_one()
    claimed = 0
    for chunk in chunks(batch_ids):
        claimed += connection.execute(
            update(batches)
            .where(batches.c.id.in_(chunk), batches.c.wave_id.is_(None))
            .values(wave_id=wave_id)
        ).rowcount
    if claimed != len(batch_ids):
        raise InvalidTransition(
            f"Some batches of restore request {request_id} went into another wave meanwhile.",
            remedy="claim again; it starts from what is free then",
        )
    return wave_id


def wave(connection: Connection, wave_id: int) -> Wave:
    """Return a wave."""
    row = connection.execute(select(waves).where(waves.c.id == wave_id)).one()
    return _wave(row)


def open_waves(connection: Connection, runner: str | None = None) -> list[Wave]:
    """Return the waves that are not settled, of one runner or of all."""
    query = select(waves).where(waves.c.state == WaveState.OPEN).order_by(waves.c.id)
    if runner is not None:
        query = query.where(waves.c.runner == runner)
    return [_wave(row) for row in connection.execute(query)]


def is_of(connection: Connection, wave_id: int | None, runner: str) -> bool:
    """Whether a wave is an open one of ``runner``; no wave is nobody's."""
    query = select(waves.c.id).where(
        waves.c.id == wave_id, waves.c.runner == runner, waves.c.state == WaveState.OPEN
    )
    return wave_id is not None and connection.execute(query).one_or_none() is not None


def touch_wave(connection: Connection, wave_id: int, at: datetime) -> None:
    """Note that somebody is at work on a wave."""
    connection.execute(update(waves).where(waves.c.id == wave_id).values(touched_at=at))


def untouched_waves(connection: Connection, since: datetime) -> list[Wave]:
    """Return open waves that nobody has worked on after ``since``: their runner has died."""
    query = select(waves).where(waves.c.state == WaveState.OPEN, waves.c.touched_at < since)
    return [_wave(row) for row in connection.execute(query)]


def settle_wave(connection: Connection, wave_id: int, at: datetime) -> None:
    """Mark a wave as settled."""
    connection.execute(
        update(waves)
        .where(waves.c.id == wave_id, waves.c.state == WaveState.OPEN)
        .values(state=WaveState.SETTLED, settled_at=at)
    )


def given(connection: Connection, request_ids: Sequence[int]) -> dict[int, float]:
    """Return the drive seconds, by estimate, that each of these requests was given in waves."""
    query = (
        select(batches.c.request_id, func.sum(batches.c.estimate))
        .where(batches.c.request_id.in_(request_ids), batches.c.wave_id.is_not(None))
        .group_by(batches.c.request_id)
    )
    found = {row[0]: row[1] for row in connection.execute(query)}
    return {number: found.get(number, 0.0) for number in request_ids}


def planned_of(connection: Connection, runner: str, kind: BatchKind, barcode: str) -> int | None:
    """Return the first batch of a volume and kind that ``runner`` has claimed and nobody begun."""
    query = (
        select(func.min(batches.c.id))
        .join(waves, waves.c.id == batches.c.wave_id)
        .where(
            waves.c.runner == runner,
            waves.c.state == WaveState.OPEN,
            batches.c.state == BatchState.PLANNED,
            batches.c.attempts == 0,
            batches.c.kind == kind,
            batches.c.barcode == barcode,
        )
    )
    found: int | None = connection.execute(query).scalar_one()
    return found


def give_back(connection: Connection, batch_id: int) -> None:
    """Let a batch that has not ended wait for another wave; that is no try of its items."""
    connection.execute(
        update(batches)
        .where(batches.c.id == batch_id, batches.c.state.in_(_AT_WORK))
        .values(state=BatchState.PLANNED, wave_id=None)
    )


def give_back_planned(connection: Connection, request_id: int) -> int:
    """Let the batches of a request that nobody has begun wait for another wave; return how many."""
    return connection.execute(
        update(batches)
        .where(
            batches.c.request_id == request_id,
            batches.c.state == BatchState.PLANNED,
            batches.c.wave_id.is_not(None),
        )
        .values(wave_id=None)
    ).rowcount


def running(connection: Connection, request_id: int) -> int:
    """Return how many batches of a request run."""
    query = (
        select(func.count())
        .select_from(batches)
        .where(batches.c.request_id == request_id, batches.c.state == BatchState.RUNNING)
    )
    count: int = connection.execute(query).scalar_one()
    return count


def slow_down(connection: Connection, request_id: int, batch_id: int) -> int:
    """Put a running batch off, and let half as many of its request run at once as do now.

    Return how many that is: one at least.
    """
    asked = select(restore_requests.c.at_once).where(restore_requests.c.id == request_id)
    before = connection.execute(asked.with_for_update()).scalar_one()
    now = running(connection, request_id)
    at_once = max(1, min(now if before is None else before, now) // 2)
    connection.execute(
        update(batches)
        .where(batches.c.id == batch_id, batches.c.state == BatchState.RUNNING)
        .values(state=BatchState.PLANNED)
    )
    connection.execute(
        update(restore_requests).where(restore_requests.c.id == request_id).values(at_once=at_once)
    )
    return at_once


def speed_up(connection: Connection, request_id: int, most: int) -> None:
    """Let one batch more of a request run at once, and any number when it was ``most``."""
    slowed = restore_requests.c.at_once
    connection.execute(
        update(restore_requests)
        .where(restore_requests.c.id == request_id, slowed.is_not(None))
        .values(at_once=case((slowed < most, slowed + 1), else_=None))
    )


def _wave(row: Row[Any]) -> Wave:
    return Wave(row.id, row.request_id, row.number, WaveState(row.state), row.runner)
