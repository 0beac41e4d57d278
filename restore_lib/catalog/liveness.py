"""Which versions of objects are live, and how much of each tape set they take.

A version is *live* while a recovery point that is open or committed lies in its interval, from
``first_rp`` up to, not including, ``gone_rp``; a version of which only some parts are on tape,
while the recovery point that writes it is open. Live too, whatever retention says, is what an
unfinished restore or an open incident refers to. Only what is not live may ever be reclaimed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    CompoundSelect,
    Connection,
    Row,
    and_,
    case,
    func,
    literal,
    or_,
    select,
    text,
    tuple_,
    union_all,
)

from restore_lib.catalog.repairs import RUNNING
from restore_lib.catalog.tables import (
    extent_in_tape_file,
    extents,
    incidents,
    items,
    losses,
    objects,
    recovery_points,
    repairs,
    restore_requests,
    stripes,
    tape_files,
    tape_sets,
    versions,
)
from restore_lib.model.states import (
    ITEM_ENDS,
    OPEN_REQUESTS,
    IncidentState,
    RecoveryPointState,
    SetState,
)

_HOLD_LOCK = 0x7A9E11FE  # on PostgreSQL, who refers to versions anew, and who lets them go


@dataclass(frozen=True, slots=True)
class SetUse:
    """What a closed set holds: extents and their bytes as stored, in all and of live versions."""

    tape_set: str
    extents: int
    size: int
    live_extents: int
    live_size: int


@dataclass(frozen=True, slots=True)
class LiveExtent:
    """One extent of a live version: where it lies, and all that its line in an index says.

    ``stripe`` is the number of its tape file on the volume ``barcode``. ``object_sha256`` is None
    of an object whose last part is still to come. ``in_use``: an unfinished restore refers to it.
    """

    id: int
    version_id: int
    store: str
    key: bytes
    store_version: str | None
    etag: str | None
    modified_at: datetime
    content_type: str | None
    metadata: Mapping[str, str]
    object_size: int
    object_sha256: str | None
    part: int
    parts: int
    stripe: int
    position: int
    barcode: str
    member: str
    offset: int
    size: int
    sha256: str
    stored_size: int
    stored_sha256: str
    in_use: bool

    @property
    def place(self) -> tuple[int, int, int]:
        """Position, stripe and offset: ``live_extents`` goes on behind it."""
        return self.position, self.stripe, self.offset


def hold(connection: Connection) -> None:
    """Keep others from letting versions go until this transaction ends.

    Called before the first look at recovery points or versions by whatever makes them live.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock_shared(:lock)"), {"lock": _HOLD_LOCK})


def let_go(connection: Connection) -> None:
    """Wait for all that hold versions, and keep new ones out until this transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _HOLD_LOCK})


def live_bytes_of_sets(connection: Connection, tape_set: str | None = None) -> list[SetUse]:
    """Return what the closed sets hold, in order of their ids: all, or the one that is named."""
    live = _liveness()
    stored = func.coalesce(extents.c.stored_size, 0)
    is_live = case((live.live, 1), else_=0)
    query = (
        select(
            tape_sets.c.id,
            func.count(extents.c.id),
            func.coalesce(func.sum(stored), 0),
            func.coalesce(func.sum(is_live), 0),
            func.coalesce(func.sum(is_live * stored), 0),
        )
        .select_from(tape_sets)
        .outerjoin(stripes, stripes.c.tape_set == tape_sets.c.id)
        .outerjoin(extents, extents.c.stripe_id == stripes.c.id)
        .outerjoin(versions, versions.c.id == extents.c.version_id)
        .outerjoin(live.points, live.points.c.id == versions.c.first_rp)
        .where(tape_sets.c.state == SetState.CLOSED)
        .group_by(tape_sets.c.id)
        .order_by(tape_sets.c.id)
    )
    if tape_set is not None:
        query = query.where(tape_sets.c.id == tape_set)
    return [SetUse(row[0], *map(int, row[1:])) for row in connection.execute(query)]


def has_live_extents(connection: Connection, tape_set: str) -> bool:
    """Return whether anything on a set, in whatever state, is live."""
    live = _liveness()
    query = (
        select(extents.c.id)
        .join(stripes, stripes.c.id == extents.c.stripe_id)
        .join(versions, versions.c.id == extents.c.version_id)
        .join(live.points, live.points.c.id == versions.c.first_rp)
        .where(stripes.c.tape_set == tape_set, live.live)
        .limit(1)
    )
    return connection.execute(query).first() is not None


def live_extents(
    connection: Connection, tape_set: str, after: tuple[int, int, int] | None, limit: int
) -> list[LiveExtent]:
    """Return live extents of a set in the order in which they lie on its volumes, a page at a time.

    ``after`` is the ``place`` of the last one of the page before, None for the first page.
    """
    live = _liveness()
    in_use = versions.c.id.in_(_asked_for()).label("in_use")
    place = (extents.c.position, stripes.c.number, extents.c.offset)
    query = (
        select(
            extents,
            in_use,
            objects.c.store,
            objects.c.key,
            versions.c.store_version,
            versions.c.etag,
            versions.c.modified_at,
            versions.c.content_type,
            versions.c.metadata,
            versions.c.size.label("object_size"),
            versions.c.sha256.label("object_sha256"),
            versions.c.parts,
            stripes.c.number,
            tape_files.c.barcode,
        )
        .select_from(extents)
        .join(stripes, stripes.c.id == extents.c.stripe_id)
        .join(tape_files, extent_in_tape_file)
        .join(versions, versions.c.id == extents.c.version_id)
        .join(objects, objects.c.id == versions.c.object_id)
        .join(live.points, live.points.c.id == versions.c.first_rp)
        .where(stripes.c.tape_set == tape_set, live.live)
        .order_by(*place)
        .limit(limit)
    )
    if after is not None:
        query = query.where(tuple_(*place) > tuple_(*map(literal, after)))
    return [_live_extent(row) for row in connection.execute(query)]


def live_on_volumes(connection: Connection, tape_set: str) -> dict[str, int]:
    """Return the volumes of a set that hold live payloads, each with the largest's stored bytes."""
    live = _liveness()
    query = (
        select(tape_files.c.barcode, func.max(extents.c.stored_size).label("largest"))
        .select_from(extents)
        .join(stripes, stripes.c.id == extents.c.stripe_id)
        .join(tape_files, extent_in_tape_file)
        .join(versions, versions.c.id == extents.c.version_id)
        .join(live.points, live.points.c.id == versions.c.first_rp)
        .where(stripes.c.tape_set == tape_set, live.live)
        .group_by(tape_files.c.barcode)
        .order_by(tape_files.c.barcode)
    )
    return {row.barcode: row.largest for row in connection.execute(query)}


