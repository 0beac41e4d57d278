"""The part of a selection without a solver: what must be, what can't pay, and a greedy choice."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from restore_lib.restore.ways import Group, Prices, Way, cost_of, taken_by

_PASSES = 5
_NEVER = 1e12


@dataclass(frozen=True, slots=True)
class Found:
    """A choice for each group, the volumes it takes, and what it costs."""

    chosen: tuple[int, ...]
    taken: frozenset[str]
    cost: float


class Search:
    """What is known of a selection: the ways that are left to each group, and what is taken."""

    def __init__(self, groups: Sequence[Group], prices: Prices) -> None:
        """Every group has at least one way."""
        self._groups, self._prices = groups, prices
        self._left = [list(range(len(group))) for group in groups]
        self._open = list(range(len(groups)))
        self.taken: set[str] = set()
        self._trucks: set[str] = set()

    @property
    def settled(self) -> bool:
        """Whether nothing is left to be chosen."""
        return not self._open

    @property
    def choices(self) -> int:
        """How many ways there are to choose from."""
        return sum(len(self._left[group]) for group in self._open)

    def left(self) -> list[list[Way]]:
        """Return the ways to choose from, of each group that is not settled."""
        return [[self._groups[group][index] for index in self._left[group]] for group in self._open]

    def settled_cost(self) -> float:
        """Return what everything that is settled costs."""
        opened = set(self._open)
        reading = sum(
            self._groups[group][left[0]].cost
            for group, left in enumerate(self._left)
            if group not in opened
        )
        return reading + self._prices.total(self.taken)

    def reduce(self) -> None:
        """Take what must be taken, and drop ways that can't be part of the only cheapest choice."""
        changed = True
        while changed and self._open:
            changed = False
            users = self._users()
            for group in self._open:
                if len(self._left[group]) > 1:
                    changed |= self._drop(group, users)
                if len(self._left[group]) == 1:
                    changed |= self._take(self._groups[group][self._left[group][0]].volumes)
            changed |= self._complete()
            self._open = [group for group in self._open if not self._is_settled(group)]

    def _drop(self, group: int, users: Counter[str]) -> bool:
        """Drop the ways that another one beats, even if all that it needs has to be brought.

        A way costs at least its reading, and the volumes that no other group could use.
        """
        ways, kept = self._groups[group], self._left[group]
        most = {index: self._most(ways[index]) for index in kept}
        best = min(kept, key=lambda index: (most[index], index))
        left = [
            index
            for index in kept
            if index == best
            or ways[index].cost
            + sum(
                self._prices.volumes[barcode]
                for barcode in ways[index].volumes
                if barcode not in self.taken and users[barcode] == 1
            )
            < most[best]
        ]
        self._left[group] = left
        return len(left) < len(kept)

    def _users(self) -> Counter[str]:
        """Return by how many groups each volume could still be used."""
        found: Counter[str] = Counter()
        for group in self._open:
            ways = [self._groups[group][index] for index in self._left[group]]
            found.update(self._useful(ways))
        return found

    def _useful(self, ways: Sequence[Way]) -> set[str]:
        sets = {name for way in ways for name in way.sets}
        found = {barcode for way in ways for barcode in way.volumes}
        return found.union(*(self._prices.sets[name].volumes for name in sorted(sets)))

    def _most(self, way: Way) -> float:
        """Return what a way costs beside what is taken, were nothing of it shared with others."""
        volumes = list(way.volumes)
        for name in way.sets:
            volumes += self._prices.members(name, self.taken, self._trucks)
        more = set(volumes) - self.taken
        trucks = self._prices.trucks_for(more) - self._trucks
        extra = sum(self._prices.volumes[barcode] for barcode in sorted(more))
        return way.cost + extra + sum(self._prices.trucks[truck] for truck in sorted(trucks))

    def _take(self, barcodes: Iterable[str]) -> bool:
        new = set(barcodes) - self.taken
        self.taken |= new
        self._trucks |= self._prices.trucks_for(new)
        return bool(new)

    def _complete(self) -> bool:
        """Take the volumes of sets that are surely needed, where it makes no difference which."""
        sole: set[str] = set()
        elsewhere: set[str] = set()
        for group in self._open:
            ways = [self._groups[group][index] for index in self._left[group]]
            elsewhere.update(barcode for way in ways for barcode in way.volumes)
            if len(ways) == 1:
                sole.update(ways[0].sets)
        changed = False
        for name in sorted(sole):
            members = self._prices.sets[name]
            others = [barcode for barcode in members.volumes if barcode not in self.taken]
            free = elsewhere.isdisjoint(others)
            free = free and self._prices.trucks_for(others) <= self._trucks
            if free or len(members.volumes) == members.k:
                wanted = self._prices.members(name, self.taken, self._trucks)
                changed |= self._take(wanted)
        return changed

    def _is_settled(self, group: int) -> bool:
        if len(self._left[group]) > 1:
            return False
        way = self._groups[group][self._left[group][0]]
        return all(self._has(name, self.taken) for name in way.sets)

    def _has(self, name: str, taken: Iterable[str]) -> bool:
        members = self._prices.sets[name]
        return len(set(members.volumes).intersection(taken)) >= members.k

    def greedy(self) -> Found:
        """Return a good choice: each group in turn takes what costs least beside all others."""
        local = _Local(self._groups, self._left, self._prices, self.taken)
        local.settle(self._open)
        for truck in sorted(self._prices.trucks.keys() - self._trucks):
            local.try_without(truck, self._open)
        return self._found(local.chosen, local.in_use())

    def with_volumes(self, opened: Iterable[str]) -> Found:
        """Return the cheapest choice among ways that need only these volumes and those taken."""
        there = self.taken.union(opened)
        chosen = [left[0] for left in self._left]
        for group in self._open:
            ways = self._groups[group]
            possible = [
                index
                for index in self._left[group]
                if there.issuperset(ways[index].volumes)
                and all(self._has(name, there) for name in ways[index].sets)
            ]
            chosen[group] = min(possible, key=lambda index: (ways[index].cost, index))
        return self._found(chosen, there)

    def _found(self, chosen: Sequence[int], hint: set[str]) -> Found:
        taken = taken_by(self._groups, chosen, self._prices, hint)
        cost = cost_of(self._groups, chosen, taken, self._prices)
        return Found(tuple(chosen), taken, cost)

    def bound(self) -> float:
        """Return what no choice costs less than: every volume's price is shared by its users."""
        prices, needed, driven = self._prices, Counter[str](), Counter[str]()
        for group in self._open:
            ways = [self._groups[group][index] for index in self._left[group]]
            users = self._useful(ways)
            needed.update(users - self.taken)
            driven.update(prices.trucks_for(users) - self._trucks)
        share = {barcode: prices.volumes[barcode] / count for barcode, count in needed.items()}
        drive = {truck: prices.trucks[truck] / count for truck, count in driven.items()}
        least = 0.0
        for group in self._open:
            ways = [self._groups[group][index] for index in self._left[group]]
            least += min(self._least(way, share, drive) for way in ways)
        return self.settled_cost() + least

    def _least(self, way: Way, share: dict[str, float], drive: dict[str, float]) -> float:
        trucks = self._prices.trucks_for(way.volumes)
        least = way.cost + sum(share.get(barcode, 0.0) for barcode in way.volumes)
        least += sum(drive.get(truck, 0.0) for truck in sorted(trucks))
        for name in way.sets:
            members = self._prices.sets[name]
            others = (barcode for barcode in members.volumes if barcode not in way.volumes)
            still = members.k - len(set(members.volumes).intersection(way.volumes))
            least += sum(sorted(share.get(barcode, 0.0) for barcode in others)[: max(0, still)])
        return least


