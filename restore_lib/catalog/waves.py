"""Waves: batches of one request that became possible together, and who runs them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from restore_lib.catalog.bulk import chunks
from restore_lib.catalog.tables import batches, waves
from restore_lib.errors import InvalidTransition
from restore_lib.model.states import WaveState


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
        raise InvalidTransition("Some batches went into another wave meanwhile.")
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


def _wave(row: Row[Any]) -> Wave:
    return Wave(row.id, row.request_id, row.number, WaveState(row.state), row.runner)
