"""Choose: for all that is demanded at once, the volumes that cost least to bring and to read.

Costs are minutes of somebody's or some machine's work. They only rank ways; docs/scale.md says
where the figures come from.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from restore_lib.catalog.planning import Demand
from restore_lib.model.volume import Custody, Health, Volume, vault_of
from restore_lib.restore.plan import NoWay, Planner, Route, readable
from restore_lib.restore.selection import Selection, select
from restore_lib.restore.ways import Group, Members, Prices, Way

MOUNT = 3.0
SUSPECT = 10.0
BRING: Mapping[Custody, float] = {
    Custody.MOUNTABLE: 0.0,
    Custody.ACCLIMATING: 1.0,
    Custody.ONSITERETRIEVE: 2.0,
    Custody.NOTMOUNTABLE: 3.0,
    Custody.COURIERRETRIEVE: 4.0,
    Custody.VAULTRETRIEVE: 6.0,
    Custody.VAULT: 10.0,
    Custody.COURIER: 60.0,
}
DISPATCH = 60.0
"""A truck costs this beside its way to the vault and back."""
_BYTES_A_MINUTE = 24e9
_MOST_SETS = 3


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What prices depend on: minutes to each vault, and volumes that are fetched in any case."""

    transit: Mapping[str, float]
    in_use: Collection[str] = ()
    rounds: int = 4

    def bring(self, volume: Volume) -> float:
        """Return what it costs until a volume can be mounted, without the truck."""
        return 0.0 if volume.barcode in self.in_use else BRING[volume.custody]

    def price(self, volume: Volume) -> float:
        """Return what a volume costs, one mount included and the truck not."""
        doubt = SUSPECT if volume.health is Health.SUSPECT else 0.0
        return self.bring(volume) + MOUNT + doubt

    def truck_of(self, volume: Volume) -> str | None:
        """Return the vault that a truck has to be sent to for a volume; None: to none."""
        if volume.custody is not Custody.VAULT or volume.barcode in self.in_use:
            return None
        return vault_of(volume.place)

    def truck(self, vault: str) -> float:
        """Return what a truck to a vault and back costs."""
        slowest = max(self.transit.values(), default=8 * 60.0)
        return DISPATCH + 2 * self.transit.get(vault, slowest)


@dataclass(frozen=True, slots=True)
class Choice:
    """What becomes of one demand: which of its ways is taken, by which route, if there is any."""

    demand: Demand
    way: int
    route: Route | NoWay | None


@dataclass
class Choices:
    """What becomes of each demand, and how good a choice that is."""

    choices: list[Choice]
    selection: Selection
    prices: Prices

    @property
    def taken(self) -> set[str]:
        """The volumes that are read."""
        routes = [choice.route for choice in self.choices if isinstance(choice.route, Route)]
        return {barcode for route in routes for barcode in route.volumes}

    def as_dict(self) -> dict[str, Any]:
        """Return what a plan tells about it; costs in minutes of work."""
        made = self.selection
        trucks = self.prices.trucks_for(made.taken)
        objects = {"copies": 0, "rebuilt": 0}
        for choice in self.choices:
            if isinstance(choice.route, Route):
                objects["copies"] += choice.demand.objects if choice.way else 0
                objects["rebuilt"] += choice.demand.objects if choice.route.lost else 0
        return {
            "cost": round(made.cost, 1),
            "bound": round(made.bound, 1),
            "gap": round(made.gap, 4),
            "first_fit": round(made.first_fit, 1),
            "method": made.method,
            "volumes": len(made.taken),
            "trucks": sorted(trucks),
            "objects_from_copies": objects["copies"],
            "objects_rebuilt": objects["rebuilt"],
            "why": _why(made, len(trucks)),
        }


@dataclass
class _Offer:
    """The ways of one demand, and what each of them means."""

    demand: Demand
    ways: list[Way] = field(default_factory=list)
    means: list[tuple[int, Route | None]] = field(default_factory=list)
    lost: NoWay = field(default_factory=lambda: NoWay(()))

    def add(self, index: int, route: Route, cost: float) -> None:
        self.ways.append(Way(route.volumes, cost))
        self.means.append((index, route))


def choose_ways(
    demands: Sequence[Demand],
    planner: Planner,
    around: Circumstances,
    is_readable_here: Callable[[str], bool],
) -> Choices:
    """Return a choice for each demand, in their order.

    What was tried before goes the way that ``Planner.route`` finds for it, on its last try a copy's
    where there is one. ``is_readable_here`` tells whether this host has a key for a tape set; only
    copies are passed over for want of it.
    """
    chooser = _Chooser(planner, around, is_readable_here)
    offers = [chooser.offer(demand) for demand in demands]
    open_ = [offer for offer in offers if offer.ways]
    groups: list[Group] = [offer.ways for offer in open_]
    prices = chooser.prices(groups)
    selection = select(groups, prices)
    chosen = dict(zip(map(id, open_), selection.chosen, strict=True))
    choices = [chooser.meaning(offer, chosen.get(id(offer)), selection.taken) for offer in offers]
    return Choices(choices, selection, prices)


