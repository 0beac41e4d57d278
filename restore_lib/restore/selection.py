"""Selection: the cheapest volumes to take, where objects have more than one way back.

A volume costs what it takes to bring and to mount it, and each truck that drives is paid for once.
Objects with the same ways are one group; each takes one of its ways. That is a facility location
problem: what must be is taken, what can't pay is dropped, and an integer program decides the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from restore_lib.restore.selection_search import Found, Search
from restore_lib.restore.selection_solver import solve
from restore_lib.restore.ways import Group, Prices, cost_of, taken_by

SECONDS = 3.0
MOST_CHOICES = 40_000
"""Of more ways than these a greedy search chooses alone, and tells how far off it is at most."""
_EQUAL = 1e-9


@dataclass(frozen=True, slots=True)
class Selection:
    """Which way each group takes, and the volumes taken; no choice costs less than ``bound``.

    ``first_fit`` is what the first way of each group would cost, with so many volumes and trucks.
    ``method`` is forced (nothing was to be chosen), exact, bounded (the time was up before it was
    proven to be the cheapest), or greedy (there was too much to choose from).
    """

    chosen: tuple[int, ...]
    taken: frozenset[str]
    cost: float
    bound: float
    first_fit: float
    first_fit_volumes: int
    first_fit_trucks: int
    method: str

    @property
    def gap(self) -> float:
        """By which share of its cost the choice is off the cheapest one at most."""
        return max(0.0, 1 - self.bound / self.cost) if self.cost > _EQUAL else 0.0


def select(groups: Sequence[Group], prices: Prices, seconds: float = SECONDS) -> Selection:
    """Choose a way for each group so that all together cost least; never more than first fit.

    The same input gives the same choice, unless the time is up. Each group must have a way.
    """
    first = tuple(0 for _ in groups)
    fitted = taken_by(groups, first, prices)
    first_fit = cost_of(groups, first, fitted, prices)
    search = Search(groups, prices)
    search.reduce()
    found = [Found(first, fitted, first_fit)]
    method, bound = "greedy", search.bound()
    if search.settled:
        method = "forced"
    elif search.choices <= MOST_CHOICES:
        solved = solve(search.left(), prices, search.taken, seconds)
        method = "exact" if solved.exact else "bounded"
        bound = max(bound, search.settled_cost() + solved.bound)
        if solved.opened is not None:
            found.append(search.with_volumes(solved.opened))
    if method != "exact":
        found.append(search.greedy())
    best = min(found, key=lambda each: each.cost)
    return Selection(
        best.chosen,
        best.taken,
        best.cost,
        min(bound, best.cost),
        first_fit,
        len(fitted),
        len(prices.trucks_for(fitted)),
        method,
    )
