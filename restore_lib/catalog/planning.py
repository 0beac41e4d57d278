"""Planning inside the database: demands for volumes, and the batches that items go to.

All objects whose ways back lie on the same volumes are one ``Demand``, so that Python decides about
a few thousand of these, and rows of single objects stay where they are: in the tables of
``plan_tables``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Connection,
    Subquery,
    and_,
    case,
    func,
    insert,
    literal,
    select,
    update,
)

from restore_lib.catalog.bulk import CHUNK, insert_rows
from restore_lib.catalog.columns import UtcDateTime
from restore_lib.catalog.plan_tables import (
    analyze,
    cuts,
    parts,
    picks,
    routes,
    wanted,
    ways,
)
from restore_lib.catalog.tables import items
from restore_lib.catalog.ways import ABSENT
from restore_lib.model.states import ItemState, LossClass

NOWHERE = -1
"""The route of what nothing brings back."""
_KEPT = ["request_id", "key", "version_id", "loss_class", "state", "size", "sha256"]


@dataclass(frozen=True, slots=True)
class Demand:
    """Objects that have the same ways back, and how often they were tried.

    ``ways`` has the volumes of each way: those of the version that was to be read so far first.
    Objects that were never backed up have no way; a way of no volumes is not on tape any more.
    ``names`` are what the database calls the ways.
    """

    choices: str
    ways: tuple[tuple[str, ...], ...]
    names: tuple[str, ...]
    tries: int
    error: str | None
    objects: int
    size: int


@dataclass(frozen=True, slots=True)
class Use:
    """How many objects go by one route, and their bytes as stored."""

    route: int
    objects: int
    size: int


def count_wanted(connection: Connection) -> dict[LossClass, int]:
    """Return how many objects of each class are to be planned or named as unrestorable."""
    query = select(wanted.c.loss_class, func.count()).group_by(wanted.c.loss_class)
    return {LossClass(name): count for name, count in connection.execute(query)}


def any_pending(connection: Connection, request_id: int) -> bool:
    """Return whether a request has items that have no batch and no end."""
    pending = select(items.c.id).where(*_pending(request_id)).limit(1)
    return connection.execute(pending).first() is not None


def take_up_pending(connection: Connection, request_id: int) -> None:
    """Put a request's items that have no batch and no end among the wanted."""
    names = ["id", *_KEPT, "attempts", "error_code", "source_id"]
    pending = select(*(items.c[name] for name in names)).where(*_pending(request_id))
    connection.execute(insert(wanted).from_select(names, pending.order_by(items.c.id)))


def demands(connection: Connection) -> Iterator[Demand]:
    """Yield the ways found, objects that have the same ones together, in a fixed order."""
    group = (ways.c.choices, ways.c.tries, ways.c.error)
    query = (
        select(*group, func.count().label("objects"), func.sum(ways.c.size).label("size"))
        .where(ways.c.own == 1)
        .group_by(*group)
        .order_by(*group)
    )
    for choices, tries, error, count, size in connection.execute(query):
        named = _ways_of(choices)
        yield Demand(
            choices, tuple(named), tuple(named.values()), tries, error or None, count, int(size)
        )


def choose(connection: Connection, chosen: Sequence[tuple[Demand, int, int]]) -> list[Use]:
    """Send each demand over one of its ways, by a route; return how much goes by each route.

    ``chosen`` has (demand, index of the way, number of the route). What was never backed up takes
    the way 0.
    """
    insert_rows(
        connection,
        routes,
        {
            "choices": [demand.choices for demand, _, _ in chosen],
            "tries": [demand.tries for demand, _, _ in chosen],
            "error": [demand.error or "" for demand, _, _ in chosen],
            "volumes": [demand.names[way] if demand.names else "" for demand, way, _ in chosen],
            "route": [route for _, _, route in chosen],
        },
    )
    analyze(connection, routes)
    own, copy = ways.alias("own_ways"), ways.alias("copy")
    columns = ["item_id", "version_id", "route", "size", "place"]
    picked = (
        select(
            own.c.item_id,
            func.coalesce(copy.c.version_id, own.c.version_id),
            routes.c.route,
            func.coalesce(copy.c.size, own.c.size),
            func.coalesce(copy.c.place, own.c.place),
        )
        .select_from(own)
        .join(
            routes,
            and_(
                routes.c.choices == own.c.choices,
                routes.c.tries == own.c.tries,
                routes.c.error == own.c.error,
            ),
        )
        .outerjoin(
            copy,
            and_(
                routes.c.volumes != own.c.volumes,
                copy.c.item_id == own.c.item_id,
                copy.c.own == 0,
                copy.c.volumes == routes.c.volumes,
            ),
        )
        .where(own.c.own == 1)
    )
    connection.execute(insert(picks).from_select(columns, picked))
    analyze(connection, picks)
    query = (
        select(picks.c.route, func.count(), func.sum(picks.c.size))
        .group_by(picks.c.route)
        .order_by(picks.c.route)
    )
    return [Use(route, count, int(size)) for route, count, size in connection.execute(query)]


