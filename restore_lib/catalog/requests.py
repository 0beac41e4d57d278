"""Restore requests and their items: what a person asked for, and how each object fares."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    Select,
    Table,
    case,
    func,
    insert,
    literal,
    select,
    update,
)

from restore_lib.catalog.bulk import chunks
from restore_lib.catalog.recovery_points import live_at, prefix_range
from restore_lib.catalog.tables import items, losses, objects, restore_requests, versions
from restore_lib.errors import InvalidTransition, Refused
from restore_lib.model.states import (
    ITEM_ENDS,
    ItemState,
    LossClass,
    Overwrite,
    Priority,
    RequestState,
    Way,
)
from restore_lib.model.volume import Reason

_ITEM_COLUMNS = ["request_id", "key", "version_id", "loss_class", "state", "size", "sha256"]


@dataclass(frozen=True, slots=True)
class Request:
    """One restore request.

    ``at_once`` is how many of its batches may run side by side while its stores or the staging disk
    can't take more; None: as many as there are drives.
    """

    id: int
    store: str
    target: str
    overwrite: Overwrite
    source: Mapping[str, Any]
    incident_id: int | None
    rp_id: int | None
    reason: Reason
    actor: str
    state: RequestState
    priority: Priority
    at_once: int | None
    created_at: datetime
    finished_at: datetime | None
    plan: Mapping[str, Any] | None
    verdict: str | None
    report: str | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item; an item that is to be tried again goes back to PENDING."""

    item_id: int
    state: ItemState
    way: Way | None = None
    error_code: str | None = None
    error: str | None = None


def create_request(connection: Connection, values: Mapping[str, Any]) -> int:
    """Insert a planned request and return its id."""
    row = {"state": RequestState.PLANNED, **values}
    inserted = insert(restore_requests).values(row).returning(restore_requests.c.id)
    request_id: int = connection.execute(inserted).scalar_one()
    return request_id


def request(connection: Connection, request_id: int) -> Request:
    """Return a request; Refused when there is none of this id."""
    row = connection.execute(
        select(restore_requests).where(restore_requests.c.id == request_id)
    ).one_or_none()
    if row is None:
        raise Refused(
            f"There is no restore request {request_id}.", remedy="see `tapeflow restore list`"
        )
    return _request(row)


def requests(connection: Connection, states: Iterable[RequestState] = ()) -> list[Request]:
    """Return requests, oldest first: all, or those in one of ``states``."""
    query = select(restore_requests).order_by(restore_requests.c.id)
    if wanted := list(states):
        query = query.where(restore_requests.c.state.in_(wanted))
    return [_request(row) for row in connection.execute(query)]


def newest_ended(connection: Connection, count: int) -> list[Request]:
    """Return the requests that have come to their end, the newest first, and at most ``count``."""
    query = (
        select(restore_requests)
        .where(restore_requests.c.state == RequestState.ENDED)
        .order_by(restore_requests.c.finished_at.desc(), restore_requests.c.id.desc())
        .limit(count)
    )
    return [_request(row) for row in connection.execute(query)]


