"""How an LTO cartridge is laid out, and how long a drive takes to get from one byte to another.

An LTO cartridge is written in wraps: one along the whole tape, the next back, and so on. Where a
byte lies along the tape is its LPOS, the longitudinal position that the servo tracks give.

A locate is priced as the CERN Tape Archive does to order its reads, with the coefficients and the
range of LPOS that CERN has found for LTO-7 type M cartridges (CTACostHeuristic and RAOHelpers in
CTA's tape server). CTA counts a change of band once, however far apart the bands are, and a change
of landing zone when the other half of the tape is gone to. Its sum falls below nothing for a short
way over the middle of a tape; here a locate takes at least as long as its distance asks for.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import exp, inf, log
from typing import NamedTuple

_LOCATE = 4.29
_WRAP_CHANGE = 6.69
_BAND_CHANGE = 3.2
_ZONE_CHANGE = -6.04
_DIRECTION_CHANGE = 5.22
_STEP_BACK = 11.32
PER_LPOS = 0.0006192
"""The seconds that the tape runs for each LPOS of a locate's way."""


class Track(NamedTuple):
    """What a locate's fixed part depends on when the wrap changes: direction, band and half."""

    forward: bool
    band: int
    far_half: bool

    def change_seconds(self, other: "Track") -> float:
        """Return the seconds that a locate to another wrap takes beside those for its distance."""
        return (
            _LOCATE
            + _WRAP_CHANGE
            + _BAND_CHANGE * (self.band != other.band)
            + _ZONE_CHANGE * (self.far_half != other.far_half)
            + _DIRECTION_CHANGE * (self.forward != other.forward)
        )


class Spot(NamedTuple):
    """Where a byte lies on the tape."""

    wrap: int
    lpos: float
    track: Track


@dataclass(frozen=True, slots=True)
class Geometry:
    """The layout of a cartridge, and the native rate of its drive in bytes a second.

    Each wrap holds the same number of bytes, even ones run away from the beginning of the tape,
    odd ones back to it, and each band holds the same number of wraps. Offsets are in bytes as
    stored from the beginning of the tape; one behind the capacity counts as the end of the tape.
    Data are taken to be encrypted, so that the drive makes them no smaller.
    """

    capacity: int
    wraps: int
    bands: int
    first_lpos: int
    last_lpos: int
    rate: float

    @property
    def wrap_bytes(self) -> float:
        """Return what one wrap holds."""
        return self.capacity / self.wraps

    def wrap(self, offset: int) -> int:
        """Return the number of the wrap that a byte lies on."""
        return min(offset * self.wraps // self.capacity, self.wraps - 1)

    def spot(self, offset: int) -> Spot:
        """Return where a byte lies."""
        wrap = self.wrap(offset)
        share = min(offset / self.wrap_bytes - wrap, 1.0)
        forward = wrap % 2 == 0
        length = self.last_lpos - self.first_lpos
        lpos = self.first_lpos + length * (share if forward else 1 - share)
        far_half = lpos >= (self.first_lpos + self.last_lpos) / 2
        return Spot(wrap, lpos, Track(forward, wrap * self.bands // self.wraps, far_half))

    def locate_seconds(self, here: int, there: int) -> float:
        """Return how long a locate from one byte to another takes."""
        a, b = self.spot(here), self.spot(there)
        distance = PER_LPOS * abs(b.lpos - a.lpos)
        if a.wrap != b.wrap:
            return a.track.change_seconds(b.track) + distance
        fixed = _LOCATE + _ZONE_CHANGE * (a.track.far_half != b.track.far_half)
        return max(0.0, fixed + _STEP_BACK * (there < here)) + distance

    def seconds_between(self, here: int, there: int) -> float:
        """Return how long the drive takes from one byte to another: by locate, or by reading on.

        What lies between is read through when that is quicker: up to about 5 GB on one wrap.
        """
        located = self.locate_seconds(here, there)
        return min(located, (there - here) / self.rate) if there >= here else located

    def reads_through(self, here: int, there: int) -> bool:
        """Whether reading on is at least as quick as a locate."""
        return 0 <= there - here <= self.rate * self.locate_seconds(here, there)


@dataclass(frozen=True, slots=True)
class MountModel:
    """How long a mount takes, in seconds: a robot's moves, load, locates, reads, rewind and unload.

    ``rewinds`` are bounds in bytes that were read and the seconds of a rewind below them;
    ``locates`` are numbers of objects and the seconds of their locates in a cheap order.
    """

    move: float
    load: float
    unload: float
    rate: float
    rewinds: tuple[tuple[float, float], ...]
    locates: tuple[tuple[int, float], ...]

    def fixed(self, size: int) -> float:
        """Return the seconds of moves, load, rewind and unload when ``size`` bytes are read."""
        rewind = next(seconds for bound, seconds in self.rewinds if size < bound)
        return 2 * self.move + self.load + rewind + self.unload

    def located(self, objects: int) -> float:
        """Return about how long the locates to objects take that lie anywhere on a full volume.

        More than the table has are counted at the rate of its last row, which is too much.
        """
        if objects < self.locates[0][0]:
            return 0.0
        for (few, short), (many, long) in pairwise(self.locates):
            if objects <= many:
                power = log(objects / few) / log(many / few)
                return short * exp(power * log(long / short))
        many, long = self.locates[-1]
        return long * objects / many

    def mount(self, objects: int, size: int) -> float:
        """Return the seconds that one mount takes to read ``objects`` of ``size`` bytes in all."""
        return self.fixed(size) + self.located(objects) + size / self.rate


LTO9 = Geometry(
    capacity=18 * 10**12, wraps=280, bands=4, first_lpos=2696, last_lpos=171097, rate=400e6
)
LTO9_MOUNT = MountModel(
    move=12.5,
    load=17.0,
    unload=30.0,
    rate=LTO9.rate,
    rewinds=((5e9, 55.0), (50e9, 110.0), (inf, 165.0)),
    locates=(
        (1, 65.0),
        (2, 95.8),
        (5, 161.0),
        (10, 244.0),
        (20, 398.0),
        (40, 682.0),
        (80, 1215.0),
        (160, 2192.0),
        (320, 4006.0),
        (640, 7281.0),
        (1000, 10646.0),
        (5000, 33327.0),
    ),
)
"""``locates`` are means over random tapes in the order that ``restore.order`` finds."""
