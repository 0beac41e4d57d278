"""What the demonstration prints: steps, progress, and the table at the end."""

import sys
import time
from collections.abc import Mapping, Sequence


class Screen:
    """Prints steps with the time since the beginning, and one line of progress below them."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._live = sys.stdout.isatty()
        self._last = ""
        self._printed_at = 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def step(self, text: str) -> None:
        """Print what happens next."""
        self._clear()
        print(f"{self._stamp()}  {text}", flush=True)

    def detail(self, text: str) -> None:
        """Print more on the step."""
        self._clear()
        print(f"         {text}", flush=True)

    def progress(self, text: str) -> None:
        """Show how far the step is: in place on a terminal, else a line every few seconds."""
        if text == self._last:
            return
        now = time.monotonic()
        if self._live:
            print(f"\r\033[K         {text}", end="", flush=True)
        elif now - self._printed_at > 5:
            print(f"         {text}", flush=True)
            self._printed_at = now
        self._last = text

    def table(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """Print the table of the end."""
        self._clear()
        wide = max(len(name) for name, _ in rows)
        values = max(len(value) for _, value in rows)
        line = "─" * (wide + values + 5)
        print(f"\n  {title}\n  {line}")
        for name, value in rows:
            print(f"   {name:<{wide}}   {value:>{values}}")
        print(f"  {line}\n", flush=True)

    def paths(self, named: Mapping[str, str]) -> None:
        """Print where to look."""
        wide = max(map(len, named))
        for name, path in named.items():
            print(f"  {name:<{wide}}  {path}", flush=True)

    def _stamp(self) -> str:
        minutes, seconds = divmod(int(self.seconds), 60)
        return f"[{minutes:02d}:{seconds:02d}]"

    def _clear(self) -> None:
        if self._live and self._last:
            print("\r\033[K", end="")
        self._last = ""
        self._printed_at = 0.0
