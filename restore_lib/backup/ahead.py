"""Staging ahead: one thread stages stripes while another writes those that are staged.

So that the cores seal while the drives write, and a drive that takes long to mount finds the more
to write.
"""

import shutil
import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Self

from restore_lib.backup.stage import MOST_PIECES, StagedStripe
from restore_lib.errors import DiskFull

MayBegin = Callable[[int, int], bool]
_LOOK_SECONDS = 1.0


class Ahead:
    """The stripes that ``stripes`` yields, made in a thread of its own; a context manager.

    What lies on the staging disk is bounded by half of what is free there, so that other jobs find
    room; what is held in memory, by about twice ``MOST_PIECES`` extents. Leaving the context ends
    the thread at the next stripe; what is staged then is left in ``folder``.
    """

    def __init__(
        self,
        folder: Path,
        stripe_size: int,
        reserve: int,
        stripes: Callable[[MayBegin], Generator[tuple[StagedStripe, bool]]],
    ) -> None:
        """``stripes`` yields stripes, each of at most ``stripe_size`` bytes, and whether more come.

        It asks before it begins one, with the number of those under way and of the pieces in them.
        ``reserve`` is in bytes.
        """
        self._folder = folder
        self._stripe_size = stripe_size
        self._reserve = reserve
        self._stripes = stripes
        self._changed = threading.Condition()
        self._ready: deque[StagedStripe] = deque()
        self._held = 0
        self._pieces = 0
        self._error: BaseException | None = None
        self._complete = self._stopped = False
        self._thread = threading.Thread(target=self._run, name="staging", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()

    @property
    def complete(self) -> bool:
        """Whether all that there is to stage has been taken."""
        with self._changed:
            return self._complete and not self._ready

    def take(self) -> list[StagedStripe]:
        """Return all stripes that are ready, at least one; none when there are no more.

        Raises what ended the staging, once all that was staged before is taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._complete)
            if not self._ready and self._error is not None:
                raise self._error
            taken = list(self._ready)
            self._ready.clear()
            return taken

    def remove(self, stripe: StagedStripe) -> None:
        """Remove a stripe that is written, and go on in its room."""
        stripe.remove()
        with self._changed:
            self._held -= 1
            self._pieces -= len(stripe.extents)
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            with closing(self._stripes(self._may_begin)) as stripes:
                for stripe, more in stripes:
                    with self._changed:
                        self._ready.append(stripe)
                        self._held += 1
                        self._pieces += len(stripe.extents)
                        self._complete = not more
                        self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - raised again by ``take``
            self._error = error
        with self._changed:
            self._complete = True
            self._changed.notify_all()

    def _may_begin(self, under_way: int, pieces: int) -> bool:
        """Whether there is room for one stripe more; waits for it while none is under way."""
        with self._changed:
            while not self._stopped:
                free = shutil.disk_usage(self._folder).free - self._reserve
                if not self._held and not under_way:
                    self._check_room(free)
                    return True
                wanted = (self._held + 2 * (under_way + 1)) * self._stripe_size
                if wanted <= free and self._pieces + pieces < MOST_PIECES:
                    return True
                if under_way:
                    return False
                self._changed.wait(_LOOK_SECONDS)
        raise StagingStopped

    def _check_room(self, free: int) -> None:
        if free < self._stripe_size:
            raise DiskFull(
                f"The staging disk {self._folder} has {max(free, 0):,} bytes free beside the "
                f"{self._reserve:,} that are kept in reserve; a stripe needs "
                f"{self._stripe_size:,}."
            )


class StagingStopped(Exception):
    """Raised inside of staging to end it: nobody takes its stripes any more."""
