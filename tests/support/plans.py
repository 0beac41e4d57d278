"""Plans of single objects, for tests that name each of them; the product plans in the database."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection, select, update

from restore_lib.catalog import batches
from restore_lib.catalog.batches import NewBatch
from restore_lib.catalog.tables import items
from restore_lib.model.states import BatchKind, ItemState
from restore_lib.model.volume import Content, Custody, Health, Volume
from restore_lib.restore.estimate import VIRTUAL
from restore_lib.restore.plan import Limits, Planner, Route, batch_of, cut


@dataclass(frozen=True, slots=True)
class Need:
    """One extent that an item needs, and where it lies."""

    item_id: int
    attempts: int
    last_error: str | None
    barcode: str
    stored_size: int


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """A batch, with the items in it."""

    kind: BatchKind
    barcode: str | None
    volumes: tuple[str, ...]
    item_ids: tuple[int, ...]
    size: int
    estimate: float


@dataclass
class Planned:
    """Batches, and the items that nothing can bring back, each with the volumes that are lost."""

    batches: list[PlannedBatch] = field(default_factory=list)
    unrestorable: dict[int, tuple[str, ...]] = field(default_factory=dict)


def plan_needs(planner: Planner, needs: Iterable[Need], limits: Limits) -> Planned:
    """Plan item by item, without any choice between copies."""
    planned = Planned()
    held: dict[int, list[Need]] = {}
    for need in needs:
        held.setdefault(need.item_id, []).append(need)
    reads: dict[Route, list[tuple[int, int]]] = {}
    for item_id, wanted in held.items():
        barcodes = {need.barcode for need in wanted}
        route = planner.route(barcodes, wanted[0].attempts, wanted[0].last_error)
        if isinstance(route, Route):
            size = sum(need.stored_size for need in wanted)
            reads.setdefault(route, []).append((item_id, size))
        else:
            planned.unrestorable[item_id] = route.lost
    for way, found in sorted(reads.items(), key=lambda pair: pair[0].volumes):
        planned.batches += batches_of(way, found, limits)
    return planned


def batches_of(
    route: Route | None, wanted: Sequence[tuple[int, int]], limits: Limits
) -> list[PlannedBatch]:
    """Return the batches of (item, bytes) that go by one route."""
    made: list[PlannedBatch] = []
    for part in cut(wanted, limits, VIRTUAL):
        new = batch_of(route, len(part), sum(size for _, size in part), VIRTUAL)
        ids = tuple(item for item, _ in part)
        made.append(PlannedBatch(new.kind, new.barcode, new.volumes, ids, new.size, new.estimate))
    return made


def add_batches(connection: Connection, request_id: int, planned: Sequence[PlannedBatch]) -> None:
    """Insert batches and put their items into them."""
    new = [
        NewBatch(b.kind, b.barcode, b.volumes, len(b.item_ids), b.size, b.estimate) for b in planned
    ]
    for batch_id, batch in zip(
        batches.add_batches(connection, request_id, new), planned, strict=True
    ):
        connection.execute(
            update(items)
            .where(items.c.id.in_(batch.item_ids), items.c.state == ItemState.PENDING)
            .values(state=ItemState.BATCHED, batch_id=batch_id)
        )


def pending(connection: Connection, request_id: int) -> list[int]:
    """Return the items that wait to be planned, in order of their names."""
    query = select(items.c.id).where(
        items.c.request_id == request_id, items.c.state == ItemState.PENDING
    )
    return list(connection.execute(query.order_by(items.c.key)).scalars())


def member(number: int, position: int, **values: object) -> Volume:
    """Return a sound, mountable volume of a set, but for what ``values`` say."""
    volume = Volume(
        barcode=f"S{number}P{position}",
        tape_set=f"set{number}",
        position=position,
        content=Content.FULL,
        health=Health.OK,
        custody=Custody.MOUNTABLE,
        flags=frozenset(),
        place="library",
        files=9,
        bytes=9,
        verified_at=None,
        ready_at=None,
    )
    return replace(volume, **values)  # type: ignore[arg-type]  # a test's shorthand
