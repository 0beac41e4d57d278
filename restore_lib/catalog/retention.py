"""What the catalog knows for retention: a store's recovery points, and what of them is readable."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    or_,
    select,
    update,
)

from restore_lib.catalog.bulk import CHUNK, chunks
from restore_lib.catalog.tables import (
    drills,
    extents,
    objects,
    recovery_points,
    restore_requests,
    stripes,
    tape_sets,
    versions,
    volumes,
)
from restore_lib.model.retention import NAMED, Fragile, Point, Span
from restore_lib.model.states import OPEN_REQUESTS, DrillState, RecoveryPointState, SetState
from restore_lib.model.volume import Content, Flag, Health

_UNSOUND_FLAGS = frozenset({Flag.MISSING, Flag.FOREIGN, Flag.LABEL_MISMATCH})


@dataclass(frozen=True, slots=True)
class Survey:
    """What ``decide`` has to know of a store; ``damaged``, ``used`` and ``fragile`` as it says."""

    points: tuple[Point, ...]
    damaged: frozenset[int]
    used: Mapping[int, str]
    fragile: tuple[Fragile, ...]


def survey(connection: Connection, store: str) -> Survey:
    """Look at all committed recovery points of a store.

    An extent can be read while its volume is sound, or while no more volumes of its set are
    unsound than it has parity for. What is in memory grows with the recovery points, not with the
    objects.
    """
    points = tuple(_points(connection, store))
    places = _unreadable_places(connection)
    if not places:
        return Survey(points, frozenset(), _used(connection), ())
    damaged = _damaged_versions(places)
    return Survey(
        points,
        _points_with(connection, store, points, damaged),
        _used(connection),
        tuple(_fragile(connection, store, damaged)),
    )


def expire(connection: Connection, points: Sequence[int]) -> None:
    """Give committed recovery points up; what they alone hold is not live any more."""
    _change(connection, points, RecoveryPointState.COMMITTED, RecoveryPointState.EXPIRED)


def purge(connection: Connection, points: Sequence[int]) -> None:
    """Note that some of what these expired recovery points held is being reclaimed."""
    _change(connection, points, RecoveryPointState.EXPIRED, RecoveryPointState.PURGED)


def revive(connection: Connection, points: Sequence[int], kept_until: datetime) -> None:
    """Make expired recovery points whole again, and keep them for a while."""
    _change(
        connection,
        points,
        RecoveryPointState.EXPIRED,
        RecoveryPointState.COMMITTED,
        kept_until=kept_until,
    )


def expired_points_on(connection: Connection, tape_set: str) -> list[int]:
    """Return the expired recovery points that hold something on a set, oldest first."""
    spans = connection.execute(
        select(recovery_points.c.store, versions.c.first_rp, versions.c.gone_rp)
        .distinct()
        .select_from(extents)
        .join(stripes, stripes.c.id == extents.c.stripe_id)
        .join(versions, versions.c.id == extents.c.version_id)
        .join(recovery_points, recovery_points.c.id == versions.c.first_rp)
        .where(stripes.c.tape_set == tape_set, versions.c.sha256.is_not(None))
    ).all()
    expired = connection.execute(
        select(recovery_points.c.id, recovery_points.c.store)
        .where(recovery_points.c.state == RecoveryPointState.EXPIRED)
        .order_by(recovery_points.c.id)
    ).all()
    return [
        point.id
        for point in expired
        if any(
            point.store == store and Span(first, gone, good=True).holds(point.id)
            for store, first, gone in spans
        )
    ]


def _change(
    connection: Connection,
    points: Sequence[int],
    before: RecoveryPointState,
    after: RecoveryPointState,
    **values: object,
) -> None:
    for chunk in chunks(points):
        connection.execute(
            update(recovery_points)
            .where(recovery_points.c.id.in_(chunk), recovery_points.c.state == before)
            .values(state=after, **values)
        )


def _points(connection: Connection, store: str) -> Iterator[Point]:
    query = select(
        recovery_points.c.id, recovery_points.c.committed_at, recovery_points.c.kept_until
    ).where(
        recovery_points.c.store == store,
        recovery_points.c.state == RecoveryPointState.COMMITTED,
    )
    return (Point(*row) for row in connection.execute(query.order_by(recovery_points.c.id)))


def _used(connection: Connection) -> dict[int, str]:
    """Return who works with recovery points: restores and drills that have not ended."""
    asked = select(restore_requests.c.rp_id, restore_requests.c.id).where(
        restore_requests.c.state.in_(OPEN_REQUESTS),
        restore_requests.c.rp_id.is_not(None),
    )
    used = {
        rp_id: f"restore request {number} has not ended"
        for rp_id, number in connection.execute(asked)
    }
    rehearsed = select(drills.c.id, drills.c.evidence).where(drills.c.state == DrillState.ACTIVE)
    for number, evidence in connection.execute(rehearsed):
        used[int(evidence["recovery_point"])] = f"drill {number} has not ended"
    return used


def _unreadable_places(connection: Connection) -> list[tuple[str, list[int]]]:
    """Return the sets with more unsound members than parity covers, with these members' places."""
    query = (
        select(
            tape_sets.c.id,
            tape_sets.c.k,
            tape_sets.c.m,
            volumes.c.position,
            volumes.c.content,
            volumes.c.health,
            volumes.c.flags,
        )
        .outerjoin(volumes, volumes.c.tape_set == tape_sets.c.id)
        .where(tape_sets.c.stripes > 0, tape_sets.c.state != SetState.RECLAIMED)
        .order_by(tape_sets.c.id)
    )
    found: list[tuple[str, list[int]]] = []
    for set_id, group in groupby(connection.execute(query), key=lambda row: row.id):
        members = list(group)
        k, m = members[0].k, members[0].m
        sound = {row.position for row in members if _is_sound(row)}
        unsound = [position for position in range(k + m) if position not in sound]
        if len(unsound) > m:
            found.append((set_id, unsound))
    return found