def planned_by(connection: Connection, actor: str) -> Request | None:
    """Return the newest request that ``actor`` planned and nobody has started; None: no such."""
    query = (
        select(restore_requests)
        .where(restore_requests.c.actor == actor, restore_requests.c.state == RequestState.PLANNED)
        .order_by(restore_requests.c.id.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else _request(row)


def change_request(
    connection: Connection,
    request_id: int,
    before: RequestState,
    after: RequestState,
    **values: object,
) -> None:
    """Bring a request from one state to the next; InvalidTransition when it is not in it."""
    done = connection.execute(
        update(restore_requests)
        .where(restore_requests.c.id == request_id, restore_requests.c.state == before)
        .values(state=after, **values)
    )
    if done.rowcount != 1:
        raise InvalidTransition(
            f"Restore request {request_id} is not {before} any more.",
            remedy="see `tapeflow restore list`",
        )


def note(connection: Connection, request_id: int, **values: object) -> None:
    """Set fields of a request that are not its state: plan, verdict, report."""
    connection.execute(
        update(restore_requests).where(restore_requests.c.id == request_id).values(**values)
    )


def add_items_of_incident(
    connection: Connection,
    request_id: int,
    incident_id: int,
    *,
    alternates: bool,
    into: Table = items,
) -> None:
    """Add an item for each lost object; those never backed up wait only for alternate stores.

    ``into`` is a table with the columns of items, as that of a plan is.
    """
    without = ItemState.PENDING if alternates else ItemState.UNRESTORABLE
    never = losses.c.version_id.is_(None)
    chosen = (
        select(
            literal(request_id),
            losses.c.key,
            losses.c.version_id,
            losses.c.loss_class,
            case((never, without), else_=ItemState.PENDING),
            func.coalesce(versions.c.size, losses.c.size),
            func.coalesce(versions.c.sha256, losses.c.sha256),
        )
        .outerjoin(versions, versions.c.id == losses.c.version_id)
        .where(losses.c.incident_id == incident_id)
        .order_by(losses.c.key)
    )
    connection.execute(insert(into).from_select(_ITEM_COLUMNS, chosen))


def add_items_at(
    connection: Connection,
    request_id: int,
    store: str,
    rp_id: int,
    prefix: bytes,
    *,
    into: Table = items,
) -> None:
    """Add an item for each object under ``prefix`` that recovery point ``rp_id`` holds."""
    connection.execute(
        insert(into).from_select(
            _ITEM_COLUMNS,
            _held(request_id, store, rp_id).where(prefix_range(objects.c.key, prefix)),
        )
    )


def add_items_named(
    connection: Connection,
    request_id: int,
    store: str,
    rp_id: int,
    keys: Sequence[bytes],
    *,
    alternates: bool,
    into: Table = items,
) -> None:
    """Add an item for each of ``keys``, as recovery point ``rp_id`` holds it or as never backed up.

    Names that come twice count once.
    """
    wanted = sorted(set(keys))
    for chunk in chunks(wanted):
        held = _held(request_id, store, rp_id).where(objects.c.key.in_(chunk))
        connection.execute(insert(into).from_select(_ITEM_COLUMNS, held))
    known = {
        bytes(key)
        for key in connection.execute(
            select(into.c.key).where(into.c.request_id == request_id)
        ).scalars()
    }
    without = ItemState.PENDING if alternates else ItemState.UNRESTORABLE
    rows = [
        {
            "request_id": request_id,
            "key": key,
            "loss_class": LossClass.NEVER_BACKED_UP,
            "state": without,
        }
        for key in wanted
        if key not in known
    ]
    if rows:
        connection.execute(insert(into), rows)


def _held(request_id: int, store: str, rp_id: int) -> Select[Any]:
    return (
        select(
            literal(request_id),
            objects.c.key,
            versions.c.id,
            literal(str(LossClass.ON_TAPE)),
            literal(str(ItemState.PENDING)),
            versions.c.size,
            versions.c.sha256,
        )
        .join(versions, versions.c.object_id == objects.c.id)
        .where(objects.c.store == store, live_at(rp_id))
        .order_by(objects.c.key)
    )


def settle_items(
    connection: Connection, batch_id: int, outcomes: Sequence[Outcome], at: datetime
) -> None:
    """Write what became of a batch's items; those that have left the batch stay as they are."""
    alike: defaultdict[tuple[object, ...], list[int]] = defaultdict(list)
    for one in outcomes:
        alike[one.state, one.way, one.error_code, one.error].append(one.item_id)
    for (state, way, code, error), ids in alike.items():
        ends = state in ITEM_ENDS
        values: dict[str, object] = {
            "state": state,
            "way": way,
            "error_code": code,
            "error": error,
            "ended_at": at if ends else None,
            "attempts": items.c.attempts + (0 if state is ItemState.RESTORED else 1),
        }
        if not ends:
            values["batch_id"] = None
        for chunk in chunks(ids):
            connection.execute(
                update(items)
                .where(
                    items.c.id.in_(chunk),
                    items.c.state == ItemState.BATCHED,
                    items.c.batch_id == batch_id,
                )
                .values(values)
            )


def give_up_tired(connection: Connection, request_id: int, rounds: int, at: datetime) -> int:
    """Fail pending items that have been tried ``rounds`` times; return how many."""
    return connection.execute(
        update(items)
        .where(
            items.c.request_id == request_id,
            items.c.state == ItemState.PENDING,
            items.c.attempts >= rounds,
        )
        .values(state=ItemState.FAILED, ended_at=at)
    ).rowcount


def count_items(connection: Connection, request_id: int) -> dict[ItemState, int]:
    """Return how many items of a request are in each state."""
    query = (
        select(items.c.state, func.count())
        .where(items.c.request_id == request_id)
        .group_by(items.c.state)
    )
    found = {ItemState(state): count for state, count in connection.execute(query)}
    return {state: found.get(state, 0) for state in ItemState}


def keys_in(connection: Connection, request_id: int, state: ItemState, limit: int) -> list[bytes]:
    """Return the first names, in order, of a request's items in one state."""
    query = (
        select(items.c.key)
        .where(items.c.request_id == request_id, items.c.state == state)
        .order_by(items.c.key)
        .limit(limit)
    )
    return [bytes(key) for key in connection.execute(query).scalars()]


def lock(connection: Connection, request_id: int) -> None:
    """Keep other transactions from planning for this request until this one ends."""
    connection.execute(
        select(restore_requests.c.id).where(restore_requests.c.id == request_id).with_for_update()
    )


def unfinished(connection: Connection, request_id: int) -> int:
    """Return how many items of a request have no end yet."""
    counts = count_items(connection, request_id)
    return sum(count for state, count in counts.items() if state not in ITEM_ENDS)


def _request(row: Row[Any]) -> Request:
    return Request(
        id=row.id,
        store=row.store,
        target=row.target,
        overwrite=Overwrite(row.overwrite),
        source=row.source,
        incident_id=row.incident_id,
        rp_id=row.rp_id,
        reason=Reason(row.reason),
        actor=row.actor,
        state=RequestState(row.state),
        priority=Priority(row.priority),
        at_once=row.at_once,
        created_at=row.created_at,
        finished_at=row.finished_at,
        plan=row.plan,
        verdict=row.verdict,
        report=row.report,
    )
