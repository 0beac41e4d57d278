"""A kill campaign: ``python -m benchmarks.kills --scenario repack --all``.

Each flow that writes is watched once to find its write boundaries, and then killed by SIGKILL at
one after the other, on a site of its own; the same work is run again, and all that was committed
has to be there once, readable, with every volume usable. Without ``--all``, of more than ``--most``
boundaries those are taken that come last of each name, and every n-th of all. The exit status is 1
when a promise is broken.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from benchmarks.corruption import Hang, time_limit
from benchmarks.kill_checks import Broken, Checks, committed
from benchmarks.kill_scenarios import SCENARIOS, Scenario

MOST = 120
LIMIT_SECONDS = 120
_THOROUGH_EVERY = 8


@dataclass(frozen=True, slots=True)
class Failure:
    """A kill that broke a promise: before which boundary, the how many-th, and what broke."""

    step: int
    boundary: str
    what: str


@dataclass
class Report:
    """What the kills of one scenario came to; ``boundaries`` by name, in their order."""

    scenario: str
    boundaries: Counter[str]
    kills: int = 0
    seconds: float = 0.0
    failures: list[Failure] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """Return the report in plain JSON."""
        return {
            "scenario": self.scenario,
            "boundaries": dict(self.boundaries),
            "kills": self.kills,
            "seconds": round(self.seconds, 1),
            "failures": [
                {"step": one.step, "boundary": one.boundary, "what": one.what}
                for one in self.failures
            ],
        }


def steps(names: Sequence[str], most: int | None) -> list[int]:
    """Return the numbers of the boundaries to kill at: all, where that are no more than ``most``.

    Else the last ones of each name, and every n-th, to be about ``most``.
    """
    count = len(names)
    if most is None or count <= most:
        return list(range(1, count + 1))
    chosen = set({name: step for step, name in enumerate(names, 1)}.values())
    if (spare := most - len(chosen)) > 0:
        chosen.update(range(1, count + 1, -(-count // spare)))
    return sorted(chosen)


def run_scenario(scenario: Scenario, folder: Path, most: int | None = None) -> Report:
    """Kill a scenario at all its boundaries, or at those that ``steps`` chooses."""
    began = time.monotonic()
    with patch.object(os, "fsync", lambda _: None):  # a process that is killed needs no flush
        origin = folder / "origin"
        scenario.prepare(origin)
        dry = shutil.copytree(origin, folder / "dry")
        names = scenario.watched(dry).names
        shutil.rmtree(dry)
        report = Report(scenario.name, Counter(names))
        for step in steps(names, most):
            root = shutil.copytree(origin, folder / "killed")
            thorough = report.kills % _THOROUGH_EVERY == 0
            what = _killed(scenario, root, names[:step], thorough=thorough)
            if what is not None:
                report.failures.append(Failure(step, names[step - 1], what))
            report.kills += 1
            shutil.rmtree(root)
    report.seconds = time.monotonic() - began
    return report


def _killed(
    scenario: Scenario, root: Path, names: tuple[str, ...], *, thorough: bool
) -> str | None:
    """Kill the work at the last of ``names``, run it again, and return what does not hold."""
    try:
        with time_limit(LIMIT_SECONDS):
            done = scenario.watched(root, len(names))
            if not done.killed or done.names != names:
                return f"came to other boundaries, the last is {done.names[-1:]}"
            before = committed(root)
            site, clock = scenario.again(root)
            try:
                Checks(scenario, root, before, thorough=thorough).run(site, clock)
            finally:
                site.close()
    except Hang:
        return f"no end within {LIMIT_SECONDS} s"
    except Broken as broken:
        return str(broken)
    except Exception:  # noqa: BLE001  # finding any is what the campaign is for
        return traceback.format_exc()
    return None


def show(report: Report) -> None:
    """Print a report for people."""
    count = report.boundaries.total()
    print(f"{report.scenario}: {count} boundaries, {report.kills} kills in {report.seconds:.0f} s;")
    print(f"{len(report.failures)} failed\n")
    print(f"{'times':>7}  boundary")
    for name, times in report.boundaries.items():
        print(f"{times:7}  {name}")
    for failure in report.failures:
        print(f"\nkilled before number {failure.step}, {failure.boundary}:\n{failure.what}")
    print(flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS), default=[])
    parser.add_argument("--all", action="store_true", help="kill at each boundary")
    parser.add_argument("--most", type=int, default=MOST, help="kills of a scenario, about")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    reports = []
    for name in given.scenario or SCENARIOS:
        with tempfile.TemporaryDirectory(prefix="tapeflow-kills-") as folder:
            most = None if given.all else given.most
            reports.append(run_scenario(SCENARIOS[name], Path(folder), most))
        if not given.json:
            show(reports[-1])
    if given.json:
        print(json.dumps([report.as_dict() for report in reports], indent=2))
    return 1 if any(report.failures for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