def next_points(*states: RecoveryPointState) -> CTE:
    """Return each recovery point with ``next``: the first from it on, of its store, in a state."""
    wanted = case((recovery_points.c.state.in_(states), recovery_points.c.id))
    return select(
        recovery_points.c.id,
        recovery_points.c.state,
        func.min(wanted)
        .over(
            partition_by=recovery_points.c.store,
            order_by=recovery_points.c.id.desc(),
            rows=(None, 0),
        )
        .label("next"),
    ).cte("points")


def is_held(points: CTE) -> ColumnElement[bool]:
    """Return the condition that a whole version is in one of the ``next_points``.

    The versions are joined to these by ``first_rp``.
    """
    return and_(
        versions.c.sha256.is_not(None),
        points.c.next.is_not(None),
        or_(versions.c.gone_rp.is_(None), points.c.next < versions.c.gone_rp),
    )


def sets_under_repair(connection: Connection) -> set[str]:
    """Return the sets of which a member is being written anew: all that is on them is needed."""
    query = select(repairs.c.tape_set).where(repairs.c.state == RUNNING)
    return set(connection.execute(query).scalars())


@dataclass(frozen=True, slots=True)
class _Liveness:
    """``live`` is true of the live versions, joined to ``points`` by ``first_rp``."""

    points: CTE
    live: ColumnElement[bool]


def _liveness() -> _Liveness:
    points = next_points(RecoveryPointState.OPEN, RecoveryPointState.COMMITTED)
    begun = and_(versions.c.sha256.is_(None), points.c.state == RecoveryPointState.OPEN)
    lost = (
        select(losses.c.version_id)
        .join(incidents, incidents.c.id == losses.c.incident_id)
        .where(incidents.c.state == IncidentState.OPEN, losses.c.version_id.is_not(None))
    )
    pinned = or_(versions.c.id.in_(_asked_for()), versions.c.id.in_(lost))
    return _Liveness(points, or_(is_held(points), begun, pinned))


def _asked_for() -> CompoundSelect[Any]:
    """Return the versions that unfinished restores refer to: those asked for, and those read."""
    return union_all(
        *(
            select(column)
            .join(restore_requests, restore_requests.c.id == items.c.request_id)
            .where(
                restore_requests.c.state.in_(OPEN_REQUESTS),
                items.c.state.not_in(ITEM_ENDS),
                column.is_not(None),
            )
            for column in (items.c.version_id, items.c.source_id)
        )
    )


def _live_extent(row: Row[Any]) -> LiveExtent:
    return LiveExtent(
        id=row.id,
        version_id=row.version_id,
        store=row.store,
        key=bytes(row.key),
        store_version=row.store_version,
        etag=row.etag,
        modified_at=row.modified_at,
        content_type=row.content_type,
        metadata=row.metadata,
        object_size=row.object_size,
        object_sha256=row.object_sha256,
        part=row.part,
        parts=row.parts,
        stripe=row.number,
        position=row.position,
        barcode=row.barcode,
        member=row.member,
        offset=row.offset,
        size=row.size,
        sha256=row.sha256,
        stored_size=row.stored_size,
        stored_sha256=row.stored_sha256,
        in_use=row.in_use,
    )
