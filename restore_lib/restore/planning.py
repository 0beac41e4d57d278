"""Planning: all that a request still wants goes into batches, or is named as unrestorable.

The database finds and groups the ways of single objects (``catalog.planning``); what is decided
here are routes of thousands of objects each.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from restore_lib.catalog import batches, members, plan_tables, planning, ways
from restore_lib.catalog.batches import NewBatch
from restore_lib.catalog.liveness import hold
from restore_lib.catalog.planning import NOWHERE, Demand, Use
from restore_lib.catalog.volumes import sets_of
from restore_lib.errors import KeyUnusable
from restore_lib.model.states import TakeRedundancy
from restore_lib.restore.choosing import Choices, Circumstances, choose_ways
from restore_lib.restore.estimate import VIRTUAL
from restore_lib.restore.plan import Limits, NoWay, Planner, Route, batch_of, cut
from restore_lib.restore.redundancy import Spares, spares_for
from restore_lib.site import Site

TIMES = VIRTUAL
LOST = "too_many_losses"
_PARTS = 5000


@dataclass(frozen=True, slots=True)
class Planned:
    """What was decided: the choice of volumes, and those taken along in case one is bad.

    ``batch_ids`` has (number, id) of each batch.
    """

    choices: Choices
    spares: Spares
    batch_ids: Sequence[tuple[int, int]]

    def as_dict(self) -> dict[str, Any]:
        """Return what a plan tells about both."""
        return {"selection": self.choices.as_dict(), "redundancy": self.spares.as_dict()}


def plan_wanted(
    connection: Connection, site: Site, request_id: int, take: TakeRedundancy
) -> Planned:
    """Decide about what is in ``plan_tables.wanted``, and add the batches of its request.

    The items of a new request are made by ``add_items``, in the same transaction.
    """
    ways.find_ways(connection)
    demands = list(planning.demands(connection))
    planner = _planner(connection, demands)
    around = _circumstances(connection, site, request_id)
    choices = choose_ways(demands, planner, around, _Keys(connection, site))
    spares = spares_for(choices, planner, around, take, site.clock.now())
    routes = _Routes(choices)
    used = planning.choose(connection, routes.numbered)
    limits = Limits(
        site.config.restore.batch_objects,
        site.config.restore.batch_size,
        site.config.restore.batch_time.total_seconds(),
    )
    numbered = list(_batches(connection, used, routes.by_number, limits))
    ids = batches.add_batches(connection, request_id, [batch for _, batch in numbered])
    numbers = [number for number, _ in numbered]
    return Planned(choices, spares, list(zip(numbers, ids, strict=True)))


def add_items(connection: Connection, site: Site, planned: Planned) -> None:
    """Make the items of what was planned, each in its batch or named as unrestorable."""
    planning.add_items(connection, planned.batch_ids, LOST, site.clock.now())


def plan_pending(connection: Connection, site: Site, request_id: int) -> None:
    """Put every pending item of a request into a batch, or name it as unrestorable.

    Where nothing is pending, this costs one query.
    """
    if not planning.any_pending(connection, request_id):
        return
    hold(connection)
    with plan_tables.planning(connection):
        planning.take_up_pending(connection, request_id)
        planned = plan_wanted(connection, site, request_id, TakeRedundancy.NEVER)
        planning.update_items(connection, request_id, planned.batch_ids, LOST, site.clock.now())


class _Routes:
    """The routes that are taken, with a number for each, in order of their volumes."""

    def __init__(self, choices: Choices) -> None:
        found = {choice.route for choice in choices.choices if not isinstance(choice.route, NoWay)}
        ordered = sorted(
            found, key=lambda route: (route.volumes, route.lost) if route else ((), ())
        )
        self.by_number = dict(enumerate(ordered))
        numbers = {route: number for number, route in self.by_number.items()}
        self.numbered: list[tuple[Demand, int, int]] = [
            (
                choice.demand,
                choice.way,
                NOWHERE if isinstance(choice.route, NoWay) else numbers[choice.route],
            )
            for choice in choices.choices
        ]


def _batches(
    connection: Connection, used: Sequence[Use], routes: Mapping[int, Route | None], limits: Limits
) -> Iterator[tuple[int, NewBatch]]:
    """Yield batches with their numbers: the route's, or that of a part where a route is cut."""
    number = len(routes)
    indexed = False
    for use in used:
        if use.route == NOWHERE:
            continue
        route = routes[use.route]
        if limits.allow(use.objects, use.size, TIMES):
            yield use.route, batch_of(route, use.objects, use.size, TIMES)
            continue
        if not indexed:
            plan_tables.index_routes(connection)
            indexed = True
        held: list[int] = []
        parts: list[int] = []
        for part in cut(planning.in_reading_order(connection, use.route), limits, TIMES):
            held += [item for item, _ in part]
            parts += [number] * len(part)
            yield number, batch_of(route, len(part), sum(size for _, size in part), TIMES)
            number += 1
            if len(held) >= _PARTS:
                planning.cut(connection, held, parts)
                held, parts = [], []
        planning.cut(connection, held, parts)


def _planner(connection: Connection, demands: Sequence[Demand]) -> Planner:
    wanted = {barcode for demand in demands for way in demand.ways for barcode in way}
    names = sets_of(connection, wanted)
    return Planner(members.members_of(connection, names), members.data_volumes(connection, names))


def _circumstances(connection: Connection, site: Site, request_id: int) -> Circumstances:
    transit = {
        name: vault.transit.total_seconds() / 60 for name, vault in site.config.vaults.items()
    }
    in_use = batches.volumes_in_use(connection, request_id)
    return Circumstances(transit, in_use, site.config.restore.rounds)


class _Keys:
    """Tells whether this host has a key for a tape set; asked for copies alone."""

    def __init__(self, connection: Connection, site: Site) -> None:
        self._connection, self._site = connection, site
        self._open: Collection[str] | None = None

    def __call__(self, tape_set: str) -> bool:
        if self._open is None:
            try:
                held = {identity.recipient for identity in self._site.identities}
            except KeyUnusable:
                held = set()
            self._open = members.sets_for(self._connection, held)
        return tape_set in self._open
