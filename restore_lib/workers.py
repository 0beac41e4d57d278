"""Processes that work side by side, each on an object of its own.

Encryption holds the interpreter's lock, so threads alone leave cores idle. A worker ends with the
process that started it, also when that is killed, and takes no signals from its terminal.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, BinaryIO, Self

from restore_lib.errors import RetryLater


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


class Workers:
    """A number of processes; a context manager, whose end ends what is under way.

    Each makes its own object by ``factory(*arguments)``, once, and calls that object's methods one
    after the other. Functions, arguments, results and exceptions have to be picklable.
    """

    def __init__(self, count: int, factory: Callable[..., object], *arguments: object) -> None:
        self._lanes = [_Lane(factory, arguments) for _ in range(count)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for lane in self._lanes:
            lane.end()

    def submit(
        self, method: str, *arguments: object, weight: int = 1, lane: int | None = None
    ) -> "Future[Any]":
        """Have a method called, and return what will be its result.

        It goes to the process that has the least ``weight`` to do, or to number ``lane``. The
        result raises what the method raised, and RetryLater when the process has died.
        """
        free = min(self._lanes, key=lambda one: one.load)
        return (free if lane is None else self._lanes[lane]).submit(method, arguments, weight)


class _Lane:
    """One process, and the thread that talks to it."""

    def __init__(self, factory: Callable[..., object], arguments: tuple[object, ...]) -> None:
        self.load = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "restore_lib.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            process_group=0,
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="worker")
        self._made = self._thread.submit(self._call, (factory, arguments))

    def submit(self, method: str, arguments: tuple[object, ...], weight: int) -> "Future[Any]":
        self.load += weight
        future = self._thread.submit(self._call, (method, arguments))
        future.add_done_callback(lambda _: self._unload(weight))
        return future

    def end(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._process.kill()
        self._thread.shutdown()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _unload(self, weight: int) -> None:
        self.load -= weight

    def _call(self, request: tuple[object, tuple[object, ...]]) -> Any:
        to_worker, from_worker = self._process.stdin, self._process.stdout
        if to_worker is None or from_worker is None:
            raise ValueError("the process has no pipes")
        try:
            pickle.dump(request, to_worker, pickle.HIGHEST_PROTOCOL)
            to_worker.flush()
            good, value = pickle.load(from_worker)  # noqa: S301 - from our own process
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise RetryLater(
                f"A worker process has ended early (code {self._process.poll()}).",
                remedy="see the log for why, such as a lack of memory; then run it again",
            ) from error
        if not good:
            raise value
        return value


def main(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer requests until there are no more: the first makes the object, the others use it."""
    made: object = None
    while True:
        try:
            what, arguments = pickle.load(requests)  # noqa: S301 - from the process that began us
        except EOFError:
            return
        answer: tuple[bool, object] = (True, None)
        try:
            if callable(what):
                made = what(*arguments)
            else:
                answer = (True, getattr(made, what)(*arguments))
        except Exception as error:  # noqa: BLE001 - raised again on the other side
            answer = (False, error)
        pickle.dump(answer, replies, pickle.HIGHEST_PROTOCOL)
        replies.flush()


if __name__ == "__main__":
    _replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # so that nothing else gets in between
    main(sys.stdin.buffer, _replies)
