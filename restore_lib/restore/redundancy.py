"""Redundancy: which volumes to take along in case that one of those wanted can't be read.

Without them a bad volume costs a second trip, for as many others of its set as rebuild it.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import prod
from typing import Any

from restore_lib.catalog.requests import Request
from restore_lib.model.states import TakeRedundancy
from restore_lib.model.volume import Custody, Health, Volume
from restore_lib.restore.choosing import Choices, Circumstances
from restore_lib.restore.plan import Planner

BAD = 0.0005
BAD_A_YEAR = 0.0005
BAD_UNVERIFIED = 0.003
BAD_SUSPECT = 0.2
"""The share of volumes that can't be read: just verified, for each year since, never verified."""
_YEAR = timedelta(days=365.25)


@dataclass(frozen=True, slots=True)
class Spares:
    """The volumes to take along, and what they are weighed against; costs in minutes of work.

    ``chance`` is that of a second trip without them, ``chance_left`` the one with them. ``trip`` is
    what the trip costs, ``boxes`` what taking along costs.
    """

    take: TakeRedundancy
    volumes: tuple[str, ...] = ()
    chance: float = 0.0
    chance_left: float = 0.0
    trip: float = 0.0
    boxes: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return what a plan tells about it."""
        return {
            "take": self.take,
            "volumes": list(self.volumes),
            "second_trip_chance": round(self.chance, 4),
            "second_trip_chance_with": round(self.chance_left, 4),
            "second_trip_cost": round(self.trip, 1),
            "boxes_cost": round(self.boxes, 1),
        }


@dataclass(frozen=True, slots=True)
class _Need:
    """What one set would have to be sent for if one of its wanted volumes is bad."""

    tape_set: str
    chance: float
    volumes: tuple[str, ...]
    cost: float


def chance_of_bad(volume: Volume, now: datetime) -> float:
    """Return how likely it is that a volume can't be read, by its health and its last check."""
    if volume.health is Health.SUSPECT:
        return BAD_SUSPECT
    if volume.verified_at is None:
        return BAD_UNVERIFIED
    return min(BAD_SUSPECT, BAD + BAD_A_YEAR * max(now - volume.verified_at, timedelta(0)) / _YEAR)


def spares_for(
    choices: Choices, planner: Planner, around: Circumstances, take: TakeRedundancy, now: datetime
) -> Spares:
    """Return the volumes to take along; with ``auto``, those that are cheaper than the risk.

    None where everything is here: there is no first trip that they could come with.
    """
    taken = choices.taken
    if all(planner.volumes[barcode].custody is Custody.MOUNTABLE for barcode in taken):
        return Spares(take)
    driven = {v for b in taken if (v := around.truck_of(planner.volumes[b])) is not None}
    needs = sorted(
        _needs(taken, planner, around, now), key=lambda n: (-n.chance / n.cost, n.tape_set)
    )
    trucks = [_trucks(need.volumes, planner, around) for need in needs]
    trip = sum(around.truck(vault) for vault in sorted(set().union(*trucks)))
    boxes = [0.0]
    for need, vaults in zip(needs, trucks, strict=True):
        more = sum(around.truck(vault) for vault in sorted(vaults - driven))
        driven |= vaults
        boxes.append(boxes[-1] + need.cost + more)
    counts = {TakeRedundancy.NEVER: 0, TakeRedundancy.ALWAYS: len(needs)}
    count = counts[take] if take in counts else _cheapest(needs, boxes, trip)
    return Spares(
        take,
        tuple(sorted(barcode for need in needs[:count] for barcode in need.volumes)),
        1 - prod(1 - need.chance for need in needs),
        1 - prod(1 - need.chance for need in needs[count:]),
        trip,
        boxes[count],
    )


def spares_of(request: Request) -> list[str]:
    """Return the volumes that the plan of a request takes along."""
    return list(((request.plan or {}).get("redundancy") or {}).get("volumes") or ())


def _needs(
    taken: Collection[str], planner: Planner, around: Circumstances, now: datetime
) -> Iterator[_Need]:
    """Yield the sets of which one bad volume would cause a second trip, and what for."""
    for tape_set, wanted in planner.by_set(taken).items():
        usable = planner.usable(tape_set)
        away = [b for b in usable if around.truck_of(planner.volumes[b]) and b not in taken]
        at_hand = len(usable) - len(away)
        lacking = planner.k[tape_set] - (at_hand - 1)
        if not 0 < lacking <= len(away):
            continue
        spares = sorted(away, key=lambda b: (around.truck_of(planner.volumes[b]) or "", b))
        chance = 1 - prod(1 - chance_of_bad(planner.volumes[b], now) for b in sorted(wanted))
        volumes = tuple(spares[:lacking])
        cost = sum(around.bring(planner.volumes[barcode]) for barcode in volumes)
        yield _Need(tape_set, chance, volumes, cost)


def _trucks(barcodes: Collection[str], planner: Planner, around: Circumstances) -> set[str]:
    return {v for b in barcodes if (v := around.truck_of(planner.volumes[b])) is not None}


def _cheapest(needs: Sequence[_Need], boxes: Sequence[float], trip: float) -> int:
    """Return for how many of the needs, the most worthwhile first, to take their volumes along."""
    sound, later = 1.0, 0.0
    best = (boxes[-1], -len(needs))
    for count in range(len(needs) - 1, -1, -1):
        sound *= 1 - needs[count].chance
        later += needs[count].chance * needs[count].cost
        best = min(best, (boxes[count] + (1 - sound) * trip + later, -count))
    return -best[1]
