"""One program's run, measured: time, processor time and the memory of its largest process."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """Seconds by the clock, processor seconds of all its processes, bytes of the largest one."""

    seconds: float
    cpu: float
    peak: int


class RunFailed(Exception):
    """Raised when a program that is measured ends with an error."""


def run(
    command: Sequence[str], log: Path, *, cwd: Path, env: Mapping[str, str] | None = None
) -> Cost:
    """Run a program to its end, which is when all that it wrote is on the disk.

    So a program that flushes what it writes is not behind one that leaves that to the system. Dirty
    pages that others left are on the disk when it begins. Its output goes to ``log``. The sum and
    the peak cover each process that it waited for; the flush at the end counts by the clock alone.
    """
    os.sync()
    with log.open("wb") as output:
        begun = time.perf_counter()
        child = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(child.pid, 0)
        os.sync()
        seconds = time.perf_counter() - begun
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        text = log.read_text("utf-8", "replace")[-2000:]
        raise RunFailed(f"{' '.join(command)} ended with {child.returncode}:\n{text}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
