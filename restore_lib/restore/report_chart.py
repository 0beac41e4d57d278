"""A chart of things that took time, drawn as SVG: rows of bars, and counts over time."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from restore_lib.restore.report_markup import Markup, joined, number, tag

WORK = "work"
"""The look of bars that are only counted."""
_WIDTH = 1040.0
_LEFT = 132.0
_PLOT = _WIDTH - _LEFT - 20.0
_TOP = 28.0
_ROW = 20.0
_GAP = 12.0
_HISTOGRAM = 110.0
_BINS = 180
_LEAST_WIDTH = 2.5
_LETTER = 7.0
_TICKS = 9
_DAY = 86400
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)


@dataclass(frozen=True, slots=True)
class Bar:
    """Something that took a while; ``look`` is its class, ``arrives`` marks its end."""

    start: datetime
    end: datetime
    look: str
    title: str
    label: str = ""
    arrives: bool = False


@dataclass(frozen=True, slots=True)
class Lane:
    """One row of bars."""

    label: str
    bars: Sequence[Bar]


@dataclass(frozen=True, slots=True)
class Scale:
    """Times to places along the chart; ``end`` is after ``start``."""

    start: datetime
    end: datetime

    @classmethod
    def of(cls, bars: Iterable[Bar]) -> "Scale":
        """Return the scale on which all bars have room, a second at least."""
        spans = [(bar.start, bar.end) for bar in bars]
        start = min(start for start, _ in spans)
        return cls(start, max(start + timedelta(seconds=1), *(end for _, end in spans)))

    def share(self, at: datetime) -> float:
        """Return how far along a time is, from 0 to 1."""
        return (at - self.start) / (self.end - self.start)

    def x(self, at: datetime) -> float:
        """Return the place of a time in the chart."""
        return _LEFT + self.share(at) * _PLOT


class Chart:
    """Groups of rows over one axis of time, drawn from the top down."""

    def __init__(self, scale: Scale, label: str) -> None:
        self._scale = scale
        self._label = label
        self._parts: list[Markup] = []
        self._y = _TOP

    def lanes(self, name: str, lanes: Sequence[Lane]) -> None:
        """Add a row for each lane."""
        self._heading(name)
        for lane in lanes:
            self._note(lane.label, self._y + 14)
            self._parts += [_drawn(bar, self._scale, self._y + _ROW / 2) for bar in lane.bars]
            self._y += _ROW
        self._y += _GAP

    def histogram(self, name: str, bars: Sequence[Bar], bad: str) -> None:
        """Add how many bars went on at each time, those of the look ``bad`` on top."""
        self._heading(name)
        counts = _counted(bars, self._scale, bad)
        most = max(good + failed for good, failed in counts)
        floor = self._y + _HISTOGRAM
        for place, (good, failed) in enumerate(counts):
            tall = (_HISTOGRAM - 4) / most
            self._column(place, floor, good * tall, WORK, f"{number(good)} at work")
            self._column(place, floor - good * tall, failed * tall, bad, f"{number(failed)} failed")
        self._note(f"up to {number(most)}", self._y + 32)
        self._y = floor + _GAP

    def drawn(self) -> Markup:
        """Return the chart."""
        return tag(
            "svg",
            *_axis(self._scale, self._y),
            *self._parts,
            viewBox=f"0 0 {_WIDTH:g} {self._y + 4:g}",
            role="img",
            aria_label=self._label,
        )

    def _heading(self, name: str) -> None:
        self._parts.append(tag("text", name, x=0, y=self._y + 14, class_="group"))

    def _note(self, text: str, y: float) -> None:
        if text:
            self._parts.append(tag("text", text, x=_LEFT - 8, y=y, class_="note"))

    def _column(self, place: int, floor: float, tall: float, look: str, title: str) -> None:
        if tall:
            x, width = _LEFT + place * _PLOT / _BINS, _PLOT / _BINS - 0.5
            self._parts.append(_box((x, floor - tall), (width, tall), look, title))


def packed(bars: Iterable[Bar]) -> list[Lane]:
    """Return bars in as few lanes as hold them without overlap, each in the first with room."""
    rows: list[list[Bar]] = []
    for bar in sorted(bars, key=lambda bar: (bar.start, bar.end)):
        room = next((row for row in rows if row[-1].end <= bar.start), None)
        if room is None:
            rows.append([bar])
        else:
            room.append(bar)
    return [Lane("", row) for row in rows]


def _drawn(bar: Bar, scale: Scale, middle: float) -> Markup:
    left, right = scale.x(bar.start), scale.x(bar.end)
    width = max(right - left, _LEAST_WIDTH)
    tall = 6.0 if bar.arrives else 14.0
    box = _box((left, middle - tall / 2), (width, tall), bar.look, bar.title)
    label = mark = None
    if bar.label and width > _LETTER * (len(bar.label) + 1):
        label = tag("text", bar.label, x=f"{left + width / 2:.1f}", y=middle + 4, class_="in")
    if bar.arrives:
        path = f"M{right:.1f} {middle - 7:g}l7 7l-7 7l-7 -7z"
        mark = tag("path", tag("title", bar.title), d=path, class_=bar.look)
    return joined(box, label, mark)


def _box(at: tuple[float, float], extent: tuple[float, float], look: str, title: str) -> Markup:
    return tag(
        "rect",
        tag("title", title),
        x=f"{at[0]:.1f}",
        y=f"{at[1]:.1f}",
        width=f"{extent[0]:.1f}",
        height=f"{extent[1]:.1f}",
        rx="2",
        class_=look,
    )


def _counted(bars: Iterable[Bar], scale: Scale, bad: str) -> list[tuple[int, int]]:
    """Return how many bars, good and bad, went on at some time of each piece of the axis."""
    changes = [[0, 0] for _ in range(_BINS + 1)]
    for bar in bars:
        kind = int(bar.look == bad)
        first = min(int(scale.share(bar.start) * _BINS), _BINS - 1)
        last = min(max(math.ceil(scale.share(bar.end) * _BINS), first + 1), _BINS)
        changes[first][kind] += 1
        changes[last][kind] -= 1
    counts, good, failed = [], 0, 0
    for more_good, more_failed in changes[:_BINS]:
        good, failed = good + more_good, failed + more_failed
        counts.append((good, failed))
    return counts


def _axis(scale: Scale, height: float) -> list[Markup]:
    """Return lines at round times, each with its time, or with its date on the first of a day."""
    span = (scale.end - scale.start).total_seconds()
    whole_days = _DAY * math.ceil(span / _DAY / _TICKS)
    step = next((step for step in _STEPS if span / step <= _TICKS), whole_days)
    form = "%H:%M:%S" if step < 60 else "%H:%M"
    parts: list[Markup] = []
    dated = None
    begin = math.ceil(scale.start.timestamp() / step) * step
    for second in range(begin, math.floor(scale.end.timestamp()) + 1, step):
        at = datetime.fromtimestamp(second, UTC)
        days = step >= _DAY
        text = f"{at:%-d %b}" if days else f"{at:{form}}"
        if not days and at.date() != dated and dated is not None:
            text = f"{at:%-d %b} {text}"
        dated = at.date()
        x = f"{scale.x(at):.1f}"
        parts.append(tag("line", x1=x, x2=x, y1=_TOP - 6, y2=f"{height:g}", class_="grid"))
        parts.append(tag("text", text, x=x, y=_TOP - 12, class_="tick"))
    return parts
