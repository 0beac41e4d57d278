"""Threads that work through ids side by side, as many as there are drives."""

import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from datetime import timedelta
from typing import Self, TypeVar

from restore_lib.cli.progress import Total
from restore_lib.errors import DiskFull, DriveBusy, RetryLater
from restore_lib.model.progress import Progress
from restore_lib.site import Site

Id = TypeVar("Id", int, str)
_LONGEST_PAUSE = 30.0
_LOOK_SECONDS = 0.2


class Stopped(Exception):
    """Raised inside of work to end it early: another piece failed, or Ctrl-C was pressed."""


class Crew:
    """Works on a site with one thread for each drive; each thread opens the site for itself."""

    def __init__(self, site: Site, say: Callable[[str], None]) -> None:
        self._site = site
        self._say = say
        self._size = site.config.library.drives
        # A dead process's lease on a drive has run out by then.
        self._patience = 2 * site.config.library.lease + timedelta(minutes=1)
        self._at_work: set[int] = set()
        self._ended = 0

    def run(
        self, ids: Sequence[Id], work: Callable[[Site, Id, Progress], object], total: Total
    ) -> None:
        """Do ``work`` for each id; raise the first error once what is under way has ended.

        What may pass (RetryLater, but for a full disk) is tried again, for twice the time of a
        drive lease and a minute; a busy drive or volume for as long as another piece is at work,
        which may have it. Ctrl-C ends each piece of work at its next object, a second
        Ctrl-C ends the process at once; both leave what ``work`` promises for a crash.
        """
        stop = threading.Event()
        with _Interrupts() as interrupts, ThreadPoolExecutor(self._size) as pool:
            futures = [pool.submit(self._one, one, work, total, stop) for one in ids]
            waiting: Collection[Future[None]] = futures
            while waiting and not stop.is_set():
                done, waiting = wait(futures, _LOOK_SECONDS, return_when=FIRST_EXCEPTION)
                if interrupts.asked:
                    self._say("Stopping after the objects under way; Ctrl-C again stops at once.")
                if interrupts.asked or any(future.exception() for future in done):
                    stop.set()
            pool.shutdown(cancel_futures=True)
        if interrupts.asked:
            raise KeyboardInterrupt
        _raise_first(futures)

    def _one(
        self,
        one: Id,
        work: Callable[[Site, Id, Progress], object],
        total: Total,
        stop: threading.Event,
    ) -> None:
        site = Site(self._site.config, self._site.clock)
        progress = _Stoppable(total.share(), stop)
        try:
            self._patiently(lambda: work(site, one, progress), stop)
        finally:
            site.close()

    def _patiently(self, work: Callable[[], object], stop: threading.Event) -> None:
        pause, waited, told = 0.5, timedelta(), ""
        while True:
            if stop.is_set():
                raise Stopped
            me = threading.get_ident()
            self._at_work.add(me)
            try:
                work()
            except DiskFull:
                raise
            except RetryLater as error:
                self._at_work.discard(me)
                if self._at_work and isinstance(error, DriveBusy):
                    pause, waited = 0.5, timedelta()
                elif waited >= self._patience:
                    raise
                message = f"{error.message} Trying again in {pause:g} s."
                if message != told:
                    self._say(message)
                told = message
                self._pause(pause, stop)
                waited += timedelta(seconds=pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                self._ended += 1
                return
            finally:
                self._at_work.discard(me)

    def _pause(self, seconds: float, stop: threading.Event) -> None:
        """Wait, but no longer than until another piece ends, which may free what is needed."""
        if not self._at_work:
            stop.wait(seconds)
            return
        until, ended = time.monotonic() + seconds, self._ended
        while (left := until - time.monotonic()) > 0 and self._ended == ended:
            if stop.wait(min(left, _LOOK_SECONDS)):
                return


class _Interrupts:
    """Takes note of Ctrl-C while it is open, instead of raising somewhere in the middle of things.

    A second Ctrl-C ends the process. In another thread than the main one, which gets no signals,
    nothing changes.
    """

    def __init__(self) -> None:
        self.asked = False
        self._mine = False

    def __enter__(self) -> Self:
        raises = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        self._mine = raises and threading.current_thread() is threading.main_thread()
        if self._mine:
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._mine:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _note(self, _number: int, _frame: object) -> None:
        if self.asked:
            os._exit(130)
        self.asked = True


class _Stoppable:
    """Progress that ends the work it is told of once ``stop`` is set."""

    def __init__(self, progress: Progress, stop: threading.Event) -> None:
        self._progress = progress
        self._stop = stop

    def stage(self, label: str, objects: int | None = None, size: int | None = None) -> None:
        self._progress.stage(label, objects, size)

    def advance(self, objects: int = 0, size: int = 0) -> None:
        self._progress.advance(objects, size)
        if self._stop.is_set():
            raise Stopped


def _raise_first(futures: Sequence[Future[None]]) -> None:
    errors = [future.exception() for future in futures if not future.cancelled()]
    for error in errors:
        if error is not None and not isinstance(error, Stopped):
            raise error
