"""The order of reads on one tape: which object next, so that the drive locates as little as it can.

In block order a drive goes to and fro over most of the tape for each object, since neighbouring
wraps run in opposite directions. A cheap order takes the objects of many wraps on one pass.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from restore_lib.library.lto import PER_LPOS, Geometry, Track
from restore_lib.restore.tour import cheapest

MOST_RUNS = 1000
_NOT_BEYOND = 25 * 10**9
"""What is farther is reached sooner by a locate: on LTO-9 from 22.5 GB on, over a wrap's end."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bytes of a tape that are read in one go: from ``start`` up to, but not including, ``end``."""

    start: int
    end: int


def order(stretches: Sequence[Stretch], start: int, geometry: Geometry | None) -> list[int]:
    """Return the indexes of ``stretches`` in the order in which to read them from byte ``start``.

    Each is there once. The same input gives the same order, never one that takes longer than block
    order; of up to MOST_RUNS stretches, nor than shortest-first. Of more, neighbours on the same
    wrap are kept together, the nearest first, until no more runs than that are left or one for each
    wrap. Without a geometry a locate takes no time, and the order is that of the blocks.
    """
    by_block = sorted(range(len(stretches)), key=lambda index: _key(stretches[index], index))
    if geometry is None or len(stretches) < 2:
        return by_block
    runs = _runs(stretches, by_block, geometry)
    ends = [Stretch(stretches[run[0]].start, stretches[run[-1]].end) for run in runs]
    ordered = [index for run in cheapest(cost_matrix(ends, start, geometry)) for index in runs[run]]
    return min(
        ordered,
        by_block,
        key=lambda way: seconds([stretches[index] for index in way], start, geometry),
    )


def seconds(way: Sequence[Stretch], start: int, geometry: Geometry) -> float:
    """Return how long a drive takes from byte ``start`` to and between stretches, in this order."""
    ends = [start, *(stretch.end for stretch in way)]
    return sum(
        geometry.seconds_between(here, stretch.start)
        for here, stretch in zip(ends, way, strict=False)
    )


def cost_matrix(stretches: Sequence[Stretch], start: int, geometry: Geometry) -> list[list[float]]:
    """Return the seconds from the end of each stretch to the beginning of each other one.

    The last row is for ``start``, the last column for a way back there, which costs nothing.
    """
    targets = [geometry.spot(stretch.start) for stretch in stretches]
    tracks = [there.track for there in targets]
    positions = [PER_LPOS * there.lpos for there in targets]
    by_block = sorted(range(len(stretches)), key=lambda index: stretches[index].start)
    starts = [stretches[index].start for index in by_block]
    changes: dict[Track, list[float]] = {}
    matrix: list[list[float]] = []
    for here in [*(stretch.end for stretch in stretches), start]:
        spot = geometry.spot(here)
        if spot.track not in changes:
            change_to = {track: spot.track.change_seconds(track) for track in set(tracks)}
            changes[spot.track] = [change_to[track] for track in tracks]
        position = PER_LPOS * spot.lpos
        row = [
            change + abs(there - position)
            for change, there in zip(changes[spot.track], positions, strict=True)
        ]
        first, last = _same_wrap_or_near(geometry, spot.wrap, here)
        for index in by_block[bisect_left(starts, first) : bisect_left(starts, last)]:
            row[index] = geometry.seconds_between(here, stretches[index].start)
        row.append(0.0)
        matrix.append(row)
    return matrix


def _same_wrap_or_near(geometry: Geometry, wrap: int, here: int) -> tuple[float, float]:
    """Return the bytes between which a locate stays on its wrap, or reading on may be quicker."""
    first = wrap * geometry.wrap_bytes - 1
    last = (wrap + 1) * geometry.wrap_bytes + 1 if wrap + 1 < geometry.wraps else float("inf")
    return first, max(last, here + _NOT_BEYOND)


def _runs(
    stretches: Sequence[Stretch], by_block: Sequence[int], geometry: Geometry
) -> list[list[int]]:
    """Return runs of stretches that are read one after the other, MOST_RUNS of them at most."""
    spare = len(by_block) - MOST_RUNS
    joined = set(sorted(_gaps(stretches, by_block, geometry))[: max(0, spare)])
    after = {index for _, index in joined}
    runs: list[list[int]] = []
    for index in by_block:
        if index in after:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs


def _gaps(
    stretches: Sequence[Stretch], by_block: Sequence[int], geometry: Geometry
) -> Iterator[tuple[int, int]]:
    """Yield the bytes before each stretch that follows another on the same wrap, and its index."""
    for before, index in pairwise(by_block):
        end, start = stretches[before].end, stretches[index].start
        if geometry.wrap(end) == geometry.wrap(start):
            yield start - end, index


def _key(stretch: Stretch, index: int) -> tuple[int, int, int]:
    return stretch.start, stretch.end, index