def _is_sound(row: Any) -> bool:
    return (
        row.health == Health.OK
        and row.content != Content.RETIRED
        and _UNSOUND_FLAGS.isdisjoint(row.flags)
    )


def _damaged_versions(places: Sequence[tuple[str, list[int]]]) -> Select[Any]:
    """Return the versions with an extent in one of these places.

    A disaster may have thousands of sets, which differ in few ways: a condition for each of these.
    """
    alike: dict[tuple[int, ...], list[str]] = {}
    for set_id, positions in places:
        alike.setdefault(tuple(positions), []).append(set_id)
    there: list[ColumnElement[bool]] = [
        and_(stripes.c.tape_set.in_(sets), extents.c.position.in_(positions))
        for positions, sets in alike.items()
    ]
    return (
        select(extents.c.version_id)
        .join(stripes, stripes.c.id == extents.c.stripe_id)
        .where(or_(*there))
    )


def _points_with(
    connection: Connection, store: str, points: Collection[Point], damaged: Select[Any]
) -> frozenset[int]:
    """Return the points that hold one of these versions."""
    query = (
        select(versions.c.first_rp, versions.c.gone_rp)
        .distinct()
        .join(recovery_points, recovery_points.c.id == versions.c.first_rp)
        .where(
            recovery_points.c.store == store,
            versions.c.sha256.is_not(None),
            versions.c.id.in_(damaged),
        )
    )
    spans = [Span(first, gone, good=False) for first, gone in connection.execute(query)]
    return frozenset(p.id for p in points if any(span.holds(p.id) for span in spans))


def _fragile(connection: Connection, store: str, damaged: Select[Any]) -> Iterator[Fragile]:
    """Yield the objects of a store that have damaged versions, and good ones as well."""
    harmed = select(versions.c.object_id).where(versions.c.id.in_(damaged))
    query = (
        select(
            versions.c.object_id,
            objects.c.key,
            versions.c.first_rp,
            versions.c.gone_rp,
            versions.c.id.not_in(damaged).label("good"),
        )
        .join(objects, objects.c.id == versions.c.object_id)
        .where(
            objects.c.store == store,
            versions.c.sha256.is_not(None),
            versions.c.object_id.in_(harmed),
        )
        .order_by(versions.c.object_id, versions.c.first_rp)
        .execution_options(yield_per=CHUNK)
    )
    alike: dict[tuple[Span, ...], list[bytes]] = {}
    counts: dict[tuple[Span, ...], int] = {}
    for _, group in groupby(connection.execute(query), key=lambda row: row.object_id):
        rows = list(group)
        spans = tuple(Span(row.first_rp, row.gone_rp, bool(row.good)) for row in rows)
        if any(span.good for span in spans):
            counts[spans] = counts.get(spans, 0) + 1
            names = alike.setdefault(spans, [])
            if len(names) < NAMED:
                names.append(bytes(rows[0].key))
    for spans, names in alike.items():
        yield Fragile(spans, counts[spans], tuple(names))
