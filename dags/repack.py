"""Move what is live off tape sets that hold mostly what has expired: plan → move."""

from dataclasses import asdict
from typing import Any

from airflow.sdk import DAG, Param, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from tapeflow_airflow.policies import TASK_DEFAULTS
from tapeflow_airflow.runs import (
    TAPE_POOL,
    TAPE_QUEUE,
    LoggedProgress,
    actor,
    open_site,
    params,
    show,
)

WHAT = "What to repack"

with DAG(
    "repack",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args=TASK_DEFAULTS | {"queue": TAPE_QUEUE},
    tags=["tapeflow", "retention"],
    description="Write what is live on mostly expired tape sets to new ones",
    doc_md="""
### Repack
Writes what is live on some tape sets to new ones, as it is stored, so that `retention` can reclaim
the old ones. No key is needed.

* `plan` logs which sets, and what that takes. With *Recall* it calls back what of them is in a
  vault. With *Dry run* it is skipped, and so is `move`.
* `move` writes the sets whose volumes are here; it holds a slot of the pool `tape_drives`. Killed
  and run again, it goes on behind the last load that was committed. It is skipped when there is
  nothing to repack now: what comes from a vault, and what a restore that is under way reads, is for
  the next run. It fails when a payload could not be read: that one is named, and stays where it is.

It has no schedule of its own: repacking takes drives from backups and restores.
""",
    params={
        "sets": Param(
            None,
            type=["array", "null"],
            items={"type": "string", "minLength": 1},
            title="Tape sets",
            description="These closed sets, however much of them is live; one a line.",
            section=WHAT,
        ),
        "below": Param(
            50.0,
            type="number",
            exclusiveMinimum=0,
            maximum=100,
            title="Below (percent)",
            description="Without names: sets of whose stored bytes a smaller share is live.",
            section=WHAT,
        ),
        "recall": Param(
            False,
            type="boolean",
            title="Recall",
            description="Call back from the vaults what is needed, for the next run.",
            section=WHAT,
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="Log what would be done, and do nothing.",
            section=WHAT,
        ),
    },
):

    @task
    def plan() -> list[int]:
        """Log the plan, and recall what is away where that is asked for; return the shipments."""
        from restore_lib.integrity.repack_plan import plan_repack
        from restore_lib.model.volume import Reason
        from restore_lib.vault.recalls import recall

        asked = params()
        with open_site() as site:
            planned = plan_repack(site, sets=asked["sets"] or (), below=asked["below"] / 100)
            show("The plan", planned.as_dict())
            if asked["dry_run"]:
                msg = "This is a dry run."
                raise AirflowSkipException(msg)
            away = [barcode for one in planned.sets for barcode in one.away]
            if not asked["recall"] or not away:
                return []
            return list(recall(site, away, reason=Reason.MIGRATE, actor=actor()))

    @task(pool=TAPE_POOL)
    def move() -> list[str]:
        """Write what is live on the sets that are here to new ones; return these."""
        from restore_lib.integrity.repack import run_repack
        from restore_lib.integrity.repack_plan import plan_repack

        asked = params()
        what = {"sets": asked["sets"] or (), "below": asked["below"] / 100}
        with open_site() as site:
            planned = plan_repack(site, **what)
            if planned.sets and not any(one.ready for one in planned.sets):
                msg = "No set can be repacked now; the plan tells why."
                raise AirflowSkipException(msg)
            done = run_repack(site, actor(), LoggedProgress(), **what)
        show("Done", asdict(done))
        if not done.sets:
            msg = "There is nothing to repack."
            raise AirflowSkipException(msg)
        if done.unreadable:
            msg = f"Payloads that could not be read, as the log names them: {len(done.unreadable)}."
            raise AirflowFailException(msg)
        return done.new_sets

    planned: Any = plan()
    planned >> move()
