"""Recovery points, the jobs that make them, and which versions of objects are live in them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    func,
    insert,
    or_,
    select,
    text,
    update,
)

from restore_lib.catalog.bulk import CHUNK, chunks
from restore_lib.catalog.tables import (
    backup_jobs,
    extents,
    objects,
    recovery_points,
    stripes,
    versions,
)
from restore_lib.errors import InvalidTransition, LeaseLost, Refused
from restore_lib.model.states import JobState, RecoveryPointState

_BEGIN_LOCKS = 0x7A9E  # on PostgreSQL, backups of one store begin one after the other


@dataclass(frozen=True, slots=True)
class RecoveryPoint:
    """One recovery point of a store."""

    id: int
    policy: str
    store: str
    state: RecoveryPointState
    started_at: datetime
    committed_at: datetime | None
    summary: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """One share of a backup: the keys after ``after`` up to and including ``until``."""

    id: int
    rp_id: int
    after: bytes | None
    until: bytes | None
    objects: int
    size: int
    state: JobState
    summary: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LiveVersion:
    """The newest version of an object that is whole on tape."""

    id: int
    key: bytes
    size: int
    etag: str | None
    store_version: str | None
    modified_at: datetime


def live_at(rp_id: int) -> ColumnElement[bool]:
    """Return the condition that a version is live in recovery point ``rp_id`` of its store."""
    return and_(
        versions.c.first_rp <= rp_id,
        or_(versions.c.gone_rp.is_(None), versions.c.gone_rp > rp_id),
        versions.c.sha256.is_not(None),
    )


def prefix_range(column: ColumnElement[bytes], prefix: bytes) -> ColumnElement[bool]:
    """Return the condition that a key begins with ``prefix``, in a form that an index serves."""
    stem = prefix.rstrip(b"\xff")
    if not stem:
        return column >= prefix
    return and_(column >= prefix, column < stem[:-1] + bytes([stem[-1] + 1]))


def recovery_point(connection: Connection, rp_id: int) -> RecoveryPoint:
    """Return a recovery point; Refused when there is none of this id."""
    row = connection.execute(
        select(recovery_points).where(recovery_points.c.id == rp_id)
    ).one_or_none()
    if row is None:
        raise Refused(f"There is no recovery point {rp_id}.", remedy="see `tapeflow backup list`")
    return _recovery_point(row)


def recovery_points_of(
    connection: Connection, store: str | None = None, state: RecoveryPointState | None = None
) -> list[RecoveryPoint]:
    """Return recovery points, newest first."""
    query = select(recovery_points).order_by(recovery_points.c.id.desc())
    if store is not None:
        query = query.where(recovery_points.c.store == store)
    if state is not None:
        query = query.where(recovery_points.c.state == state)
    return [_recovery_point(row) for row in connection.execute(query)]


def stores_with_points(connection: Connection) -> list[str]:
    """Return the names of the stores that have recovery points, in order."""
    query = select(recovery_points.c.store).distinct().order_by(recovery_points.c.store)
    return list(connection.execute(query).scalars())


def newest_committed(connection: Connection, store: str) -> RecoveryPoint | None:
    """Return the newest committed recovery point of ``store``, or None."""
    found = recovery_points_of(connection, store, RecoveryPointState.COMMITTED)
    return found[0] if found else None


def lock_store(connection: Connection, store: str) -> None:
    """Keep other transactions from beginning a backup of ``store`` until this one ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(
            text("SELECT pg_advisory_xact_lock(:space, hashtext(:store))"),
            {"space": _BEGIN_LOCKS, "store": store},
        )


def begin_recovery_point(connection: Connection, policy: str, store: str, at: datetime) -> int:
    """Insert an open recovery point and return its id."""
    row = {
        "policy": policy,
        "store": store,
        "state": RecoveryPointState.OPEN,
        "started_at": at,
        "summary": {},
    }
    inserted = insert(recovery_points).values(row).returning(recovery_points.c.id)
    rp_id: int = connection.execute(inserted).scalar_one()
    return rp_id


def commit_recovery_point(
    connection: Connection, rp_id: int, at: datetime, summary: Mapping[str, Any]
) -> None:
    """Make an open recovery point appear; InvalidTransition when it is not open any more."""
    done = connection.execute(
        update(recovery_points)
        .where(recovery_points.c.id == rp_id, recovery_points.c.state == RecoveryPointState.OPEN)
        .values(state=RecoveryPointState.COMMITTED, committed_at=at, summary=dict(summary))
    )
    if done.rowcount != 1:
        raise InvalidTransition(
            f"Recovery point {rp_id} is not open.",
            remedy="see `tapeflow backup list`; another process may have committed it",
        )


def add_jobs(
    connection: Connection,
    rp_id: int,
    shares: Sequence[tuple[bytes | None, bytes | None, int, int]],
) -> None:
    """Insert a job for each share (after key, until key, objects, bytes)."""
    rows: list[dict[str, Any]] = [
        {
            "rp_id": rp_id,
            "after_key": after,
            "until_key": until,
            "objects": count,
            "bytes": size,
            "state": JobState.PLANNED,
            "summary": {},
        }
        for after, until, count, size in shares
    ]
    if rows:
        connection.execute(insert(backup_jobs), rows)


def jobs_of(connection: Connection, rp_id: int) -> list[Job]:
    """Return the jobs of a recovery point in the order of their keys."""
    query = select(backup_jobs).where(backup_jobs.c.rp_id == rp_id).order_by(backup_jobs.c.id)
    return [_job(row) for row in connection.execute(query)]


