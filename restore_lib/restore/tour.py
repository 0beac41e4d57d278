"""A cheap way through all places: local search over a matrix of costs that are not symmetric.

The search starts from shortest-first. It then exchanges two or three of the legs as long as that
makes the way cheaper, and after that shakes a short part of it at a time, keeping what is no
dearer. How long it looks depends on the number of places alone, never on the clock, so that the
same matrix gives the same way.
"""

import random
from collections.abc import Iterable, Sequence
from itertools import pairwise

Costs = Sequence[Sequence[float]]
_Found = tuple[float, tuple[int, ...]]
"""What an exchange gains, and the places whose legs it touches."""
_Near = list[tuple[float, int]]
"""Places and what it costs to get there, or to come from there; the nearest first."""

_NEAR = 14
_REACH = 25
_MOST_SHAKES = 2000
_LEAST = 1e-9


def shortest_first(costs: Costs) -> list[int]:
    """Return the way that goes to the nearest of the places left, each time; see ``cheapest``."""
    row = costs[-1]
    left = list(range(len(costs) - 1))
    way: list[int] = []
    while left:
        here = min(left, key=row.__getitem__)
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
        tour.shake(min(45 + places**2 // 128, _MOST_SHAKES))
    return tour.way[1:]


class _Tour:
    """A round trip: ``way`` begins where the reads start, and its last leg leads back there."""

    def __init__(self, costs: Costs, way: list[int]) -> None:
        self.way = way
        self._costs = costs
        self._next = _nearest(costs)
        self._previous = _whose_nearest(self._next)
        self._at = [0] * len(way)
        self._after = [0] * len(way)
        self._refresh(0, len(way))

    def improve(self, places: Iterable[int]) -> float:
        """Exchange legs that begin at ``places``, and at all that this touches, while it pays.

        Return what the way costs less for it.
        """
        saved = 0.0
        waiting = dict.fromkeys(places)  # a stack that holds each place once
        while waiting:
            place, _ = waiting.popitem()
            while found := self._exchange(place):
                gain, touched = found
                saved += gain
                waiting.update(dict.fromkeys(touched))
        return saved

    def shake(self, times: int) -> None:
        """Swap two short runs at random, improve around them, and take back what has not paid."""
        size = len(self.way)
        chance = random.Random(size)  # noqa: S311  the same way each time, not a secret
        span = min(_REACH, size - 1)
        for _ in range(times):
            before = self.way[:], self._at[:], self._after[:]
            first = chance.randrange(size - span)
            i, j, k = sorted(chance.sample(range(first, first + span + 1), 3))
            gain, touched = self._swap(i, j, k)
            if gain + self.improve(touched) < 0:
                self.way, self._at, self._after = before

    def _refresh(self, first: int, end: int) -> None:
        """Bring up to date where the places from ``first`` to ``end`` are, and what follows."""
        way, at, after = self.way, self._at, self._after
        here = way[first - 1]
        for index, there in enumerate(way[first:end], first):
            at[there] = index
            after[here] = there
            here = there
        after[here] = way[end - len(way)]

    def _exchange(self, here: int) -> _Found | None:
        """Put a cheaper leg in place of the one from ``here``, if the whole way gains by it.

        Return what it gains, and the places that it touches.
        """
        costs, at, after = self._costs, self._at, self._after
        index, follower = at[here], after[here]
        leg = costs[here][follower]
        for cost_there, there in self._next[here]:
            gain = leg - cost_there
            if gain <= _LEAST:
                return None
            if at[there] > index and (found := self._reverse(index, at[there], gain)):
                return found
            before = self.way[at[there] - 1]
            row = costs[before]
            most = gain + row[there] - _LEAST
            for cost_back, end in self._previous[follower]:
                if cost_back >= most:
                    break
                beyond = after[end]
                if cost_back + row[beyond] < most + costs[end][beyond]:
                    cut, last = at[before], at[end]
                    if index < cut < last or cut < last < index or last < index < cut:
                        return self._swap(*sorted((index, cut, last)))
        return None

    def _reverse(self, index: int, last: int, gain: float) -> _Found | None:
        """Pass the places behind ``index`` up to ``last`` the other way round, if that pays.

        It is not tried where the two new legs alone do not pay: that rarely gains.
        """
        way, costs = self.way, self._costs
        here, first, end = way[index], way[index + 1], way[last]
        beyond = self._after[end]
        gain += costs[end][beyond] - costs[first][beyond]
        if gain <= _LEAST:
            return None
        run = way[index + 1 : last + 1]
        gain += sum(costs[a][b] - costs[b][a] for a, b in pairwise(run))
        if gain <= _LEAST:
            return None
        way[index + 1 : last + 1] = reversed(run)
        self._refresh(index + 1, last + 1)
        return gain, (here, first, end, beyond)

    def _swap(self, i: int, j: int, k: int) -> _Found:
        """Swap the runs from behind i to j and from behind j to k, turning none round.

        Return what that gains, and the places it touches.
        """
        way, costs, after = self.way, self._costs, self._after
        a, c, e = way[i], way[j], way[k]
        b, d, f = after[a], after[c], after[e]
        way[i + 1 : k + 1] = way[j + 1 : k + 1] + way[i + 1 : j + 1]
        self._refresh(i + 1, k + 1)
        gain = costs[a][b] + costs[c][d] + costs[e][f] - costs[a][d] - costs[e][b] - costs[c][f]
        return gain, (a, b, c, d, e, f)


def _nearest(costs: Costs) -> list[_Near]:
    """Return for each place the few that are cheapest to go to."""
    found: list[_Near] = []
    for place, row in enumerate(costs):
        nearest = sorted(range(len(row)), key=row.__getitem__)[: _NEAR + 1]
        found.append([(row[other], other) for other in nearest if other != place][:_NEAR])
    return found


def _whose_nearest(nearest: Sequence[_Near]) -> list[_Near]:
    """Return for each place those that have it among the few they are near to."""
    found: list[_Near] = [[] for _ in nearest]
    for place, others in enumerate(nearest):
        for cost_there, other in others:
            found[other].append((cost_there, place))
    return [sorted(each) for each in found]
