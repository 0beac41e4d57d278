"""Which recovery points of a store a retention rule gives up, and why it keeps each of the others.

Age alone gives up a recovery point, never the number of newer ones: however many are made, nothing
within ``keep_within`` goes, and none of them counts among the older good ones that are kept.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from restore_lib.model.objects import display_key

NAMED = 3


@dataclass(frozen=True, slots=True)
class Rule:
    """What a policy keeps: all points this young, and so many good ones that are older."""

    keep_within: timedelta
    minimum_redundancy: int


@dataclass(frozen=True, slots=True)
class Point:
    """A committed recovery point; one that was brought back is kept until ``kept_until``."""

    id: int
    committed_at: datetime
    kept_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """One version: it is in the points from ``first`` up to ``gone``, which is not one of them.

    ``good``: all of it can be read now.
    """

    first: int
    gone: int | None
    good: bool

    def holds(self, point: int) -> bool:
        """Return whether the version is in a recovery point."""
        return self.first <= point and (self.gone is None or point < self.gone)


@dataclass(frozen=True, slots=True)
class Fragile:
    """Objects of which some versions can't be read now: how many, and the first of their names.

    All of them have versions in the same recovery points.
    """

    spans: tuple[Span, ...]
    objects: int
    names: tuple[bytes, ...]

    def in_any(self, points: Iterable[int]) -> bool:
        """Return whether one of these points holds the objects, readable or not."""
        return any(span.holds(point) for point in points for span in self.spans)

    def good_in_any(self, points: Iterable[int]) -> bool:
        """Return whether the objects can be read in one of these points."""
        return any(span.good and span.holds(point) for point in points for span in self.spans)


class Kept(StrEnum):
    """Why a recovery point is kept."""

    WITHIN = "within"
    BEFORE_WINDOW = "before_window"
    MINIMUM = "minimum"
    BROUGHT_BACK = "brought_back"
    IN_USE = "in_use"
    LAST_GOOD_COPY = "last_good_copy"


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a recovery point: it is given up where ``kept`` is None.

    ``good``: every object in it can be read now. ``why`` is the reason in words.
    """

    point: int
    committed_at: datetime
    good: bool
    kept: Kept | None
    why: str


def decide(
    points: Iterable[Point],
    rule: Rule,
    now: datetime,
    *,
    damaged: Collection[int] = (),
    used: Mapping[int, str] = {},
    fragile: Sequence[Fragile] = (),
) -> list[Decision]:
    """Decide on all committed recovery points of one store; newest first.

    ``points`` are numbered in the order in which they were made. ``damaged`` are those with
    objects that can't be read now, ``used`` tells who works with which point, and ``fragile`` has
    all objects with versions that can't be read now.

    Kept are: all that are younger than ``keep_within``; the newest that is not, so that each moment
    of that time can be restored; the newest ``minimum_redundancy`` good ones that are not; what is
    used or was brought back; and each that holds the last good copy of objects that a kept point
    needs.
    """
    ordered = sorted(points, key=lambda point: point.id, reverse=True)
    kept: dict[int, tuple[Kept, str]] = {}
    begin = now - rule.keep_within
    older = [point for point in ordered if point.committed_at <= begin]
    for point in ordered:
        if point.committed_at > begin:
            kept[point.id] = (Kept.WITHIN, f"younger than {_days(rule.keep_within)}")
    if older:
        kept[older[0].id] = (Kept.BEFORE_WINDOW, f"what there was {_days(rule.keep_within)} ago")
    good = [point for point in older if point.id not in damaged]
    for number, point in enumerate(good[: rule.minimum_redundancy], 1):
        why = f"good one {number} of the {rule.minimum_redundancy} older ones to keep"
        kept.setdefault(point.id, (Kept.MINIMUM, why))
    for point in older:
        if point.kept_until is not None and point.kept_until > now:
            until = f"brought back, until {point.kept_until:%Y-%m-%d %H:%M}"
            kept.setdefault(point.id, (Kept.BROUGHT_BACK, until))
        if point.id in used:
            kept.setdefault(point.id, (Kept.IN_USE, used[point.id]))
    _keep_last_copies([point.id for point in older], kept, fragile)
    return [
        Decision(
            point.id,
            point.committed_at,
            point.id not in damaged,
            *kept.get(point.id, (None, f"older than {_days(rule.keep_within)}")),
        )
        for point in ordered
    ]


def _keep_last_copies(
    older: Sequence[int], kept: dict[int, tuple[Kept, str]], fragile: Sequence[Fragile]
) -> None:
    """Keep, newest first, what holds the last good copies of objects that kept points hold.

    A point that is kept so may hold more such objects, and so on.
    """
    lacking = [each for each in fragile if not each.good_in_any(kept)]
    while lacking:
        for point in older:
            if point in kept:
                continue
            needed = [each for each in lacking if each.good_in_any([point]) and each.in_any(kept)]
            if needed:
                kept[point] = (Kept.LAST_GOOD_COPY, _last_copies(needed))
                lacking = [each for each in lacking if not each.good_in_any([point])]
                break
        else:
            return


def _last_copies(needed: Sequence[Fragile]) -> str:
    objects = sum(each.objects for each in needed)
    names = [display_key(name) for each in needed for name in each.names][:NAMED]
    more = objects - len(names)
    also = f" and {more:,} more" if more else ""
    return f"the last good copy of {', '.join(names)}{also}"


def _days(span: timedelta) -> str:
    """Return a span in its greatest whole unit: ``90 days``."""
    seconds = span.total_seconds()
    for name, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size and seconds % size == 0:
            count = int(seconds // size)
            return f"{count} {name}{'' if count == 1 else 's'}"
    return f"{seconds:g} seconds"
