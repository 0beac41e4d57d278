"""The story: back up, vault, lose, find the loss, bring it back; by Airflow's REST API."""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from demo import data
from demo.airflow_client import AirflowClient
from demo.place import Place
from demo.show import Screen
from restore_lib.catalog import incidents, requests
from restore_lib.catalog.incidents import Incident
from restore_lib.errors import Refused
from restore_lib.integrity.reference import write_reference
from restore_lib.library.faults import Faults, write_faults
from restore_lib.model.states import ItemState
from restore_lib.restore.request import RestoreSpec, plan_restore
from restore_lib.site import Site

DAGS = (
    "backup",
    "vault_out",
    "loss_scan",
    "restore",
    "restore_wave",
    "verify_media",
    "retention",
    "repack",
    "dr_drill",
)
_TIMEOUT = 1800.0
_LOST = 0.4
_NEWCOMERS = 200


class StoryFailed(Exception):
    """A run ended otherwise than the story tells."""


@dataclass
class Facts:
    """What the end has to be compared with."""

    seed: int = 2012
    backed_up: int = 0
    newcomers: int = 0
    deleted: int = 0
    omitted: str = ""
    unreadable: str = ""
    restore_run: str = ""
    request: int = 0
    states: dict[str, str] = field(default_factory=dict)


class Story:
    """Tells the story on one place through one Airflow."""

    def __init__(self, place: Place, airflow: AirflowClient, screen: Screen) -> None:
        self._place = place
        self._airflow = airflow
        self._screen = screen
        self._site = Site.load(place.config)
        self._random = random.Random(Facts.seed)
        self.facts = Facts()

    def tell(self) -> Facts:
        """Go through all of it; StoryFailed when a run ends otherwise than it should."""
        for dag_id in DAGS:
            self._airflow.wait_for_dag(dag_id)
        self._back_up()
        self._vault()
        self._lose()
        incident = self._scan()
        self._prepare_trouble(incident.id)
        self._restore(incident.id)
        return self.facts

    def _back_up(self) -> None:
        self._screen.step("DAG backup: live store → tape sets of 4+2, encrypted, read back")
        self._run("backup", {"policy": "live"}, self._tasks)
        self.facts.backed_up = data.write_digests(self._place.live, self._place.root / data.LIST)
        self._screen.detail(f"SHA-256 of {self.facts.backed_up:,} files listed in {data.LIST}")

    def _vault(self) -> None:
        self._screen.step("DAG vault_out: boxes, trucks, three vaults; no set whole anywhere")
        self._run("vault_out", {}, self._tasks)
        images = sum(1 for _ in self._place.tapes.glob("vault-*/*.tap"))
        self._screen.detail(f"{images} volumes are in the vaults")

    def _lose(self) -> None:
        live, facts = self._place.live, self.facts
        facts.newcomers = data.add_newcomers(live, _NEWCOMERS, self._random)
        write_reference(self._site.store("live").list(), self._place.root / "reference.parquet")
        facts.deleted = data.run_away(live, _LOST, self._random)
        self._screen.step(
            f"{facts.newcomers} new files arrive; then a runaway deletion removes "
            f"{facts.deleted:,} files, {_LOST:.0%} of the store"
        )

    def _scan(self) -> Incident:
        self._screen.step("DAG loss_scan: what should exist against what does")
        conf = {"store": "live", "reference": str(self._place.root / "reference.parquet")}
        self._run("loss_scan", conf, self._tasks)
        with self._site.catalog.read() as connection:
            found = incidents.incidents_of(connection, "live")[0]
        self._screen.detail(
            f"incident {found.id}: {found.counts['lost']:,} lost, "
            f"{found.counts['on_tape']:,} of them on tape, "
            f"{found.counts['never_backed_up']:,} never backed up"
        )
        return found

    def _prepare_trouble(self, incident: int) -> None:
        """Let the vendor leave out one needed volume, and damage another one in its vault."""
        spec = RestoreSpec(incident=incident)
        plan = plan_restore(self._site, spec, "demo", dry_run=True)
        wanted = {row["barcode"]: row["tape_set"] for row in plan.detail["volumes"]}
        first, second = self._two_of_different_sets(wanted)
        self.facts.omitted, self.facts.unreadable = first, second
        omit = {"barcodes": [first], "at": "shipment"}
        (self._place.van / "omit.json").write_text(json.dumps(omit))
        [image] = self._place.tapes.glob(f"vault-*/{second}.tap")
        write_faults(image, Faults(unreadable=True))
        self._screen.detail(f"trouble ahead: {first} will be left out, {second} can't be read")

    def _two_of_different_sets(self, wanted: Mapping[str, str]) -> tuple[str, str]:
        barcodes = sorted(wanted)
        if len(barcodes) < 2:
            raise StoryFailed("the data are too few: the loss lies on one volume only")
        first = barcodes[len(barcodes) // 2]
        others = [b for b in barcodes if wanted[b] != wanted[first]] or [
            b for b in barcodes if b != first
        ]
        return first, others[0]

    def _restore(self, incident: int) -> None:
        self._screen.step("DAG restore: plan, recall, waves of batches, verified one by one")
        run_id = self._run("restore", {"incident": incident}, self._items)
        self.facts.restore_run = run_id
        self.facts.request = self._newest_request()

    def _newest_request(self) -> int:
        with self._site.catalog.read() as connection:
            found = requests.requests(connection)
        return found[-1].id if found else 0

    def _run(self, dag_id: str, conf: Mapping[str, Any], watch: Any) -> str:
        run_id = self._airflow.trigger(dag_id, conf)
        state = self._airflow.wait_for_run(
            dag_id, run_id, timeout=_TIMEOUT, on_progress=watch, poll=1.0
        )
        self.facts.states[dag_id] = state
        if state != "success":
            raise StoryFailed(f"run {run_id} of {dag_id} ended as {state}; see the Airflow UI")
        return run_id

    def _tasks(self, state: str, counts: Mapping[str, int]) -> None:
        done = counts.get("success", 0) + counts.get("skipped", 0)
        self._screen.progress(f"{state}: {done} of {sum(counts.values())} tasks done")

    def _items(self, state: str, _counts: Mapping[str, int]) -> None:
        try:
            with self._site.catalog.read() as connection:
                counts = requests.count_items(connection, self._newest_request())
        except Refused:
            return
        total = sum(counts.values())
        on_the_way = counts[ItemState.PENDING] + counts[ItemState.BATCHED]
        self._screen.progress(
            f"{state}: {counts[ItemState.RESTORED]:,} of {total:,} objects restored and verified, "
            f"{on_the_way:,} to come"
        )
