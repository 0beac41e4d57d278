"""Processor time of sessions of processes, from /proc; Linux only."""

import os
from collections.abc import Mapping
from pathlib import Path

from demo.processes import session_members

_TICK = os.sysconf("SC_CLK_TCK")


class CpuMeter:
    """Processor seconds that sessions spend from now on, by their names.

    What a process waited for counts as its own, so that tasks count after their end. The session
    ``scheduler`` is told in three: the scheduler, its workers (which supervise), and the tasks.
    """

    def __init__(self, leaders: Mapping[str, int]) -> None:
        self._leaders = dict(leaders)
        self._begun = self._read()

    def seconds(self) -> dict[str, float]:
        """Return the seconds by name."""
        now = self._read()
        return {name: now[name] - self._begun.get(name, 0.0) for name in now}

    def _read(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, leader in self._leaders.items():
            own = waited = members = members_waited = 0.0
            for pid in session_members(leader):
                spent = _times(pid)
                if pid == leader:
                    own, waited = spent
                else:
                    members += spent[0]
                    members_waited += spent[1]
            if name == "scheduler":
                found["scheduler"] = own
                found["supervisors"] = members
                found["tasks"] = waited + members_waited
            else:
                found[name] = own + waited + members + members_waited
        return found


def _times(pid: int) -> tuple[float, float]:
    """Return a process's own seconds and those of the children that it waited for."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0.0, 0.0
    user, system, waited_user, waited_system = map(int, stat.rpartition(")")[2].split()[11:15])
    return (user + system) / _TICK, (waited_user + waited_system) / _TICK
