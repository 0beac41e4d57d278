"""From a function that writes to an iterator that is read, in bounded memory."""

import queue
import threading
from collections.abc import Callable, Generator
from contextlib import suppress

from restore_lib.tape.streams import Writable

AHEAD = 2
Fill = Callable[[Writable], None]
_LOOK_SECONDS = 0.05


class _Left(Exception):
    """Raised in the function when nobody reads any more."""


class _Outlet:
    def __init__(self) -> None:
        self.chunks: queue.Queue[bytes | None] = queue.Queue(AHEAD)
        self.error: BaseException | None = None
        self.left = False

    def write(self, data: bytes, /) -> int:
        if self.left:
            raise _Left
        self.chunks.put(data)
        return len(data)

    def run(self, fill: Fill) -> None:
        try:
            fill(self)
        except BaseException as error:  # noqa: BLE001 - raised again by the reader
            self.error = error
        self.chunks.put(None)


def handed_over(fill: Fill) -> Generator[bytes]:
    """Yield what ``fill`` writes, in the chunks in which it does, while it runs in a thread.

    It is at most AHEAD chunks ahead. What it raises is raised behind what it wrote before. When
    the iterator is closed, its next write ends it; it has ended when the iterator has.
    """
    outlet = _Outlet()
    thread = threading.Thread(target=outlet.run, args=(fill,), name="handed-over", daemon=True)
    thread.start()
    try:
        while (chunk := outlet.chunks.get()) is not None:
            yield chunk
    finally:
        outlet.left = True
        while thread.is_alive():
            with suppress(queue.Empty):
                outlet.chunks.get_nowait()
            thread.join(_LOOK_SECONDS)
    if outlet.error is not None:
        raise outlet.error
