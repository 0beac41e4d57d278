"""The order of reads on one tape: `python -m benchmarks.order [--tapes N] [--seed N] [--json]`.

Random LTO-9 tapes, each full, with objects anywhere on it: how long the drive locates (and reads
through what lies between) in random order, by block, shortest-first, and in the order of
``restore_lib.restore.order``, and how long finding that order takes. The times are those of the
model, not of a drive. The exit status is 1 when a bar is missed.
"""

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from restore_lib.library.lto import LTO9
from restore_lib.restore.order import Stretch, cost_matrix, order, seconds
from restore_lib.restore.tour import shortest_first

SIZES = (10, 80, 500)
BAR_SORTED = {80: 0.35}
BAR_SHORTEST = {80: 0.95, 500: 0.95}
BAR_MILLISECONDS = {80: 20.0, 500: 1000.0}


@dataclass(frozen=True, slots=True)
class Row:
    """Mean seconds of locates over some tapes, and medians of how long ordering one took, in ms.

    ``cpu_ms`` is processor time of the one core that ordering uses, ``wall_ms`` the clock's.
    """

    objects: int
    tapes: int
    random: float
    sorted: float
    shortest_first: float
    ours: float
    cpu_ms: float
    wall_ms: float

    @property
    def to_sorted(self) -> float:
        """What is left of the time in block order."""
        return self.ours / self.sorted

    @property
    def to_shortest(self) -> float:
        """What is left of the time in shortest-first order."""
        return self.ours / self.shortest_first

    def misses(self) -> list[str]:
        """Return the bars that this row misses."""
        figures = (
            ("ours / sorted", self.to_sorted, BAR_SORTED),
            ("ours / shortest-first", self.to_shortest, BAR_SHORTEST),
            ("ms of ordering", self.cpu_ms, BAR_MILLISECONDS),
        )
        return [
            f"{name} at {self.objects} objects is {value:.3f}, bar {bars[self.objects]}"
            for name, value, bars in figures
            if self.objects in bars and value > bars[self.objects]
        ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table or JSON; return 1 when a bar is missed."""
    options = _options(arguments)
    rows = [measure(objects, options.tapes, options.size, options.seed) for objects in SIZES]
    missed = [miss for row in rows for miss in row.misses()]
    if options.json:
        found = [
            asdict(row) | {"to_sorted": row.to_sorted, "to_shortest_first": row.to_shortest}
            for row in rows
        ]
        print(json.dumps({"size": options.size, "rows": found, "missed": missed}, indent=2))
    else:
        print(report(rows))
        print("\n".join(missed) or "All bars are met.")
    return 1 if missed else 0


def measure(objects: int, tapes: int, size: int, seed: int) -> Row:
    """Return the figures for tapes with so many objects of ``size`` bytes."""
    totals: dict[str, list[float]] = {"random": [], "sorted": [], "shortest_first": [], "ours": []}
    cpu: list[float] = []
    wall: list[float] = []
    for number in range(tapes):
        tape = make_tape(objects, size, random.Random(f"{seed} {objects} {number}"))
        begun = time.process_time(), time.perf_counter()
        ours = order(tape, 0, LTO9)
        cpu.append((time.process_time() - begun[0]) * 1e3)
        wall.append((time.perf_counter() - begun[1]) * 1e3)
        ways = {
            "random": range(objects),
            "sorted": sorted(range(objects), key=lambda index: tape[index].start),
            "shortest_first": shortest_first(cost_matrix(tape, 0, LTO9)),
            "ours": ours,
        }
        for name, way in ways.items():
            totals[name].append(seconds([tape[index] for index in way], 0, LTO9))
    means = {name: statistics.fmean(found) for name, found in totals.items()}
    return Row(
        objects, tapes, **means, cpu_ms=statistics.median(cpu), wall_ms=statistics.median(wall)
    )


def make_tape(objects: int, size: int, draw: random.Random) -> list[Stretch]:
    """Return objects that do not overlap, in random order."""
    places = draw.sample(range(LTO9.capacity // size), objects)
    return [Stretch(place * size, (place + 1) * size) for place in places]


def report(rows: Sequence[Row]) -> str:
    """Return the table in Markdown."""
    heads = [
        *("objects", "tapes", "random", "by block", "shortest-first", "ours", "ours / by block"),
        *("ours / shortest-first", "ordering, CPU", "ordering, clock"),
    ]
    lines = [f"| {' | '.join(heads)} |", "|" + "---:|" * len(heads)]
    lines += [
        f"| {row.objects} | {row.tapes} | {row.random:,.0f} s | {row.sorted:,.0f} s "
        f"| {row.shortest_first:,.0f} s | {row.ours:,.0f} s | {row.to_sorted:.3f} "
        f"| {row.to_shortest:.3f} | {row.cpu_ms:.1f} ms | {row.wall_ms:.1f} ms |"
        for row in rows
    ]
    return "\n".join(lines)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.order", description=__doc__)
    parser.add_argument("--tapes", type=int, default=100, help="random tapes of each kind (100)")
    parser.add_argument("--size", type=int, default=3_500_000, help="bytes of an object (3500000)")
    parser.add_argument("--seed", type=int, default=1, help="of the random tapes (1)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
