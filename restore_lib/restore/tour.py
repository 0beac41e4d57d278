"""A cheap way through all places: local search over a matrix of costs that are not symmetric.

The search starts from shortest-first. It then exchanges two or three of the legs as long as that
makes the way cheaper, and after that shakes a short part of it at a time, keeping what is no
dearer. How long it looks depends on the number of places alone, never on the clock, so that the
same matrix gives the same way.
"""

import random
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

Costs = Sequence[Sequence[float]]

_NEAR = 14
_REACH = 25
_MOST_SHAKES = 1500
_LEAST = 1e-9


def shortest_first(costs: Costs) -> list[int]:
    """Return the way that goes to the nearest of the places left, each time; see ``cheapest``."""
    row = costs[-1]
    left = set(range(len(costs) - 1))
    way: list[int] = []
    while left:
        here = min(left, key=lambda place: (row[place], place))
        left.remove(here)
        way.append(here)
        row = costs[here]
    return way


def cheapest(costs: Costs) -> list[int]:
    """Return a cheap way from the last row of ``costs`` through all the others, each once.

    ``costs[a][b]`` is what going from place a to place b costs; the last column, for going back to
    where the way starts, is all zeros. The way is never dearer than shortest-first.
    """
    places = len(costs) - 1
    tour = _Tour(costs, [places, *shortest_first(costs)])
    tour.improve(tour.way)
    if places > 2:
        tour.shake(min(40 + places**2 // 160, _MOST_SHAKES))
    return tour.way[1:]


class _Tour:
    """A round trip: ``way`` begins where the reads start, and its last leg leads back there."""

    def __init__(self, costs: Costs, way: list[int]) -> None:
        self.way = way
        self._costs = costs
        self._size = len(way)
        self._next = _nearest(costs)
        self._previous = _nearest([list(column) for column in zip(*costs, strict=True)])
        self._at = [0] * self._size
        self._legs = [0.0] * self._size
        self._legs_back = [0.0] * self._size
        self._there = [0.0] * self._size
        self._back = [0.0] * self._size
        self._refresh(1, self._size)

    def improve(self, places: Iterable[int]) -> None:
        """Exchange legs that begin at ``places``, and at all that this touches, while it pays."""
        waiting = list(places)
        queued = bytearray(self._size)
        for place in waiting:
            queued[place] = 1
        while waiting:
            place = waiting.pop()
            queued[place] = 0
            while touched := self._exchange(place):
                fresh = [one for one in touched if not queued[one]]
                waiting.extend(fresh)
                for one in fresh:
                    queued[one] = 1

    def shake(self, times: int) -> None:
        """Swap two short runs at random, improve around them, and take back what has not paid."""
        chance = random.Random(self._size)  # noqa: S311  the same way each time, not a secret
        best = self._cost()
        span = min(_REACH, self._size - 1)
        for _ in range(times):
            before = [list(each) for each in self._state()]
            first = chance.randrange(self._size - span)
            i, j, k = sorted(chance.sample(range(first, first + span + 1), 3))
            self.improve(self._swap(i, j, k))
            cost = self._cost()
            if cost > best:
                for each, kept in zip(self._state(), before, strict=True):
                    each[:] = kept
            else:
                best = cost

    def _cost(self) -> float:
        return self._there[-1] + self._costs[self.way[-1]][self.way[0]]

    def _state(self) -> tuple[list[Any], ...]:
        """Return the lists that tell of the way and follow from it."""
        return self.way, self._at, self._legs, self._legs_back, self._there, self._back

    def _refresh(self, first: int, end: int) -> None:
        """Bring up to date where places are, from ``first`` to ``end``, and what it costs there."""
        way, costs, at = self.way, self._costs, self._at
        legs, legs_back = self._legs, self._legs_back
        for index in range(first, end):
            at[way[index]] = index
        for index in range(first, min(end + 1, self._size)):
            here, last = way[index], way[index - 1]
            legs[index] = costs[last][here]
            legs_back[index] = costs[here][last]
        known = first - 1
        self._there[known:] = accumulate(legs[first:], initial=self._there[known])
        self._back[known:] = accumulate(legs_back[first:], initial=self._back[known])

    def _exchange(self, here: int) -> list[int] | None:
        """Put a cheaper leg in place of the one from ``here``; return the places it touches."""
        way, costs, at = self.way, self._costs, self._at
        leg = costs[here]
        index = at[here]
        follower = way[(index + 1) % self._size]
        for target in self._next[here]:
            gain = leg[follower] - leg[target]
            if gain <= _LEAST:
                return None
            if at[target] > index and (touched := self._reverse(index, at[target], gain)):
                return touched
            if touched := self._move(index, at[target], gain):
                return touched
        return None

    def _reverse(self, index: int, last: int, gain: float) -> list[int] | None:
        """Pass the places behind ``index`` up to ``last`` the other way round, if that pays."""
        way, costs = self.way, self._costs
        first, end = way[index + 1], way[last]
        beyond = way[(last + 1) % self._size]
        gain += costs[end][beyond] - costs[first][beyond]
        gain += self._there[last] - self._there[index + 1]
        gain -= self._back[last] - self._back[index + 1]
        if gain <= _LEAST:
            return None
        touched = [way[index], first, end, beyond]
        way[index + 1 : last + 1] = way[last:index:-1]
        self._refresh(index + 1, last + 1)
        return touched

    def _move(self, index: int, target: int, gain: float) -> list[int] | None:
        """Swap the run behind ``index`` up to ``target`` with a run that follows it, if that pays.

        No run is turned round: three legs go, three others come.
        """
        way, costs, at, size = self.way, self._costs, self._at, self._size
        cut = (target - 1) % size
        before = way[cut]
        gain += costs[before][way[target]]
        leg = costs[before]
        follower = way[(index + 1) % size]
        for place in self._previous[follower]:
            rest = gain - costs[place][follower]
            if rest <= _LEAST:
                return None
            end = at[place]
            beyond = way[(end + 1) % size]
            if rest + costs[place][beyond] - leg[beyond] <= _LEAST:
                continue
            if index < cut < end or cut < end < index or end < index < cut:
                return self._swap(*sorted((index, cut, end)))
        return None

    def _swap(self, i: int, j: int, k: int) -> list[int]:
        """Swap the runs from behind i to j and from behind j to k; return the places touched."""
        way = self.way
        touched = [way[i], way[i + 1], way[j], way[j + 1], way[k], way[(k + 1) % self._size]]
        way[i + 1 : k + 1] = way[j + 1 : k + 1] + way[i + 1 : j + 1]
        self._refresh(i + 1, k + 1)
        return touched


def _nearest(costs: Costs) -> list[list[int]]:
    """Return for each place the few that are cheapest to go to, the nearest first."""
    found: list[list[int]] = []
    for place, row in enumerate(costs):
        nearest = sorted(range(len(row)), key=row.__getitem__)[: _NEAR + 1]
        found.append([other for other in nearest if other != place][:_NEAR])
    return found
