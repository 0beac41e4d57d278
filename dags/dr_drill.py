"""Rehearse disaster recovery: begin → wait, deferred → finish → verdict."""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable, Param, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from tapeflow_airflow.operators import WaitForRestores
from tapeflow_airflow.policies import TASK_DEFAULTS
from tapeflow_airflow.runs import (
    TAPE_QUEUE,
    actor,
    configured,
    open_site,
    params,
    push,
    show,
)

with DAG(
    "dr_drill",
    schedule=CronTriggerTimetable("0 6 1 * *", "UTC", run_immediately=timedelta(0)),
    catchup=False,
    max_active_runs=1,
    default_args=TASK_DEFAULTS | {"queue": TAPE_QUEUE},
    tags=["tapeflow", "drill"],
    description="Restore a random sample into a scratch store, and measure it against RTO and RPO",
    doc_md="""
### Disaster recovery drill
Restores a random sample of the newest recovery point, and the drill's prefix, into its scratch
store: volumes are recalled from their vaults as for a real restore, and `restore_wave` runs read
them. On the first of each month at 06:00 UTC.

* `begin` makes the two restore requests. With no `[drills]` in tapeflow.toml, the run ends as
  skipped.
* `wait` holds no worker.
* `finish` measures, empties the scratch store, and keeps the evidence beside the reports.
* `verdict` fails unless every object came back verified, within the policy's RTO and RPO.
""",
    params={
        "drill": Param(
            None,
            type=["string", "null"],
            examples=configured("drills"),
            title="Drill",
            description="The drill of tapeflow.toml; all of them when empty.",
            section="What to rehearse",
        ),
        "seed": Param(
            None,
            type=["integer", "null"],
            minimum=0,
            title="Seed",
            description="Chooses the sample; with the seed of an earlier drill, the same again.",
            section="What to rehearse",
        ),
        "wait_hours": Param(
            168.0,
            type="number",
            minimum=0.01,
            title="Wait (hours)",
            description="How long the run waits for the end of the restores.",
            section="Bounds",
        ),
    },
):

    @task
    def begin() -> list[int]:
        """Begin the drills, and push the ids of their restore requests; return the drills' ids."""
        import secrets

        from restore_lib.catalog.drills import drill
        from restore_lib.drills.run import begin_drill

        asked = params()
        seed = secrets.randbelow(1 << 31) if asked["seed"] is None else asked["seed"]
        with open_site() as site:
            names = [asked["drill"]] if asked["drill"] else list(site.config.drills)
            if not names:
                msg = "tapeflow.toml defines no drill."
                raise AirflowSkipException(msg)
            begun = [begin_drill(site, name, actor(), seed) for name in names]
            with site.catalog.read() as connection:
                made = [drill(connection, drill_id).requests for drill_id in begun]
        push("requests", [request for requests in made for request in requests])
        return begun

    @task
    def finish(drill_id: int) -> None:
        """Measure, clean up, and keep the evidence."""
        from restore_lib.drills.run import finish_drill

        with open_site() as site:
            done = finish_drill(site, drill_id, actor())
        show(f"Drill {drill_id}", {"verdict": done.verdict, "measures": done.evidence["measures"]})

    @task
    def verdict(drill_ids: list[int]) -> None:
        """Fail unless all drills passed."""
        from restore_lib.catalog.drills import drill
        from restore_lib.model.verdict import Verdict

        with open_site() as site, site.catalog.read() as connection:
            found = {drill_id: drill(connection, drill_id).verdict for drill_id in drill_ids}
        show("Drills", {str(drill_id): str(one) for drill_id, one in found.items()})
        missed = [
            f"drill {drill_id}: {one}, see `tapeflow drill show {drill_id}`"
            for drill_id, one in found.items()
            if one is not Verdict.PASSED
        ]
        if missed:
            msg = f"Not every drill passed: {'; '.join(missed)}."
            raise AirflowFailException(msg)

    drills: Any = begin()
    waited = WaitForRestores(
        task_id="wait", ids=drills["requests"], hours="{{ params.wait_hours }}"
    )
    waited >> finish.expand(drill_id=drills) >> verdict(drills)