def job(connection: Connection, job_id: int) -> Job:
    """Return a job; Refused when there is none of this id."""
    row = connection.execute(select(backup_jobs).where(backup_jobs.c.id == job_id)).one_or_none()
    if row is None:
        raise Refused(f"There is no backup job {job_id}.", remedy="see `tapeflow backup list`")
    return _job(row)


def begin_run(connection: Connection, job_id: int) -> int:
    """Count a run of a job and return its number; ``check_run`` refuses all earlier ones."""
    query = (
        update(backup_jobs)
        .where(backup_jobs.c.id == job_id)
        .values(run=backup_jobs.c.run + 1)
        .returning(backup_jobs.c.run)
    )
    run: int = connection.execute(query).scalar_one()
    return run


def check_run(connection: Connection, job_id: int, run: int, *, lock: bool = False) -> None:
    """Raise LeaseLost when a later run of the job has begun, or the job is done.

    With ``lock``, none begins before this transaction ends.
    """
    query = select(backup_jobs.c.run, backup_jobs.c.state).where(backup_jobs.c.id == job_id)
    row = connection.execute(query.with_for_update() if lock else query).one()
    if (row.run, row.state) != (run, JobState.PLANNED):
        raise LeaseLost(f"Another run of backup job {job_id} has taken over.", job=job_id)


def end_job(connection: Connection, job_id: int, summary: Mapping[str, Any]) -> None:
    """Mark a job as done."""
    connection.execute(
        update(backup_jobs)
        .where(backup_jobs.c.id == job_id)
        .values(state=JobState.DONE, summary=dict(summary))
    )


def live_versions(
    connection: Connection, store: str, after: bytes | None, until: bytes | None
) -> Iterator[LiveVersion]:
    """Yield the newest whole version of each object in a range of keys, in order of the keys.

    A cut object of which a crash left only some parts on tape is not among them.
    """
    query = (
        select(
            versions.c.id,
            objects.c.key,
            versions.c.size,
            versions.c.etag,
            versions.c.store_version,
            versions.c.modified_at,
        )
        .join(objects, objects.c.id == versions.c.object_id)
        .where(
            objects.c.store == store, versions.c.gone_rp.is_(None), versions.c.sha256.is_not(None)
        )
        .order_by(objects.c.key)
        .execution_options(yield_per=CHUNK)
    )
    if after is not None:
        query = query.where(objects.c.key > after)
    if until is not None:
        query = query.where(objects.c.key <= until)
    for row in connection.execute(query):
        yield LiveVersion(
            row.id,
            bytes(row.key),
            row.size,
            row.etag,
            row.store_version,
            row.modified_at,
        )


def mark_gone(connection: Connection, version_ids: Sequence[int], rp_id: int) -> None:
    """End versions: they are not live any more from recovery point ``rp_id`` on."""
    for chunk in chunks(version_ids):
        connection.execute(update(versions).where(versions.c.id.in_(chunk)).values(gone_rp=rp_id))


def changed_in(connection: Connection, rp_id: int) -> tuple[int, int, int]:
    """Return what recovery point ``rp_id`` backed up: objects, bytes, and objects gone since."""
    added = select(func.count(), func.coalesce(func.sum(versions.c.size), 0)).where(
        versions.c.first_rp == rp_id, live_at(rp_id)
    )
    count, size = connection.execute(added).one()
    newer = versions.alias()
    gone = (
        select(func.count())
        .select_from(versions)
        .outerjoin(
            newer,
            and_(
                newer.c.object_id == versions.c.object_id,
                newer.c.first_rp == rp_id,
                newer.c.sha256.is_not(None),
                or_(newer.c.gone_rp.is_(None), newer.c.gone_rp > rp_id),
            ),
        )
        .where(
            versions.c.gone_rp == rp_id,
            versions.c.first_rp < rp_id,
            versions.c.sha256.is_not(None),
            newer.c.id.is_(None),
        )
    )
    return int(count), int(size), connection.execute(gone).scalar_one()


def sets_written(connection: Connection, rp_id: int) -> list[str]:
    """Return the tape sets that recovery point ``rp_id`` wrote stripes to, in order."""
    query = select(stripes.c.tape_set).where(stripes.c.rp_id == rp_id).distinct()
    return sorted(connection.execute(query).scalars())


def sets_holding(connection: Connection, rp_id: int) -> list[str]:
    """Return the tape sets on which that lies now which recovery point ``rp_id`` backed up."""
    query = (
        select(stripes.c.tape_set)
        .join(extents, extents.c.stripe_id == stripes.c.id)
        .join(versions, versions.c.id == extents.c.version_id)
        .where(versions.c.first_rp == rp_id)
        .distinct()
    )
    return sorted(connection.execute(query).scalars())


def counts_at(connection: Connection, store: str, rp_id: int) -> tuple[int, int]:
    """Return how many objects and bytes recovery point ``rp_id`` holds."""
    query: Select[Any] = (
        select(func.count(), func.coalesce(func.sum(versions.c.size), 0))
        .join(objects, objects.c.id == versions.c.object_id)
        .where(objects.c.store == store, live_at(rp_id))
    )
    count, size = connection.execute(query).one()
    return int(count), int(size)


def _recovery_point(row: Row[Any]) -> RecoveryPoint:
    return RecoveryPoint(
        row.id,
        row.policy,
        row.store,
        RecoveryPointState(row.state),
        row.started_at,
        row.committed_at,
        row.summary,
    )


def _job(row: Row[Any]) -> Job:
    return Job(
        row.id,
        row.rp_id,
        None if row.after_key is None else bytes(row.after_key),
        None if row.until_key is None else bytes(row.until_key),
        row.objects,
        row.bytes,
        JobState(row.state),
        row.summary,
    )
