"""Progress as bars with rate and time left, on a terminal; elsewhere nothing is shown."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import rich.progress
from rich.console import Console
from rich.progress import (
    BarColumn,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from restore_lib.cli.output import size_text
from restore_lib.model.progress import Progress

Bars = rich.progress.Progress


class _Done(ProgressColumn):
    """How much is done, of how much."""

    def render(self, task: Task) -> Text:
        """Return objects or bytes, whichever the bar counts."""
        done = _amount(task, task.completed)
        total = "" if task.total is None else f"/{_amount(task, task.total)}"
        return Text(f"{done}{total}{'' if task.fields['in_bytes'] else ' objects'}", no_wrap=True)


class _Rate(ProgressColumn):
    """How much is done each second."""

    def render(self, task: Task) -> Text:
        """Return the rate of late, or over all once the bar is full."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{_amount(task, speed)}/s", no_wrap=True)


def _amount(task: Task, amount: float) -> str:
    return size_text(amount) if task.fields["in_bytes"] else f"{amount:,.0f}"


class Board:
    """Bars on one console; a context manager that shows them while it is open."""

    def __init__(self, on: Console, clock: Callable[[], float] | None = None) -> None:
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            _Done(),
            _Rate(),
            TimeRemainingColumn(),
            console=on,
            disable=not on.is_terminal,
            get_time=clock,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def stages(self) -> "Stages":
        """Return a progress whose stages each have a bar."""
        return Stages(self._bars)

    def total(self, label: str, objects: int, size: int | None = None) -> "Total":
        """Return one bar for work that is done in shares, of bytes where ``size`` is given."""
        return Total(self._bars, label, objects, size)


class Stages:
    """Progress with a bar for the current stage, and full ones for those before it."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._current: TaskID | None = None
        self._in_bytes = False

    def stage(self, label: str, objects: int | None = None, size: int | None = None) -> None:
        """Begin a bar; it counts bytes where these are known, else objects."""
        if self._current is not None:
            done = next(task for task in self._bars.tasks if task.id == self._current).completed
            self._bars.update(self._current, total=done)
        self._in_bytes = bool(size)
        total = size or objects
        self._current = self._bars.add_task(label, total=total, in_bytes=self._in_bytes)

    def advance(self, objects: int = 0, size: int = 0) -> None:
        """Move the current bar on."""
        if self._current is not None:
            self._bars.advance(self._current, size if self._in_bytes else objects)


class Total:
    """One bar, moved on by any number of shares at once."""

    def __init__(self, bars: Bars, label: str, objects: int, size: int | None) -> None:
        self._bars = bars
        self.in_bytes = bool(size)
        self._task = bars.add_task(label, total=size or objects, in_bytes=self.in_bytes)

    def share(self) -> Progress:
        """Return the progress of one share; when its stage begins again, it counts anew."""
        return _Share(self)

    def move(self, amount: float) -> None:
        """Move the bar by objects or bytes, back too."""
        if amount:
            self._bars.advance(self._task, amount)

    def reach(self, amount: int) -> None:
        """Set how much is done in all."""
        self._bars.update(self._task, completed=amount)


class _Share:
    def __init__(self, total: Total) -> None:
        self._total = total
        self._counted = 0
        self._lock = threading.Lock()

    def stage(
        self,
        label: str,  # noqa: ARG002 - part of the protocol
        objects: int | None = None,  # noqa: ARG002 - part of the protocol
        size: int | None = None,  # noqa: ARG002 - part of the protocol
    ) -> None:
        with self._lock:
            self._total.move(-self._counted)
            self._counted = 0

    def advance(self, objects: int = 0, size: int = 0) -> None:
        amount = size if self._total.in_bytes else objects
        with self._lock:
            self._counted += amount
            self._total.move(amount)
