"""Work in a process of its own that is watched, and killed at one of its write boundaries."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.boundaries import Watch

_END_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Watched:
    """What became of the work: the boundaries it came to, and whether it was killed at the last."""

    names: tuple[str, ...]
    killed: bool


class Counter:
    """Writes the boundaries of this process to ``log``, and kills it before its ``step``-th."""

    def __init__(self, log: Path, step: int | None) -> None:
        self._handle = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        self._write = os.write
        self._step = step
        self._count = 0

    def reached(self, name: str, half: Callable[[], object]) -> None:
        """Count a boundary."""
        self._count += 1
        self._write(self._handle, f"{name}\n".encode())
        if self._count == self._step:
            half()
            os.kill(os.getpid(), signal.SIGKILL)


def run_watched(root: Path, work: Callable[[], object], step: int | None = None) -> Watched:
    """Run ``work`` in a process of its own, killed before its ``step``-th boundary below ``root``.

    Without a ``step`` it comes to its end. RuntimeError when the work fails by itself, or when a
    process that it has started outlives it.
    """
    log = root.with_name(f"{root.name}.boundaries")
    child = os.fork()
    if child == 0:
        _be_watched(root, work, log, step)
    try:
        _, status = os.waitpid(child, 0)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    _await_others(child)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if not killed and status != 0:
        raise RuntimeError(f"the work failed by itself (status {status}); see standard error")
    return Watched(noted(log), killed)


def noted(log: Path) -> tuple[str, ...]:
    """Return the boundaries that a log tells of, and remove it."""
    names = tuple(log.read_text("utf-8").splitlines()) if log.exists() else ()
    log.unlink(missing_ok=True)
    return names


def made_watched(
    root: Path, log: Path, step: int | None, factory: Callable[..., object], *arguments: object
) -> object:
    """Make a worker's object in a process that is watched from then on.

    The one that takes the place of a killed one is not.
    """
    told = log.read_text("utf-8").splitlines() if log.exists() else []
    if len(told) != step:
        Watch(root, Counter(log, step).reached)
    return factory(*arguments)


def _be_watched(root: Path, work: Callable[[], object], log: Path, step: int | None) -> None:
    code = 1
    try:
        os.setsid()
        Watch(root, Counter(log, step).reached)
        work()
        code = 0
    except BaseException:  # noqa: BLE001  a child must not go on as a second parent
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(code)


def _await_others(session: int) -> None:
    """Wait until all that the killed process has started has ended, by itself."""
    until = time.monotonic() + _END_SECONDS
    while left := [pid for pid in _pids() if _session_of(pid) == session]:
        if time.monotonic() > until:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            raise RuntimeError(f"{len(left)} processes have outlived the one that started them")
        time.sleep(0.005)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - names


def _session_of(pid: int) -> int | None:
    """Return the session of a process that is at work, also one that nobody waits for."""
    try:
        session = os.getsid(pid)
        state = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2]
    except OSError:
        return None
    return None if state.split()[0] == "Z" else session
