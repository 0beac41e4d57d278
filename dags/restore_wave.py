"""Do what arrivals made possible: advance → claim → one task a batch → settle."""

from airflow.sdk import DAG, Asset, AssetWatcher, task
from airflow.sdk.exceptions import AirflowSkipException

from tapeflow_airflow.operators import RestoreBatch
from tapeflow_airflow.policies import TASK_DEFAULTS
from tapeflow_airflow.runs import (
    TAPE_POOL,
    TAPE_QUEUE,
    actor,
    open_site,
    run_name,
    show,
)
from tapeflow_airflow.triggers import ArrivalsTrigger

_BATCH_WEIGHT = 1_000_000_000
"""Of a run in 2026; that of later ones is lower, second by second (``OldestRunFirst``)."""
ARRIVALS = Asset("tape_arrivals", watchers=[AssetWatcher(name="desk", trigger=ArrivalsTrigger())])

with DAG(
    "restore_wave",
    schedule=[ARRIVALS],
    catchup=False,
    max_active_runs=4,
    # Before all batches: a wave that waits for its claim or its end would let drives stand idle.
    default_args=TASK_DEFAULTS
    | {"queue": TAPE_QUEUE, "priority_weight": 2 * _BATCH_WEIGHT, "weight_rule": "absolute"},
    tags=["tapeflow", "restore", "vault"],
    description="Receive what has arrived, and read the batches whose volumes are all here",
    doc_md="""
### Restore wave
Runs by itself when the triggerer sees work: a document from a vault or courier, a batch whose
volumes are all in the library, a request to be planned, or the wave of a run that died. It may be
triggered by hand at any time; a run that finds nothing to do ends as skipped.

* `advance` works through the documents, plans what is open, and recalls what is missing.
* `claim` takes batches whose volumes are here, at most `[restore] wave_batches` and what the drives
  read in an hour, as a wave; requests take turns, by priority and by what they had of the drives.
  When it took any, the next run begins, so that several read side by side.
* `restore_batch` mounts, reads, verifies and publishes one batch; it holds a slot of the pool
  `tape_drives`. A busy drive or a store that does not answer is tried again, ever later. A bad
  medium is not tried again: the task fails, and its objects are planned over other volumes. What
  else the run has claimed of the volume, for whatever request, is read in the same mount; the tasks
  of these batches then find them done.
* `settle` gives back what failed batches left and plans it anew, bounded by `[restore] rounds`.

**A failed `restore_batch` does not fail the run**, because its objects get another way or are named
in the end: the verdict is that of the `restore` run. Nor does a failed `advance`: it names a vault,
courier or document that failed, which keeps nothing else waiting and is tried again by the next
run. The run fails when `claim` or `settle` could not do their own work.
""",
):

    @task(retries=1)
    def advance() -> None:
        """Receive, plan, recall; fail only when all that could be done is done."""
        from restore_lib.restore import flow

        with open_site() as site:
            done = flow.advance(site, actor())
        show("Advanced", done.as_dict())
        if done.problems:
            raise done.problems[0]

    @task(trigger_rule="all_done", outlets=[ARRIVALS])
    def claim() -> list[int]:
        """Take a wave for this run; return the ids of its batches."""
        from restore_lib.restore.claiming import claim as claim_batches

        with open_site() as site:
            claimed = claim_batches(site, run_name())
        if not claimed:
            msg = "No batch can be read now."
            raise AirflowSkipException(msg)
        return claimed

    @task(trigger_rule="none_skipped")
    def settle() -> None:
        """End the wave, and plan at once what it left."""
        from restore_lib.restore import flow
        from restore_lib.restore.claiming import settle as settle_waves

        with open_site() as site:
            show("Settled", settle_waves(site, run_name()))
            show("Advanced", flow.advance(site, actor()).as_dict())

    claimed = claim()
    advance() >> claimed
    restore_batch = RestoreBatch.partial(
        task_id="restore_batch",
        pool=TAPE_POOL,
        priority_weight=_BATCH_WEIGHT,
        weight_rule="tapeflow_airflow.priorities.OldestRunFirst",
    ).expand(batch_id=claimed)
    restore_batch >> settle()
