"""Let recovery points expire, and reclaim what nothing needs any more: expire → reclaim."""

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable, Param, task
from airflow.sdk.exceptions import AirflowSkipException

from tapeflow_airflow.policies import TASK_DEFAULTS
from tapeflow_airflow.runs import (
    TAPE_QUEUE,
    LoggedProgress,
    actor,
    configured,
    open_site,
    params,
    show,
)

with DAG(
    "retention",
    schedule=CronTriggerTimetable("0 5 * * *", "UTC", run_immediately=timedelta(0)),
    catchup=False,
    max_active_runs=1,
    default_args=TASK_DEFAULTS | {"queue": TAPE_QUEUE},
    tags=["tapeflow", "retention"],
    description="Let recovery points expire by their policies' rules, and reclaim their tapes",
    doc_md="""
### Retention
Every day at 05:00 UTC. Nothing expires of a policy that has no `[policies.NAME.retention]`.

* `expire` logs what would go and why each other recovery point stays, and then does it. No tape is
  touched. It is skipped when nothing is to expire.
* `reclaim` logs what is next for each tape set on which nothing is live, and does it: into
  quarantine, or free for new sets when that is over. Free volumes in a vault are called back;
  nothing is written to any. It is skipped when nothing is to do.

With `dry_run` both only log. `tapeflow retention undo` and `tapeflow reclaim undo` bring back what
is not reclaimed.
""",
    params={
        "policy": Param(
            None,
            type=["string", "null"],
            examples=configured("policies"),
            title="Policy",
            description="Let only recovery points of this policy expire; of all when empty.",
            section="What to expire",
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="Log what would be done, and do nothing.",
            section="What to expire",
        ),
    },
):

    @task
    def expire() -> dict[str, list[int]]:
        """Plan, log the plan and do it; return what has expired by policy."""
        from restore_lib.retention.expire import apply_retention, plan_retention

        with open_site() as site:
            plan = plan_retention(site, params()["policy"])
            for each in plan.policies:
                decisions = [asdict(decision) for decision in each.decisions]
                facts = {"expiring": each.expiring, "incidents": each.incidents}
                show(f"Policy {each.policy}", facts | {"recovery points": decisions})
            if plan.is_empty or params()["dry_run"]:
                msg = "Nothing is to expire." if plan.is_empty else "This is a dry run."
                raise AirflowSkipException(msg)
            return dict(apply_retention(site, plan, actor()).points)

    @task(trigger_rule="none_failed")
    def reclaim() -> list[str]:
        """Plan, log the plan and do it; return the sets that were reclaimed."""
        from restore_lib.retention.reclaim import plan_reclaim, run_reclaim

        with open_site() as site:
            plan = plan_reclaim(site)
            steps = [asdict(each) for each in plan.sets]
            show("Tape sets", {"sets": steps, "to recall": dict(plan.to_recall)})
            if plan.is_empty or params()["dry_run"]:
                msg = "Nothing is to reclaim." if plan.is_empty else "This is a dry run."
                raise AirflowSkipException(msg)
            done = run_reclaim(site, plan, actor(), LoggedProgress())
        show("Done", asdict(done))
        return list(done.reclaimed)

    expired: Any = expire()
    expired >> reclaim()
