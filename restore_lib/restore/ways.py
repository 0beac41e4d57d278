"""Ways back, and what they cost: the problem that ``selection`` solves."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Way:
    """One way back: all of ``volumes`` are read, and of each of ``sets`` as many as rebuild others.

    ``cost`` is what the reading costs, beside what the volumes cost.
    """

    volumes: tuple[str, ...]
    cost: float
    sets: tuple[str, ...] = ()


Group = Sequence[Way]
"""The ways of objects that have the same ones; the first, without sets, is what first fit takes."""


@dataclass(frozen=True, slots=True)
class Members:
    """The readable volumes of a tape set, the best ones first; any ``k`` of them rebuild all."""

    k: int
    volumes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Prices:
    """What volumes cost, and the trucks that bring some of them; each truck is paid for once."""

    volumes: Mapping[str, float]
    truck_of: Mapping[str, str] = field(default_factory=dict)
    trucks: Mapping[str, float] = field(default_factory=dict)
    sets: Mapping[str, Members] = field(default_factory=dict)

    def total(self, taken: Iterable[str]) -> float:
        """Return what these volumes, each named once, and their trucks cost."""
        held = sorted(taken)
        trucks = {self.truck_of[barcode] for barcode in held if barcode in self.truck_of}
        volumes = sum(self.volumes[barcode] for barcode in held)
        return volumes + sum(self.trucks[truck] for truck in sorted(trucks))

    def more(self, barcode: str, taken: Collection[str], trucks: Collection[str]) -> float:
        """Return what one more volume costs, beside those taken and the trucks that drive."""
        if barcode in taken:
            return 0.0
        truck = self.truck_of.get(barcode)
        drives = truck is None or truck in trucks
        return self.volumes[barcode] + (0.0 if drives else self.trucks[truck or ""])

    def members(
        self, name: str, taken: Collection[str], trucks: Collection[str]
    ) -> tuple[str, ...]:
        """Return the k volumes of a set that cost least beside those taken, in their order."""
        found = self.sets[name]
        costs = {v: self.more(v, taken, trucks) for v in found.volumes}
        cheapest = sorted(found.volumes, key=lambda barcode: costs[barcode])[: found.k]
        return tuple(sorted(cheapest, key=found.volumes.index))

    def trucks_for(self, taken: Iterable[str]) -> set[str]:
        """Return the trucks that bring these volumes."""
        return {self.truck_of[barcode] for barcode in taken if barcode in self.truck_of}


def taken_by(
    groups: Sequence[Group], chosen: Sequence[int], prices: Prices, hint: Collection[str] = ()
) -> frozenset[str]:
    """Return the volumes that these choices need; those of ``hint`` stand in for others first."""
    ways = [group[index] for group, index in zip(groups, chosen, strict=True)]
    taken = {barcode for way in ways for barcode in way.volumes}
    for name in sorted({name for way in ways for name in way.sets}):
        members = prices.sets[name]
        ready = [v for v in members.volumes if v in taken or v in hint]
        lacking = members.k - len(taken.intersection(ready))
        if lacking > 0:
            spare = [barcode for barcode in ready if barcode not in taken]
            taken.update(spare[:lacking])
            if len(spare) < lacking:
                taken.update(prices.members(name, taken, prices.trucks_for(taken)))
    return frozenset(taken)


def cost_of(
    groups: Sequence[Group], chosen: Sequence[int], taken: Iterable[str], prices: Prices
) -> float:
    """Return what these choices cost, the volumes and their trucks included."""
    reading = sum(group[index].cost for group, index in zip(groups, chosen, strict=True))
    return reading + prices.total(taken)
