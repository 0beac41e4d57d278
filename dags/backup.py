"""Back up what is new or changed in one policy's store: begin → one task a job → commit."""

from typing import Any

from airflow.sdk import DAG, Param, task

from tapeflow_airflow.policies import TASK_DEFAULTS
from tapeflow_airflow.runs import (
    TAPE_POOL,
    TAPE_QUEUE,
    LoggedProgress,
    actor,
    configured,
    open_site,
    params,
    push,
    show,
)

POLICIES = configured("policies")

with DAG(
    "backup",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args=TASK_DEFAULTS | {"queue": TAPE_QUEUE},
    tags=["tapeflow", "backup"],
    description="Back up what is new or changed to tape, and commit it as a recovery point",
    doc_md="""
### Backup
Compares the policy's store with the newest recovery point, and writes what is new or changed to
sets of tapes with parity. Every tape file is read back, unless the policy's `read_back` leaves that
to the drives. The recovery point appears in `commit`, when all is in; until then restores do not
see it.

* `begin` plans the jobs, or takes up those that an earlier run left open.
* `run_job` writes one share of the store; it holds a slot of the pool `tape_drives`. Killed and run
  again, it goes on behind the last stripe that was committed.
* `commit` fails while a job is not done: clear that job, and the run goes on.

Objects that could not be read are named, up to 1,000 of each job, in the log of `run_job` and by
`tapeflow backup show --json`; they do not fail the run, and the next backup tries them again.

It has no schedule of its own: set `schedule` in a DAG that triggers this one, or in this file.
""",
    params={
        "policy": Param(
            POLICIES[0] if POLICIES else None,
            type=["string", "null"],
            examples=POLICIES,
            title="Policy",
            description="The policy of tapeflow.toml whose store is backed up.",
            section="What to back up",
        )
    },
):

    @task
    def begin() -> list[int]:
        """Open the recovery point, and push its id; return the ids of its jobs."""
        from restore_lib.backup.run import begin_backup, job_ids

        with open_site() as site:
            point = begin_backup(site, params()["policy"] or "", actor(), LoggedProgress())
            push("recovery_point", point.id)
            return job_ids(site, point.id)

    @task(pool=TAPE_POOL, weight_rule="absolute")
    def run_job(job_id: int) -> None:
        """Back up one job's share."""
        from restore_lib.backup import run

        with open_site() as site:
            show(f"Job {job_id}", run.run_job(site, job_id, actor(), LoggedProgress()))

    @task(trigger_rule="none_failed")
    def commit(recovery_point: int) -> int:
        """Make the recovery point appear; return its id."""
        from restore_lib.backup.run import commit_backup

        with open_site() as site:
            point = commit_backup(site, recovery_point, actor())
            show(f"Recovery point {point.id}", point.summary or {})
            return point.id

    jobs: Any = begin()
    run_job.expand(job_id=jobs) >> commit(jobs["recovery_point"])