class _Chooser:
    def __init__(
        self, planner: Planner, around: Circumstances, is_readable_here: Callable[[str], bool]
    ) -> None:
        self._planner, self._around = planner, around
        self._is_readable_here = is_readable_here

    def offer(self, demand: Demand) -> _Offer:
        offer = _Offer(demand)
        if demand.tries:
            self._again(offer)
            return offer
        for index in self._known(demand):
            own = demand.ways[index]
            route = self._planner.route(own)
            if isinstance(route, NoWay):
                offer.lost = route if index == 0 else offer.lost
                continue
            offer.add(index, route, self._reading(demand, len(route.volumes), route.lost))
            for way in self._by_parity(demand, own):
                offer.ways.append(way)
                offer.means.append((index, None))
        return offer

    def _known(self, demand: Demand) -> Iterator[int]:
        """Yield the ways over volumes that this host can open: the own one, and copies'."""
        for index, own in enumerate(demand.ways):
            if index == 0 or all(map(self._is_readable_here, self._planner.by_set(own))):
                yield index

    def _again(self, offer: _Offer) -> None:
        demand = offer.demand
        last = demand.tries >= self._around.rounds - 1
        found: list[tuple[int, Route]] = []
        for index in self._known(demand):
            own = index == 0
            route = self._planner.route(
                demand.ways[index], demand.tries if own else 0, demand.error if own else None
            )
            if isinstance(route, Route):
                found.append((index, route))
            elif own:
                offer.lost = route
        if found:
            index, route = found[-1] if last else found[0]
            offer.add(index, route, self._reading(demand, len(route.volumes), route.lost))

    def _by_parity(self, demand: Demand, own: tuple[str, ...]) -> Iterator[Way]:
        """Yield the ways that spare volumes which are far away, or choose among the survivors."""
        planner = self._planner
        must: list[str] = []
        may: list[str] = []
        by_set = planner.by_set(own)
        for tape_set, held in by_set.items():
            if len(planner.usable(tape_set)) < planner.k[tape_set]:
                continue
            volumes = [planner.volumes[barcode] for barcode in held]
            if not all(map(readable, volumes)):
                must.append(tape_set)
            elif any(v.custody is not Custody.MOUNTABLE for v in volumes):
                may.append(tape_set)
        spared = [may[:1], may] if len(may) > _MOST_SETS else _subsets(may)
        for more in spared:
            sets = tuple(sorted({*must, *more}))
            if sets:
                direct = sorted(
                    b for name, held in by_set.items() if name not in sets for b in held
                )
                count = len(direct) + sum(planner.k[name] for name in sets)
                yield Way(tuple(direct), self._reading(demand, count, ("",)), sets)

    def _reading(self, demand: Demand, volumes: int, lost: Sequence[str]) -> float:
        """Return what reading costs beside one mount of each volume; gathering mounts its own."""
        reading = demand.size * volumes / _BYTES_A_MINUTE
        return reading + (MOUNT * volumes if lost or volumes > 1 else 0.0)

    def prices(self, groups: Sequence[Group]) -> Prices:
        """Return the prices of all volumes that these ways could read."""
        planner, around = self._planner, self._around
        sets = {
            name: Members(planner.k[name], tuple(planner.usable(name)))
            for name in sorted({name for ways in groups for way in ways for name in way.sets})
        }
        wanted = {barcode for ways in groups for way in ways for barcode in way.volumes}
        wanted.update(barcode for members in sets.values() for barcode in members.volumes)
        volumes = [planner.volumes[barcode] for barcode in sorted(wanted)]
        away = {v.barcode: vault for v in volumes if (vault := around.truck_of(v)) is not None}
        trucks = {vault: around.truck(vault) for vault in sorted(set(away.values()))}
        return Prices({v.barcode: around.price(v) for v in volumes}, away, trucks, sets)

    def meaning(self, offer: _Offer, chosen: int | None, taken: Collection[str]) -> Choice:
        """Return what becomes of a demand when this one of its ways is chosen."""
        demand = offer.demand
        if not demand.ways:
            return Choice(demand, 0, None)
        if chosen is None:
            return Choice(demand, 0, offer.lost)
        index, route = offer.means[chosen]
        if route is not None:
            return Choice(demand, index, route)
        way, own = offer.ways[chosen], set(demand.ways[index])
        volumes = set(way.volumes)
        for name in way.sets:
            members = self._planner.usable(name, near=own)
            volumes.update([b for b in members if b in taken][: self._planner.k[name]])
        return Choice(demand, index, Route(tuple(sorted(volumes)), tuple(sorted(own - volumes))))


def _subsets(names: Sequence[str]) -> list[list[str]]:
    found: list[list[str]] = [[]]
    for name in names:
        found += [[*before, name] for before in found]
    return found


def _why(made: Selection, trucks: int) -> str:
    saved = made.first_fit - made.cost
    if saved < 0.05:
        return "first fit costs no more"
    fewer = [
        f"{count} {name}{'' if count == 1 else 's'}"
        for count, name in (
            (made.first_fit_volumes - len(made.taken), "volume"),
            (made.first_fit_trucks - trucks, "truck"),
        )
        if count > 0
    ]
    what = f": {' and '.join(fewer)} fewer" if fewer else ""
    return f"{saved:.0f} minutes of work less than first fit{what}"
