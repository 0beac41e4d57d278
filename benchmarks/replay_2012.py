"""The restore of March 2012, count for count: ``python -m benchmarks.replay_2012 [--sets N]``.

436,223 small objects lie on 593 sets of 9+2 virtual volumes in three vaults, and are lost with
161,000 others that were never backed up. Real Airflow finds the loss, plans, recalls, and restores
by its DAGs as they are, while the vendor leaves 1,862 volumes out of the first shipment and 17 are
unreadable. Each object is compared with what it was. The place is built once below var/bench and
kept; a run that was killed is taken up by the same command. ``--sets`` scales all counts. The exit
status is 1 when an object, a count or a bar is missed.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.replay_judge import judge, shown
from benchmarks.replay_place import FULL, Place, Scale
from benchmarks.replay_run import ReplayFailed, Run, remove
from demo.airflow_client import AirflowApiError
from demo.airflow_local import ROOT, AirflowFailed
from demo.processes import interrupt_on_term
from restore_lib.errors import TapeflowError

HOME = ROOT / "var" / "bench"


def main(arguments: Sequence[str] | None = None) -> int:
    """Build what is missing, restore, judge, and print."""
    options = _options(arguments)
    home = options.home / f"replay-2012-{options.sets}"
    place, folder = Place(home / "place", Scale(options.sets)), home / "run"
    interrupt_on_term()
    try:
        if not place.is_ready:
            _tell(f"building {options.sets} tape sets in {place.root}")
            seconds = place.build()
            _tell("built in " + ", ".join(f"{name} {took} s" for name, took in seconds.items()))
        if (folder / "judged").exists():
            remove(folder)
        run = Run(place, folder)
        run.go()
        found = judge(run)
    except (ReplayFailed, AirflowFailed, AirflowApiError, TapeflowError) as error:
        _tell(f"{error}\nThe same command goes on from here.")
        return 1
    print(json.dumps(found) if options.json else shown(found))
    (folder / "judged").write_text(json.dumps(found, indent=1) + "\n")
    if not options.keep and not found["complaints"]:
        remove(folder)
    return 1 if found["complaints"] else 0


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay_2012", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--sets", type=int, default=FULL, help="tape sets; 593 is full size")
    parser.add_argument("--keep", action="store_true", help="keep the run's folder, with its logs")
    parser.add_argument("--home", type=Path, default=HOME, help="where places and runs are")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
