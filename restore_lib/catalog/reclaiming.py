"""Tape sets on their way from closed to free volumes: quarantined, forgotten, released.

Each function is one step in the caller's transaction; what a set still holds is forgotten in
bounded portions, before the first of its volumes is free.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, exists, select, update

from restore_lib.catalog import retention
from restore_lib.catalog.batches import batches_of
from restore_lib.catalog.bulk import CHUNK
from restore_lib.catalog.liveness import has_live_extents, let_go, sets_under_repair
from restore_lib.catalog.recovery_points import lock_store
from restore_lib.catalog.tables import (
    extents,
    items,
    losses,
    objects,
    recovery_points,
    stripes,
    tape_files,
    tape_sets,
    versions,
    volumes,
)
from restore_lib.catalog.volumes import change
from restore_lib.catalog.volumes import volumes as found_volumes
from restore_lib.errors import InvalidTransition, Refused
from restore_lib.model.states import BatchState, RecoveryPointState, SetState
from restore_lib.model.volume import Content, Custody, Flag, Health, Volume

_REUSABLE_HEALTH = frozenset({Health.OK, Health.DISABLED})
_STRANGE = frozenset({Flag.MISSING, Flag.FOREIGN, Flag.LABEL_MISMATCH})


@dataclass(frozen=True, slots=True)
class ExpiredSet:
    """A set that is being reclaimed, or may be; ``expired_at`` is when its quarantine began."""

    id: str
    policy: str
    state: SetState
    expired_at: datetime | None


@dataclass(frozen=True, slots=True)
class Released:
    """The volumes of a reclaimed set: ``free`` ones wait for another set."""

    free: tuple[str, ...]
    retired: tuple[str, ...]


def sets_in(connection: Connection, *states: SetState, only: str | None = None) -> list[ExpiredSet]:
    """Return the sets in one of these states, or the one of them that is named, by their ids."""
    query = (
        select(tape_sets.c.id, tape_sets.c.policy, tape_sets.c.state, tape_sets.c.expired_at)
        .where(tape_sets.c.state.in_(states))
        .order_by(tape_sets.c.id)
    )
    if only is not None:
        query = query.where(tape_sets.c.id == only)
    return [
        ExpiredSet(row.id, row.policy, SetState(row.state), row.expired_at)
        for row in connection.execute(query)
    ]


def obstacle(connection: Connection, tape_set: str, content: Content) -> str | None:
    """Return what keeps a set from its next step, None when nothing does.

    That is anything live on it, a member that is being written anew, one that a restore reads, as
    it does when its objects were moved meanwhile, or one that has another ``content`` and is not
    retired.
    """
    if has_live_extents(connection, tape_set):
        return "something on it is live"
    if tape_set in sets_under_repair(connection):
        return "a member is being written anew"
    members = found_volumes(connection, tape_sets=[tape_set])
    running = batches_of(connection, states=[BatchState.RUNNING])
    if being_read := {barcode for batch in running for barcode in batch.volumes}.intersection(
        volume.barcode for volume in members
    ):
        return f"a restore reads {', '.join(sorted(being_read))}"
    others = [
        f"{volume.barcode} is {volume.content}"
        for volume in members
        if volume.content not in {content, Content.RETIRED}
    ]
    return ", ".join(others) or None


def quarantine(connection: Connection, tape_set: str, *, actor: str, at: datetime) -> bool:
    """Expire all volumes of a closed set together; False when there is an obstacle after all."""
    let_go(connection)
    _lock(connection, tape_set, SetState.CLOSED)
    if obstacle(connection, tape_set, Content.FULL) is not None:
        return False
    _enter(connection, tape_set, SetState.QUARANTINED, expired_at=at)
    why = "nothing on it is live"
    _turn(connection, tape_set, (Content.FULL, Content.EXPIRED), actor, why, at)
    step = (Content.EXPIRED, Content.RECLAIM_QUARANTINE)
    _turn(connection, tape_set, step, actor, why, at)
    return True


def bring_back(connection: Connection, tape_set: str, *, actor: str, at: datetime) -> None:
    """Take a set out of quarantine; InvalidTransition when it is not in it."""
    _lock(connection, tape_set, SetState.QUARANTINED)
    _enter(connection, tape_set, SetState.CLOSED, expired_at=None)
    step = (Content.RECLAIM_QUARANTINE, Content.FULL)
    _turn(connection, tape_set, step, actor, "brought back", at)


def begin(connection: Connection, tape_set: str, since: datetime) -> list[int] | None:
    """Give up for good a set that is in quarantine since ``since`` or longer.

    Return the recovery points that can't be brought back from now on; None when the set is not so
    long in quarantine, or there is an obstacle.
    """
    let_go(connection)
    row = _lock(connection, tape_set, SetState.QUARANTINED)
    if row.expired_at is None or row.expired_at > since:
        return None
    if obstacle(connection, tape_set, Content.RECLAIM_QUARANTINE) is not None:
        return None
    _enter(connection, tape_set, SetState.RECLAIMING)
    points = retention.expired_points_on(connection, tape_set)
    retention.purge(connection, points)
    return points


def forget(connection: Connection, tape_set: str, limit: int = CHUNK) -> bool:
    """Delete up to ``limit`` rows of what a set held; False when there was nothing left.

    Versions go with their last extent; items of ended restores, and losses of closed incidents,
    keep all but the version. InvalidTransition unless the set has been given up by ``begin``.
    """
    _lock(connection, tape_set, SetState.RECLAIMING)
    of_set = (
        select(extents.c.id, extents.c.version_id)
        .join(stripes, stripes.c.id == extents.c.stripe_id)
        .where(stripes.c.tape_set == tape_set)
        .order_by(extents.c.id)
        .limit(limit)
    )
    found = connection.execute(of_set).all()
    if found:
        connection.execute(delete(extents).where(extents.c.id.in_([row.id for row in found])))
        _forget_versions(connection, sorted({row.version_id for row in found}))
        return True
    numbers = list(
        connection.execute(
            select(stripes.c.id).where(stripes.c.tape_set == tape_set).limit(limit)
        ).scalars()
    )
    connection.execute(delete(tape_files).where(tape_files.c.stripe_id.in_(numbers)))
    connection.execute(delete(stripes).where(stripes.c.id.in_(numbers)))
    return bool(numbers)


def release(connection: Connection, tape_set: str, *, actor: str, at: datetime) -> Released:
    """Free the volumes of a set that the catalog has forgotten; those that failed are retired."""
    _lock(connection, tape_set, SetState.RECLAIMING)
    if connection.execute(select(stripes.c.id).where(stripes.c.tape_set == tape_set)).first():
        raise InvalidTransition(
            f"The catalog still holds stripes of tape set {tape_set}.",
            remedy="run `tapeflow reclaim run` again",
        )
    _enter(connection, tape_set, SetState.RECLAIMED)
    members = found_volumes(connection, tape_sets=[tape_set], content=[Content.RECLAIM_QUARANTINE])
    free = tuple(volume.barcode for volume in members if _is_reusable(volume))
    failed = tuple(volume.barcode for volume in members if not _is_reusable(volume))
    why = f"set {tape_set} is reclaimed"
    for barcodes, after in ((free, Content.LABELLED), (failed, Content.RETIRED)):
        step = (Content.RECLAIM_QUARANTINE, after)
        change(connection, barcodes, "content", *step, actor=actor, reason=why, at=at)
    of_set = volumes.c.tape_set == tape_set
    connection.execute(
        update(volumes).where(of_set, volumes.c.barcode.in_(free)).values(former_set=tape_set)
    )
    connection.execute(
        update(volumes)
        .where(of_set)
        .values(tape_set=None, position=None, files=0, bytes=0, verified_at=None)
    )
    return Released(free, failed)


def away(connection: Connection) -> list[str]:
    """Return the free volumes of reclaimed sets that are in a vault."""
    query = (
        select(volumes.c.barcode)
        .where(
            volumes.c.former_set.is_not(None),
            volumes.c.tape_set.is_(None),
            volumes.c.content == Content.LABELLED,
            volumes.c.health == Health.OK,
            volumes.c.custody == Custody.VAULT,
        )
        .order_by(volumes.c.barcode)
    )
    return list(connection.execute(query).scalars())


def forget_objects(
    connection: Connection, store: str, after: int, limit: int = CHUNK
) -> int | None:
    """Delete objects of a store without any version, behind the id ``after``.

    Return the id to go on behind, None at the end. Nothing is deleted while a backup of the store
    is under way, which may be about to add versions to them.
    """
    lock_store(connection, store)
    running = select(recovery_points.c.id).where(
        recovery_points.c.store == store, recovery_points.c.state == RecoveryPointState.OPEN
    )
    if connection.execute(running.limit(1)).first() is not None:
        return None
    bare = (
        select(objects.c.id)
        .where(
            objects.c.store == store,
            objects.c.id > after,
            ~exists().where(versions.c.object_id == objects.c.id),
        )
        .order_by(objects.c.id)
        .limit(limit)
    )
    found = list(connection.execute(bare).scalars())
    if not found:
        return None
    connection.execute(delete(objects).where(objects.c.id.in_(found)))
    return int(found[-1])


def _forget_versions(connection: Connection, candidates: Sequence[int]) -> None:
    bare = list(
        connection.execute(
            select(versions.c.id).where(
                versions.c.id.in_(candidates),
                ~exists().where(extents.c.version_id == versions.c.id),
            )
        ).scalars()
    )
    for table in (items, losses):
        connection.execute(
            update(table).where(table.c.version_id.in_(bare)).values(version_id=None)
        )
    connection.execute(delete(versions).where(versions.c.id.in_(bare)))


def _is_reusable(volume: Volume) -> bool:
    return volume.health in _REUSABLE_HEALTH and _STRANGE.isdisjoint(volume.flags)


def _turn(
    connection: Connection,
    tape_set: str,
    step: tuple[Content, Content],
    actor: str,
    reason: str,
    at: datetime,
) -> None:
    """Bring the members of a set from one content to the next."""
    members = found_volumes(connection, tape_sets=[tape_set], content=[step[0]])
    barcodes = [volume.barcode for volume in members]
    change(connection, barcodes, "content", *step, actor=actor, reason=reason, at=at)


def _lock(connection: Connection, tape_set: str, expected: SetState) -> Row[Any]:
    """Keep a set from other transactions until this one ends, if it is in the expected state."""
    row = connection.execute(
        select(tape_sets).where(tape_sets.c.id == tape_set).with_for_update()
    ).one_or_none()
    if row is None:
        raise Refused(f"There is no tape set {tape_set!r}.", remedy="see `tapeflow reclaim plan`")
    if row.state != expected:
        raise InvalidTransition(
            f"Tape set {tape_set} is {row.state}, not {expected}.",
            remedy="see `tapeflow reclaim plan`",
        )
    return row


def _enter(connection: Connection, tape_set: str, state: SetState, **values: object) -> None:
    connection.execute(
        update(tape_sets).where(tape_sets.c.id == tape_set).values(state=state, **values)
    )
