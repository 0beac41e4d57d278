"""Tape sets: which volumes belong together, who writes to them, and what is on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    Select,
    and_,
    case,
    insert,
    or_,
    select,
    text,
    update,
)

from restore_lib.catalog.tables import (
    backup_jobs,
    repacks,
    repairs,
    stripes,
    tape_files,
    tape_sets,
    volumes,
)
from restore_lib.errors import InvalidTransition, NoScratchVolume
from restore_lib.model.states import JobState, SetState
from restore_lib.model.volume import Content, Custody, Health

_IDS = select(tape_sets.c.id)
_CREATION_LOCK = 0x7A9E5E7  # on PostgreSQL, sets are made one after the other


@dataclass(frozen=True, slots=True)
class TapeSet:
    """k data and m parity volumes; ``barcodes`` are in order of their positions."""

    id: str
    policy: str
    k: int
    m: int
    block_size: int
    recipients: tuple[str, ...]
    state: SetState
    stripes: int
    created_at: datetime
    barcodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SetFile:
    """One committed tape file of a set."""

    stripe: int
    position: int
    barcode: str
    blocks: int
    sha256: str
    index_offset: int | None


def tape_set(connection: Connection, set_id: str) -> TapeSet:
    """Return a tape set with its volumes."""
    row = connection.execute(select(tape_sets).where(tape_sets.c.id == set_id)).one()
    return _tape_set(connection, row)


def sets_of_job(connection: Connection, job_id: int) -> list[TapeSet]:
    """Return the open sets that a job holds; a job that was killed finds its set here again."""
    query = (
        select(tape_sets)
        .where(tape_sets.c.job_id == job_id, tape_sets.c.state == SetState.OPEN)
        .order_by(tape_sets.c.id)
    )
    return [_tape_set(connection, row) for row in connection.execute(query).all()]


def idle_open_sets(connection: Connection, policy: str) -> list[TapeSet]:
    """Return the open sets of a policy that no running job or repack holds, oldest first.

    On PostgreSQL they are kept from other jobs until this transaction ends; those that another
    transaction keeps are left out.
    """
    query = (
        _idle_open()
        .where(tape_sets.c.policy == policy)
        .order_by(tape_sets.c.id)
        .with_for_update(of=tape_sets, skip_locked=True)
    )
    return [_tape_set(connection, row) for row in connection.execute(query).all()]


def is_idle(connection: Connection, set_id: str, *, lock: bool = False) -> bool:
    """Return whether a set is open, and held by no running job or repack.

    With ``lock`` it is kept from jobs until this transaction ends; a set that another transaction
    keeps is not idle then.
    """
    query = _idle_open().where(tape_sets.c.id == set_id)
    if lock:
        query = query.with_for_update(of=tape_sets, skip_locked=True)
    return connection.execute(query).first() is not None


def claim_set(connection: Connection, set_id: str, job_id: int) -> None:
    """Give an idle open set, as ``idle_open_sets`` returns it, to a job."""
    connection.execute(update(tape_sets).where(tape_sets.c.id == set_id).values(job_id=job_id))


def create_set(
    connection: Connection,
    *,
    policy: str,
    k: int,
    m: int,
    block_size: int,
    recipients: Sequence[str],
    job_id: int | None,
    at: datetime,
) -> TapeSet:
    """Make a set of free volumes for a job, or for none; NoScratchVolume when there are too few.

    Blank volumes come first, then those of reclaimed sets.
    """
    _lock_creation(connection)
    scratch = _scratch(connection, k + m)
    set_id = f"{policy}-{_highest(connection) + 1:05d}"
    connection.execute(
        insert(tape_sets).values(
            id=set_id,
            policy=policy,
            k=k,
            m=m,
            block_size=block_size,
            recipients=list(recipients),
            state=SetState.OPEN,
            stripes=0,
            job_id=job_id,
            created_at=at,
        )
    )
    for position, barcode in enumerate(scratch):
        _assign(connection, set_id, position, barcode)
    return tape_set(connection, set_id)


def release_set(connection: Connection, set_id: str) -> None:
    """Let other jobs append to an open set."""
    connection.execute(update(tape_sets).where(tape_sets.c.id == set_id).values(job_id=None))
    _end_repack_to(connection, set_id)


def close_set(connection: Connection, set_id: str, at: datetime) -> None:
    """Mark a set as closed; it takes no more stripes and may go to the vault."""
    connection.execute(
        update(tape_sets)
        .where(tape_sets.c.id == set_id, tape_sets.c.state == SetState.OPEN)
        .values(state=SetState.CLOSED, closed_at=at, job_id=None)
    )
    _end_repack_to(connection, set_id)


def files_of_set(connection: Connection, set_id: str) -> list[SetFile]:
    """Return the committed tape files of a set, by stripe and position."""
    query = (
        select(
            stripes.c.number,
            tape_files.c.position,
            tape_files.c.barcode,
            tape_files.c.blocks,
            tape_files.c.sha256,
            tape_files.c.index_offset,
        )
        .join(stripes, stripes.c.id == tape_files.c.stripe_id)
        .where(stripes.c.tape_set == set_id)
        .order_by(stripes.c.number, tape_files.c.position)
    )
    return [SetFile(*row) for row in connection.execute(query)]


def replace_volumes(connection: Connection, set_id: str, spoiled: Sequence[str]) -> None:
    """Put free volumes in the places of spoiled ones, in a set that holds nothing yet."""
    _lock_creation(connection)
    members = volumes.c.tape_set == set_id
    places = connection.execute(
        select(volumes.c.barcode, volumes.c.position)
        .where(members, volumes.c.barcode.in_(spoiled))
        .order_by(volumes.c.position)
    ).all()
    scratch = _scratch(connection, len(places))
    connection.execute(
        update(volumes)
        .where(members, volumes.c.barcode.in_(spoiled))
        .values(tape_set=None, position=None)
    )
    for (_, position), barcode in zip(places, scratch, strict=True):
        _assign(connection, set_id, position, barcode)


def lock_set(connection: Connection, set_id: str) -> None:
    """Keep other transactions from changing a set until this one ends."""
    connection.execute(select(tape_sets.c.id).where(tape_sets.c.id == set_id).with_for_update())


def former_set(connection: Connection, barcode: str) -> str | None:
    """Return the reclaimed set whose label a volume still has, None when it has no such label."""
    query = select(volumes.c.former_set).where(volumes.c.barcode == barcode)
    found: str | None = connection.execute(query).scalar_one()
    return found


def forget_former_set(connection: Connection, barcode: str) -> None:
    """Note that the label of a reclaimed set is written over."""
    connection.execute(update(volumes).where(volumes.c.barcode == barcode).values(former_set=None))


def next_blank(connection: Connection, *, lock: bool = False) -> str:
    """Return the free volume of the library that is taken next; NoScratchVolume: there is none.

    With ``lock``, no other transaction takes it before this one ends.
    """
    if lock:
        _lock_creation(connection)
    return _scratch(connection, 1)[0]


def _end_repack_to(connection: Connection, set_id: str) -> None:
    connection.execute(update(repacks).where(repacks.c.tape_set == set_id).values(tape_set=None))


def _idle_open() -> Select[Any]:
    idle = or_(tape_sets.c.job_id.is_(None), backup_jobs.c.state == JobState.DONE)
    repacked_to = select(repacks.c.id).where(repacks.c.tape_set == tape_sets.c.id).exists()
    return (
        select(tape_sets)
        .outerjoin(backup_jobs, backup_jobs.c.id == tape_sets.c.job_id)
        .where(tape_sets.c.state == SetState.OPEN, idle, ~repacked_to)
    )


def _lock_creation(connection: Connection) -> None:
    """Let one transaction at a time number sets and take blank volumes."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _CREATION_LOCK})