def in_reading_order(connection: Connection, route: int) -> Iterator[tuple[int, int]]:
    """Yield (item, bytes) of what goes by a route, as it lies on tape."""
    query = (
        select(picks.c.item_id, picks.c.size)
        .where(picks.c.route == route)
        .order_by(picks.c.place, picks.c.item_id)
        .execution_options(yield_per=CHUNK)
    )
    for item_id, size in connection.execute(query):
        yield item_id, int(size)


def cut(connection: Connection, item_ids: Sequence[int], numbers: Sequence[int]) -> None:
    """Put items into parts of their routes, for routes that are more than one batch."""
    insert_rows(connection, cuts, {"item_id": item_ids, "part": numbers})


def add_items(
    connection: Connection, batch_ids: Sequence[tuple[int, int]], code: str, at: datetime
) -> None:
    """Make the wanted items, each in its batch or ended; ``code`` says why nothing brings it back.

    ``batch_ids`` has (number, id) for each route that is not cut, and for each part of the others.
    """
    where = _whereabouts(connection, batch_ids)
    lost = where.c.route == NOWHERE
    state = case(
        (where.c.batch_id.is_not(None), ItemState.BATCHED),
        (lost, ItemState.UNRESTORABLE),
        else_=wanted.c.state,
    )
    kept = [name for name in _KEPT if name != "state"]
    query = (
        select(
            *(wanted.c[name] for name in kept),
            state,
            case((where.c.version_id != wanted.c.version_id, where.c.version_id)),
            where.c.batch_id,
            case((lost, code)),
            case((lost, literal(at, UtcDateTime))),
        )
        .select_from(wanted.outerjoin(where, where.c.item_id == wanted.c.id))
        .order_by(wanted.c.id)
    )
    columns = [*kept, "state", "source_id", "batch_id", "error_code", "ended_at"]
    connection.execute(insert(items).from_select(columns, query))


def update_items(
    connection: Connection,
    request_id: int,
    batch_ids: Sequence[tuple[int, int]],
    code: str,
    at: datetime,
) -> None:
    """Do as ``add_items`` for items that were taken up; those not pending any more stay."""
    where = _whereabouts(connection, batch_ids)
    pending = _pending(request_id)
    connection.execute(
        update(items)
        .where(items.c.id == where.c.item_id, where.c.batch_id.is_not(None), *pending)
        .values(
            state=ItemState.BATCHED,
            batch_id=where.c.batch_id,
            source_id=case((where.c.version_id != items.c.version_id, where.c.version_id)),
        )
    )
    lost = select(picks.c.item_id).where(picks.c.route == NOWHERE)
    connection.execute(
        update(items)
        .where(items.c.id.in_(lost), *pending)
        .values(state=ItemState.UNRESTORABLE, error_code=code, ended_at=at)
    )


def _whereabouts(connection: Connection, batch_ids: Sequence[tuple[int, int]]) -> Subquery:
    """Return the route of each item, its batch, and the version that is read."""
    insert_rows(
        connection,
        parts,
        {"part": [part for part, _ in batch_ids], "batch_id": [id_ for _, id_ in batch_ids]},
    )
    analyze(connection, parts)
    analyze(connection, cuts)
    return (
        select(picks.c.item_id, picks.c.route, picks.c.version_id, parts.c.batch_id)
        .outerjoin(cuts, cuts.c.item_id == picks.c.item_id)
        .outerjoin(parts, parts.c.part == func.coalesce(cuts.c.part, picks.c.route))
        .subquery()
    )


def _pending(request_id: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return items.c.request_id == request_id, items.c.state == ItemState.PENDING


def _ways_of(choices: str) -> dict[tuple[str, ...], str]:
    """Return the name of each way by its volumes."""
    if not choices:
        return {}
    own, *others = choices.split("|")
    found = {() if own == ABSENT else tuple(sorted(own.split(","))): own}
    for other in sorted(others):
        found.setdefault(tuple(sorted(other.split(","))), other)
    return found
