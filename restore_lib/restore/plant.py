"""What a restore runs on: drives, robots, doors, trucks, and how sure one is of their numbers.

Each number that can't be known before is a prior: a Factor about a rate, or a Chance of a fault. A
simulated restore draws its own truth from them; what is seen while a restore runs narrows them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Protocol, Self

from restore_lib.library.lto import LTO9_MOUNT
from restore_lib.restore.estimate import VIRTUAL

HOUR = 3600.0
DAY = 24 * HOUR


class MountTimes(Protocol):
    """How long a mount takes; the time models of drives are of this kind."""

    @property
    def move(self) -> float:
        """Seconds of one robot move; a mount has two, which ``mount`` includes."""

    def mount(self, objects: int, size: int) -> float:
        """Return the seconds that one mount takes to read ``objects`` of ``size`` bytes in all."""


@dataclass(frozen=True, slots=True)
class Factor:
    """By what a duration differs from its model: a log-normal about ``middle``.

    ``weight`` is how many observations the prior counts as, so how slowly it gives way to them.
    """

    middle: float = 1.0
    spread: float = 0.0
    weight: float = 1.0

    def draw(self, random: Random) -> float:
        """Return one truth."""
        return self.middle * math.exp(self.spread * random.gauss()) if self.spread else self.middle

    def seen(self, ratio: float, count: int) -> Self:
        """Return what is known after ``count`` durations were ``ratio`` times the model's.

        The middle becomes the weighted geometric mean of prior and observation, and the spread
        shrinks as that of a mean does. No observation, or a fixed factor, changes nothing.
        """
        if not count or ratio <= 0 or not self.spread:
            return self
        total = self.weight + count
        middle = math.exp((self.weight * math.log(self.middle) + count * math.log(ratio)) / total)
        return replace(
            self, middle=middle, spread=self.spread * math.sqrt(self.weight / total), weight=total
        )


@dataclass(frozen=True, slots=True)
class Chance:
    """The share of cases in which a fault happens: a Beta distribution of hits and misses."""

    hits: float
    misses: float

    def draw(self, random: Random) -> float:
        """Return one truth, from 0 to 1."""
        return random.betavariate(self.hits, self.misses) if self.hits else 0.0

    def seen(self, hits: float, misses: float) -> Self:
        """Return what is known after so many cases with the fault and without it."""
        return replace(self, hits=self.hits + hits, misses=self.misses + misses)


@dataclass(frozen=True, slots=True)
class VaultTimes:
    """One vault: seconds of a truck's way, volumes picked an hour, and when trucks leave.

    ``departures`` are seconds of the day (UTC); without any, a truck leaves once it is packed.
    """

    transit: float
    picks_per_hour: float = 600.0
    departures: tuple[float, ...] = ()

    def wait(self, at: float) -> float:
        """Return the seconds from ``at``, in seconds since a midnight, to the next departure."""
        if not self.departures:
            return 0.0
        return min((leaves - at) % DAY for leaves in self.departures)


@dataclass(frozen=True, slots=True)
class Plant:
    """All that a restore runs on; times in seconds, rates in bytes a second.

    ``imports_per_hour`` is of each robot's door. ``store_rate`` and ``staging`` (bytes) are without
    bound where None. ``rounds`` requests for a volume are made before it counts as lost.
    ``dies`` is the share of mounts in which a drive dies; it is back after ``repair``. Volumes that
    a vault leaves out are asked for again once it says so where it has ``acknowledged`` what it
    sends, else once the truck is here. ``copying`` is of one object from another store.
    """

    drives: int
    times: MountTimes
    robots: int = 1
    imports_per_hour: float = 600.0
    acclimation: float = DAY
    vaults: Mapping[str, VaultTimes] = field(default_factory=dict)
    store_rate: float | None = None
    staging: int | None = None
    rounds: int = 4
    objects_per_second: float = 30_000.0
    copying: float = 0.05
    repair: float = DAY
    acknowledged: bool = False
    reading: Factor = Factor(spread=0.14, weight=20)
    mount_noise: float = 0.2
    moving: Factor = Factor(spread=0.1)
    importing: Factor = Factor(spread=0.1)
    picking: Factor = Factor(spread=0.3)
    driving: Factor = Factor(spread=0.15)
    publishing: Factor = Factor(spread=0.15)
    omitted: Chance = Chance(0.6, 5.4)
    omitted_again: Chance = Chance(0.5, 24.5)
    bad: Chance = Chance(1, 999)
    dies: Chance = Chance(1, 19_999)

    def drive_seconds(self, mounts: int, objects: int, size: int) -> float:
        """Return the seconds for which mounts, that share ``objects`` and bytes, hold a drive.

        Robot moves are not among them. Without mounts, objects are copied from another store.
        """
        if not mounts:
            return objects * self.copying
        each = self.times.mount(objects, size // mounts) - 2 * self.times.move
        return mounts * max(each, 0.0)

    def batch_seconds(self, mounts: int, objects: int, size: int) -> float:
        """Return what an undisturbed batch takes, robot moves included."""
        return self.drive_seconds(mounts, objects, size) + 2 * mounts * self.times.move


def lto9_plant(drives: int, **values: object) -> Plant:
    """Return a plant of LTO-9 drives, with the figures of docs/scale.md where none is given."""
    return Plant(drives, LTO9_MOUNT, **values)  # type: ignore[arg-type]  # checked by Plant itself


def virtual_plant(drives: int, **values: object) -> Plant:
    """Return a plant of virtual tapes: no door, nothing to acclimate, as fast as its machine is."""
    still = {
        "acclimation": 0.0,
        "imports_per_hour": 1e6,
        "repair": 60.0,
        "reading": Factor(spread=0.5, weight=3),
        "bad": Chance(0.1, 999),
    }
    return Plant(drives, VIRTUAL, **(still | values))  # type: ignore[arg-type]  # likewise
