"""One run of the 2012 replay: trouble is laid, the loss is found, and Airflow brings all back.

What was done is in the cluster's catalog and in Airflow's database. A run that was killed, whatever
was killed with it, is taken up by ``Run`` on the same folder.
"""

import json
import random
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from benchmarks.forecast_2012 import K
from benchmarks.processes import CpuMeter
from benchmarks.replay_place import DRIVES, STORE, Place
from demo.airflow_client import AirflowClient
from demo.airflow_local import ROOT, LocalAirflow
from demo.airflow_settings import Tuning
from restore_lib.catalog import incidents, requests
from restore_lib.catalog.tables import batches
from restore_lib.errors import TapeflowError
from restore_lib.library.faults import Faults, write_faults
from restore_lib.model.states import BatchState

TRUCK_SECONDS = 10.0
SCAN, RESTORE, WAVES = "loss_scan", "restore", "restore_wave"
_RUN_ID = "replay-2012"
_LOSS_TIMEOUT = 120
"""Longer than a busy disk keeps a scheduler from its heartbeat: it would start its tasks anew."""
_LONGEST = 3 * 3600.0
_POLL = 1.0
_TELL_SECONDS = 15.0


class ReplayFailed(Exception):
    """A run of Airflow's ended otherwise than it should."""


class Run:
    """The restore of one copy of a place, begun or taken up; ``starts`` counts how often."""

    def __init__(self, place: Place, folder: Path, tuning: Tuning | None = None) -> None:
        """Take up what ``folder`` holds of an earlier run; without one, copy ``place`` there."""
        self.folder = folder
        self._tuning = tuning or Tuning(parallelism=DRIVES, loss_timeout=_LOSS_TIMEOUT)
        if not folder.exists():
            self._begin(place)
        self.place = Place(folder, place.scale)
        self._facts = json.loads(self._facts_path.read_text("utf-8"))
        self._told = 0.0

    @property
    def omitted(self) -> list[str]:
        """The volumes that the vendor leaves out of the first shipment."""
        return list(self._facts["omitted"])

    @property
    def bad(self) -> list[str]:
        """The volumes that can't be read."""
        return list(self._facts["bad"])

    @property
    def starts(self) -> int:
        """How often this run was begun or taken up."""
        return int(self._facts["starts"])

    @property
    def cpu(self) -> Mapping[str, float]:
        """Processor seconds of Airflow's components since the last start."""
        return dict(self._facts["cpu"])

    @property
    def is_over(self) -> bool:
        """Whether the restore has come to its end."""
        return bool(self._facts["tasks"])

    @property
    def tasks(self) -> Mapping[str, list[dict[str, Any]]]:
        """The task instances of the scan and the restore, as Airflow tells of them."""
        return dict(self._facts["tasks"])

    @property
    def waves(self) -> int:
        """How many runs of ``restore_wave`` there were."""
        return int(self._facts["waves"])

    def go(self) -> None:
        """Scan and restore, as far as that is not done; ReplayFailed when one of them fails."""
        if self.is_over:
            return
        self._note(starts=self.starts + 1)
        with self._airflow() as airflow, airflow.client() as client:
            for dag_id in (SCAN, RESTORE, WAVES):
                client.wait_for_dag(dag_id)
            meter = CpuMeter({name: pids[0] for name, pids in airflow.pids.items()})
            reference = {"store": STORE, "reference": str(self.place.reference)}
            self._do(airflow, client, SCAN, reference)
            incident = client.xcom(SCAN, _RUN_ID, "scan")
            self._do(airflow, client, RESTORE, {"incident": incident})
            self._note(
                cpu=meter.seconds(),
                waves=len(client.dag_runs(WAVES)),
                tasks={name: _timed(client, name) for name in (SCAN, RESTORE)},
            )

    def report(self) -> dict[str, Any]:
        """Return the restore's report."""
        path = self.folder / "reports" / "restore-1.json"
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return found

    def found_at(self) -> str:
        """Return when the loss was found, as RFC 3339."""
        with closing(self.place.site()) as site, site.catalog.read() as connection:
            return incidents.incident(connection, 1).found_at.isoformat()

    def _begin(self, place: Place) -> None:
        """Copy the place and lay the trouble; the folder appears when all of that is done."""
        beside = self.folder.with_name(f".{self.folder.name}")
        copy = place.copy(beside)
        data = copy.data_volumes()
        chance = random.Random(2012)
        sets = chance.sample(range(copy.scale.sets), copy.scale.bad)
        bad = sorted(data[number * K + chance.randrange(K)] for number in sets)
        omitted = sorted(chance.sample(sorted(set(data) - set(bad)), copy.scale.omitted))
        for barcode in bad:
            [image] = copy.tapes.glob(f"vault-*/{barcode}.tap")
            write_faults(image, Faults(unreadable=True))
        omissions = {"barcodes": omitted, "at": "shipment"}
        (beside / "van" / "omit.json").write_text(json.dumps(omissions))
        facts = {"omitted": omitted, "bad": bad, "starts": 0, "cpu": {}, "waves": 0, "tasks": {}}
        (beside / "run.json").write_text(json.dumps(facts))
        beside.rename(self.folder)

    @property
    def _facts_path(self) -> Path:
        return self.folder / "run.json"

    def _note(self, **facts: object) -> None:
        self._facts |= facts
        fresh = self._facts_path.with_suffix(".new")
        fresh.write_text(json.dumps(self._facts))
        fresh.replace(self._facts_path)

    def _airflow(self) -> LocalAirflow:
        config = str(self.place.config)
        vendor = (sys.executable, "-m", "demo.vendor", "--config", config)
        return LocalAirflow(
            self.folder / "airflow",
            ROOT / "dags",
            ROOT / "plugins",
            {"TAPEFLOW_CONFIG": config},
            drives=DRIVES,
            beside={"vendor": (*vendor, "--delay", str(TRUCK_SECONDS))},
            tuning=self._tuning,
            template=ROOT / "var" / "cache",
        )

    def _do(
        self, airflow: LocalAirflow, client: AirflowClient, dag_id: str, conf: Mapping[str, Any]
    ) -> None:
        """Bring a run to its end: a new one, the one that goes on, or again what failed of it."""
        if all(run["dag_run_id"] != _RUN_ID for run in client.dag_runs(dag_id)):
            client.trigger(dag_id, conf, run_id=_RUN_ID)
        if client.run(dag_id, _RUN_ID)["state"] == "failed":
            client.clear(dag_id, _RUN_ID, only_failed=True)
        until = time.monotonic() + _LONGEST
        while (state := client.run(dag_id, _RUN_ID)["state"]) not in {"success", "failed"}:
            airflow.check()
            self._tell(dag_id)
            if time.monotonic() > until:
                raise ReplayFailed(f"{dag_id} has not ended in {_LONGEST:.0f} s")
            time.sleep(_POLL)
        if state != "success":
            raise ReplayFailed(f"{dag_id} ended as {state}; see {self.folder}/airflow/logs")

    def _tell(self, dag_id: str) -> None:
        now = time.monotonic()
        if now - self._told < _TELL_SECONDS:
            return
        self._told = now
        print(f"{dag_id}: {self._progress()}", file=sys.stderr, flush=True)

    def _progress(self) -> str:
        counts = select(batches.c.state, func.count()).group_by(batches.c.state)
        try:
            with closing(self.place.site()) as site, site.catalog.read() as connection:
                if not requests.requests(connection):
                    return "no plan yet"
                found = {row.state: row[1] for row in connection.execute(counts)}
        except TapeflowError as error:
            return error.message
        return f"{found.get(BatchState.DONE, 0):,} of {sum(found.values()):,} batches done"


def remove(folder: Path) -> None:
    """Remove a run's folder; killed meanwhile, none is left that looks like a run."""
    aside = folder.with_name(f".{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    if folder.exists():
        folder.rename(aside)
        shutil.rmtree(aside)


def _timed(client: AirflowClient, dag_id: str) -> list[dict[str, Any]]:
    fields: Iterable[str] = ("task_id", "state", "try_number", "start_date", "end_date")
    tasks = client.task_instances(dag_id, _RUN_ID)
    return [{field: task[field] for field in fields} for task in tasks]
