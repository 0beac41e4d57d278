"""Sessions of processes: started together, found together, ended together.

Airflow's LocalExecutor leaves its workers behind when the scheduler is killed, and each task leads
a process group of its own; all of them stay in the *session* of the component that started them.
Linux only: membership is read from /proc.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

_POLL = 0.05


def interrupt_on_term() -> None:
    """Have SIGTERM leave this process by KeyboardInterrupt, so that what it started is ended."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def session_members(leader: int) -> list[int]:
    """Return the pids of the session that ``leader`` started; zombies are not counted."""
    members = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text("utf-8", "replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, _parent, _group, session = stat.rpartition(")")[2].split()[:4]
        if int(session) == leader and state not in {"Z", "X"}:
            members.append(int(entry.name))
    return members


def start_session(
    command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path
) -> subprocess.Popen[bytes]:
    """Start ``command`` as the leader of a new session, with its output appended to ``log``."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def kill_session(leader: int, *, cwd: Path | None = None) -> None:
    """SIGKILL every member of a session until none is left.

    With ``cwd``, members that work in another folder are spared: a pid that a former run wrote down
    may have been given to a stranger since.
    """
    while members := [pid for pid in session_members(leader) if cwd is None or _works_in(pid, cwd)]:
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_POLL)


def end_sessions(leaders: Sequence[subprocess.Popen[bytes]], *, grace: float) -> None:
    """End sessions together: SIGTERM to the leaders, SIGKILL to what is left after ``grace`` s."""
    for leader in leaders:
        if leader.poll() is None:
            leader.terminate()
    deadline = time.monotonic() + grace
    for leader in leaders:
        with contextlib.suppress(subprocess.TimeoutExpired):
            leader.wait(max(0.0, deadline - time.monotonic()))
        kill_session(leader.pid)
        leader.wait()


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == folder
    except OSError:
        return False
