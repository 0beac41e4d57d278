"""``make demo``: lose thousands of real files, and get them back from virtual tapes by Airflow."""

import argparse
import json
import shutil
import signal
import sys
import sysconfig
from pathlib import Path
from typing import Any

from demo import data, place, story
from demo.airflow_client import AirflowClient
from demo.airflow_local import ROOT, AirflowFailed, LocalAirflow
from demo.place import Place
from demo.show import Screen
from demo.story import Facts, StoryFailed
from restore_lib.errors import TapeflowError


def main(arguments: list[str] | None = None) -> int:
    """Run the demonstration; 0 only if all that had a backup is back and the rest is named."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder to copy; default: installed packages")
    parser.add_argument("--root", type=Path, default=ROOT / "var" / "demo")
    options = parser.parse_args(arguments)
    source = options.data or Path(sysconfig.get_paths()["purelib"])
    if not source.is_dir():
        print(f"demo: {source} is no folder; give one with DATA=/some/folder", file=sys.stderr)
        return 2
    screen = Screen()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _demonstrate(source.resolve(), options.root, screen)
    except (StoryFailed, AirflowFailed, TapeflowError) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: stopped; `make demo` starts afresh", file=sys.stderr)
        return 130


def _demonstrate(source: Path, root: Path, screen: Screen) -> int:
    here = Place(root.resolve())
    airflow = LocalAirflow(
        here.airflow,
        ROOT / "dags",
        ROOT / "plugins",
        {"TAPEFLOW_CONFIG": str(here.config)},
        drives=place.DRIVES,
        beside={"vendor": here.vendor},
        template=ROOT / "var" / "cache",
    )
    airflow.evict()
    screen.step(f"copying {source} into a live store")
    place.clear(here)
    objects, size = data.copy_files(source, here.live)
    if not objects:
        raise StoryFailed(f"there is no file in {source}")
    blank = place.furnish(here, objects, size)
    screen.detail(f"{objects:,} files, {size / 1e6:,.0f} MB; {blank} blank volumes in the library")
    screen.step("starting Airflow")
    with airflow, airflow.client() as client:
        screen.detail(f"{airflow.base_url}   user {airflow.user}, password {airflow.password}")
        facts = story.Story(here, client, screen).tell()
        tasks = _count_tasks(client)
    return _conclude(here, facts, tasks, screen)


def _count_tasks(client: AirflowClient) -> int:
    return sum(
        len(client.task_instances(dag_id, run["dag_run_id"]))
        for dag_id in story.DAGS
        for run in client.dag_runs(dag_id)
    )


def _conclude(here: Place, facts: Facts, tasks: int, screen: Screen) -> int:
    screen.step("comparing every file with the list taken before the deletion")
    problems = data.differences(here.live, here.root / data.LIST)
    original = here.root / "reports" / f"restore-{facts.request}.json"
    report = json.loads(original.read_text())
    counts, volumes = report["counts"], report["volumes"]
    named = len(report["names"]["never_backed_up"])
    table = {
        "lost": facts.deleted,
        "on_tape": counts["on_tape"],
        "restored": counts["restored"],
        "verified": counts["verified"],
        "never_backed_up": counts["never_backed_up"],
        "volumes_recalled": len(volumes["recalled"]),
        "omitted": len(volumes["omitted"]),
        "bad": len(volumes["bad"]),
        "rebuilt": counts["rebuilt_from_parity"],
        "tasks_run": tasks,
        "minutes": round(screen.seconds / 60, 1),
    }
    complaints = problems + _complaints(table, named)
    _write_report(here, table, report, complaints)
    rows = [(name.replace("_", " "), f"{value:,}") for name, value in table.items()]
    screen.table("What was lost, and what came back", rows)
    screen.paths(
        {
            "report": str(original.with_suffix(".html")),
            "figures": str(here.root / "report.json"),
            "digests": f"cd {here.live} && sha256sum --quiet --check ../{data.LIST}",
            "keys": str(here.keys),
            "tapes": str(here.tapes),
            "airflow": f"make airflow, then DAG restore, run {facts.restore_run}",
        }
    )
    for complaint in complaints[:20]:
        print(f"demo: {complaint}", file=sys.stderr)
    verdict = "NOT everything came back" if complaints else "everything that had a backup is back"
    screen.step(verdict)
    return 1 if complaints else 0


def _complaints(table: dict[str, Any], named: int) -> list[str]:
    """Return what is not as it must be, counts against counts."""
    expected = {
        "every object on tape is restored": table["restored"] == table["on_tape"],
        "every restored object is verified": table["verified"] == table["restored"],
        "the rest is named": named == table["lost"] - table["on_tape"],
        "the omitted volume was noticed": table["omitted"] >= 1,
        "the unreadable volume was noticed": table["bad"] >= 1,
        "its objects were rebuilt from parity": table["rebuilt"] >= 1,
    }
    return [f"it does not hold that {claim}" for claim, holds in expected.items() if not holds]


def _write_report(
    here: Place, table: dict[str, Any], report: dict[str, Any], complaints: list[str]
) -> None:
    text = json.dumps({**table, "complaints": complaints, "restore": report}, indent=1)
    (here.root / "report.json").write_text(text + "\n")
    html = here.root / "reports" / f"restore-{report['request']['id']}.html"
    shutil.copyfile(html, here.root / "report.html")


if __name__ == "__main__":
    sys.exit(main())