class _Local:
    """A choice that is made better group by group; it counts who uses each volume and truck."""

    def __init__(
        self,
        groups: Sequence[Group],
        left: Sequence[Sequence[int]],
        prices: Prices,
        taken: Iterable[str],
    ) -> None:
        self._groups, self._left, self._prices = groups, left, prices
        self.chosen = [each[0] for each in left]
        self._volumes: Counter[str] = Counter(taken)
        self._trucks = Counter(
            prices.truck_of[barcode] for barcode in self._volumes if barcode in prices.truck_of
        )
        self._uses: dict[int, tuple[str, ...]] = {}

    def in_use(self) -> set[str]:
        """Return the volumes that somebody uses."""
        return {barcode for barcode, users in self._volumes.items() if users}

    def settle(self, groups: Sequence[int], without: str | None = None) -> float:
        """Let each of ``groups`` choose until nobody gains; return what that changed, in cost."""
        gained = 0.0
        for _ in range(_PASSES):
            before = gained
            for group in groups:
                gained += self._choose(group, without)
            if abs(gained - before) < 1e-9:
                break
        return gained

    def try_without(self, truck: str, groups: Sequence[int]) -> None:
        """Leave a truck at home, if that is possible and pays."""
        users = [
            group
            for group in groups
            if any(self._prices.truck_of.get(b) == truck for b in self._uses[group])
        ]
        if not users:
            return
        before = list(self.chosen), self._volumes.copy(), self._trucks.copy(), dict(self._uses)
        change = self.settle(users, without=truck)
        if change >= 0:
            self.chosen, self._volumes, self._trucks, self._uses = before

    def _choose(self, group: int, without: str | None) -> float:
        """Choose the way that costs least now; return by how much the cost grew."""
        before = 0.0
        if group in self._uses:
            used = self._uses.pop(group)
            self._count(used, -1)
            before = self._cost(self._groups[group][self.chosen[group]], used)
        ways = self._groups[group]
        found = [
            (self._cost(ways[index], used, without), place, index, used)
            for place, index in enumerate(self._left[group])
            for used in [self._needs(ways[index], without)]
        ]
        cost, _, self.chosen[group], self._uses[group] = min(found, key=lambda each: each[:2])
        self._count(self._uses[group], 1)
        return cost - before

    def _needs(self, way: Way, without: str | None) -> tuple[str, ...]:
        """Return the volumes of a way, of its sets those that cost least now."""
        needs = dict.fromkeys(way.volumes)
        for name in way.sets:
            members = self._prices.sets[name]
            needs.update(
                dict.fromkeys(
                    sorted(members.volumes, key=lambda barcode: self._more(barcode, without))[
                        : members.k
                    ]
                )
            )
        return tuple(needs)

    def _more(self, barcode: str, without: str | None) -> float:
        truck = self._prices.truck_of.get(barcode)
        if truck is not None and truck == without:
            return _NEVER
        driving = truck is None or self._trucks[truck] > 0
        price = 0.0 if self._volumes[barcode] else self._prices.volumes[barcode]
        return price + (0.0 if driving else self._prices.trucks[truck or ""])

    def _cost(self, way: Way, used: Sequence[str], without: str | None = None) -> float:
        """Return what a way costs beside all that others use."""
        cost = way.cost
        trucks: set[str] = set()
        for barcode in used:
            if not self._volumes[barcode]:
                cost += self._prices.volumes[barcode]
            if truck := self._prices.truck_of.get(barcode):
                trucks.add(truck)
        cost += sum(
            self._prices.trucks[truck] for truck in sorted(trucks) if not self._trucks[truck]
        )
        return cost + (_NEVER if without in trucks else 0.0)

    def _count(self, used: Sequence[str], by: int) -> None:
        for barcode in used:
            self._volumes[barcode] += by
            if truck := self._prices.truck_of.get(barcode):
                self._trucks[truck] += by