def _highest(connection: Connection) -> int:
    """Return the highest number of a set; a rebuilt catalog may lack some below it."""
    numbers = (set_id.rpartition("-")[2] for set_id in connection.execute(_IDS).scalars())
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def _scratch(connection: Connection, count: int) -> list[str]:
    """Return blank volumes, and behind them those of reclaimed sets, which are written over."""
    blank = volumes.c.content == Content.BLANK
    reclaimed = and_(volumes.c.content == Content.LABELLED, volumes.c.former_set.is_not(None))
    taken = select(repairs.c.replacement).where(repairs.c.ended_at.is_(None))
    free = list(
        connection.execute(
            select(volumes.c.barcode)
            .where(
                or_(blank, reclaimed),
                volumes.c.custody == Custody.MOUNTABLE,
                volumes.c.health == Health.OK,
                volumes.c.tape_set.is_(None),
                volumes.c.barcode.not_in(taken),
            )
            .order_by(case((blank, 0), else_=1), volumes.c.barcode)
            .limit(count)
        ).scalars()
    )
    if len(free) < count:
        raise NoScratchVolume(f"{count} blank volumes are needed, and the library has {len(free)}.")
    return free


def _assign(connection: Connection, set_id: str, position: int, barcode: str) -> None:
    done = connection.execute(
        update(volumes)
        .where(volumes.c.barcode == barcode, volumes.c.tape_set.is_(None))
        .values(tape_set=set_id, position=position)
    )
    if done.rowcount != 1:
        raise InvalidTransition(
            f"Volume {barcode} has been taken by another tape set.",
            remedy="run this again; it takes another volume",
        )


def _tape_set(connection: Connection, row: Row[Any]) -> TapeSet:
    barcodes = connection.execute(
        select(volumes.c.barcode).where(volumes.c.tape_set == row.id).order_by(volumes.c.position)
    ).scalars()
    return TapeSet(
        row.id,
        row.policy,
        row.k,
        row.m,
        row.block_size,
        tuple(row.recipients),
        SetState(row.state),
        row.stripes,
        row.created_at,
        tuple(barcodes),
    )
