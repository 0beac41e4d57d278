"""Processes that work side by side, each on an object of its own.

Encryption holds the interpreter's lock, so threads alone leave cores idle. A worker ends with the
process that started it, also when that is killed, and takes no signals from its terminal.
"""

import gc
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, Self

from restore_lib.errors import RetryLater
from restore_lib.model.progress import Progress

_TELL_SECONDS = 0.1
_GARBAGE = 50_000
"""New objects between looks for garbage, of which large work makes little."""
_ENVIRONMENT = {"MALLOC_TRIM_THRESHOLD_": str(64 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
"""Has glibc keep what a chunk was held in for the next one, as long as it is less than 64 MiB.

Else each chunk is taken from the kernel and zeroed anew, which costs as much as decrypting it.
"""


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def few_collections() -> Iterator[None]:
    """Have this process look for garbage rarely until the end; large work makes little of it.

    To be used by one thread at a time.
    """
    before = gc.get_threshold()
    gc.set_threshold(_GARBAGE)
    try:
        yield
    finally:
        gc.set_threshold(*before)


class Workers:
    """A number of processes; a context manager, whose end ends what is under way.

    Each makes its own object by ``factory(*arguments)``, once, and calls that object's methods one
    after the other. Functions, arguments, results and exceptions have to be picklable.
    """

    def __init__(self, count: int, factory: Callable[..., object], *arguments: object) -> None:
        self._lanes = [_Lane(factory, arguments) for _ in range(count)]
        self._choosing = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for lane in self._lanes:
            lane.end()

    def submit(
        self,
        method: str,
        *arguments: object,
        weight: int = 1,
        lane: int | None = None,
        progress: Progress | None = None,
    ) -> "Future[Any]":
        """Have a method called, and return what will be its result.

        It goes to the process that has the least ``weight`` to do, or to number ``lane``. The
        result raises what the method or ``factory`` raised, and RetryLater when the process has
        died under it or since the call before; the next call then begins another one, with an
        object of its own. Where a ``progress`` is given, the method has one more argument: a
        progress that passes on to it, several times a second, from a thread of this process. What
        ``progress`` raises is raised by the method's next word of progress.
        """
        with self._choosing:
            free = min(self._lanes, key=lambda one: one.load)
            chosen = free if lane is None else self._lanes[lane]
            chosen.load += weight
        call = _Call(method, arguments, progress is not None)
        future = chosen.submit(call, progress)
        future.add_done_callback(lambda _: self._unload(chosen, weight))
        return future

    def _unload(self, lane: "_Lane", weight: int) -> None:
        with self._choosing:
            lane.load -= weight


@dataclass(frozen=True, slots=True)
class _Call:
    """What a process is asked for; the first thing called makes its object."""

    what: str | Callable[..., object]
    arguments: tuple[object, ...]
    tells: bool = False


@dataclass(frozen=True, slots=True)
class _Told:
    """A word of progress: the name and the arguments of a method of Progress."""

    method: str
    arguments: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class _Stop:
    """What the next word of progress is to raise."""

    error: Exception


@dataclass(frozen=True, slots=True)
class _Answer:
    """The result of a call, or what it raised."""

    value: object = None
    error: Exception | None = None


class _Lane:
    """One process, begun again when it has died, and the thread that talks to it."""

    def __init__(self, factory: Callable[..., object], arguments: tuple[object, ...]) -> None:
        self.load = 0
        self._make = _Call(factory, arguments)
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False
        self._beginning = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="worker")
        self._thread.submit(self._alive)

    def submit(self, call: _Call, progress: Progress | None) -> "Future[Any]":
        return self._thread.submit(self._call, call, progress)

    def end(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        with self._beginning:
            self._ended = True
            if self._process is not None:
                self._process.kill()
        self._thread.shutdown()
        self._let_go()

    def _call(self, call: _Call, progress: Progress | None) -> Any:
        try:
            return _ask(self._alive(), call, progress)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise RetryLater(
                f"A worker process has ended early (code {self._let_go()}).",
                remedy="see the log for why, such as a lack of memory; then run it again",
            ) from error

    def _alive(self) -> "subprocess.Popen[bytes]":
        """Return the process with its object made; raise what kept it from being made.

        One that has died since its last call is returned too, so that the call tells of it: the
        object that is lost with it may have held what the calls before it left there.
        """
        if self._process is not None:
            return self._process
        process = self._begin()
        try:
            _ask(process, self._make, None)
        except BaseException:
            self._let_go()
            raise
        return process

    def _begin(self) -> "subprocess.Popen[bytes]":
        with self._beginning:
            if self._ended:
                raise EOFError("no more work is wanted")
            path = os.pathsep.join(filter(None, sys.path))
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from restore_lib.workers import _serve; _serve()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=_ENVIRONMENT | os.environ | {"PYTHONPATH": path},
                process_group=0,
            )
            return self._process

    def _let_go(self) -> int | None:
        """End the process, if there is one, and return its exit code."""
        with self._beginning:
            process, self._process = self._process, None
        if process is None:
            return None
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        return process.returncode


def _ask(process: "subprocess.Popen[bytes]", call: _Call, progress: Progress | None) -> Any:
    """Have a process answer; EOFError or OSError when it ends instead."""
    if process.stdin is None or process.stdout is None:
        raise ValueError("the process has no pipes")
    _write(process.stdin, call)
    while not isinstance(reply := _read(process.stdout), _Answer):
        try:
            getattr(progress, reply.method)(*reply.arguments)
        except Exception as error:  # noqa: BLE001 - raised by the method at its next word
            _write(process.stdin, _Stop(error))
    if reply.error is not None:
        raise reply.error
    return reply.value


def _read(replies: IO[bytes]) -> _Told | _Answer:
    reply: _Told | _Answer = pickle.load(replies)  # noqa: S301 - our own process
    return reply


class _Telling:
    """Progress in a worker: what is done is summed up, and told when it is time."""

    def __init__(self, replies: BinaryIO, stops: "queue.SimpleQueue[Exception]") -> None:
        self._replies = replies
        self._stops = stops
        self._told_at = 0.0
        self._objects = self._size = 0

    def stage(self, label: str, objects: int | None = None, size: int | None = None) -> None:
        self.flush()
        _write(self._replies, _Told("stage", (label, objects, size)))

    def advance(self, objects: int = 0, size: int = 0) -> None:
        self._objects += objects
        self._size += size
        if time.monotonic() - self._told_at >= _TELL_SECONDS:
            self.flush()
        if not self._stops.empty():
            raise self._stops.get()

    def flush(self) -> None:
        _write(self._replies, _Told("advance", (self._objects, self._size)))
        self._told_at = time.monotonic()
        self._objects = self._size = 0


class _Listening:
    """The messages to a worker; it ends with the process that began it, whatever is under way."""

    def __init__(self, requests: BinaryIO) -> None:
        self.calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self.stops: queue.SimpleQueue[Exception] = queue.SimpleQueue()
        self._requests = requests
        threading.Thread(target=self._listen, name="listening", daemon=True).start()

    def _listen(self) -> None:
        try:
            while True:
                message = pickle.load(self._requests)  # noqa: S301 - from whom began us
                if isinstance(message, _Stop):
                    self.stops.put(message.error)
                else:
                    self.calls.put(message)
        finally:
            os._exit(0)


def main(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer calls until this process is ended: the first makes the object, the others use it."""
    listening = _Listening(requests)
    made: object = None
    while True:
        call = listening.calls.get()
        while not listening.stops.empty():
            listening.stops.get()
        telling = _Telling(replies, listening.stops)
        try:
            if callable(call.what):
                made = call.what(*call.arguments)
                answer = _Answer()
                gc.freeze()  # what is there now stays, and need not be looked through again
                gc.set_threshold(_GARBAGE)
            else:
                method = getattr(made, call.what)
                answer = _Answer(method(*call.arguments, *([telling] if call.tells else [])))
        except Exception as error:  # noqa: BLE001 - raised again on the other side
            answer = _Answer(error=error)
        if call.tells:
            telling.flush()
        _write(replies, answer)


def _write(pipe: IO[bytes], message: _Call | _Stop | _Told | _Answer) -> None:
    pickle.dump(message, pipe, pickle.HIGHEST_PROTOCOL)
    pipe.flush()


def _serve() -> None:
    """Be a worker, on the pipes that this process was given."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # so that nothing else gets in between
    main(sys.stdin.buffer, replies)
