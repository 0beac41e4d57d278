"""Bring lost objects back: plan → start → wait, deferred → report → verdict."""

from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Param, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from tapeflow_airflow.operators import WaitForRestores
from tapeflow_airflow.policies import TASK_DEFAULTS
from tapeflow_airflow.runs import TAPE_QUEUE, actor, configured, log, open_site, params, show

if TYPE_CHECKING:
    from collections.abc import Mapping

    from restore_lib.restore.request import RestoreSpec

STORES = configured("stores")
WHAT, WHERE, BOUNDS = "What to restore: fill in one", "From and to", "Bounds"


def spec(asked: "Mapping[str, Any]") -> "RestoreSpec":
    """Return what the parameters of a run ask for; Refused when they ask for two things at once."""
    from restore_lib.errors import Refused
    from restore_lib.model.states import Overwrite, Priority, TakeRedundancy
    from restore_lib.model.volume import Reason
    from restore_lib.restore.request import RestoreSpec

    if asked["everything"] and asked["prefix"]:
        raise Refused(
            f"Both everything and the prefix {asked['prefix']!r} are asked for.",
            remedy="trigger the run with one of them",
        )
    prefix = "" if asked["everything"] else asked["prefix"] or None
    return RestoreSpec(
        store=asked["store"],
        incident=asked["incident"],
        prefix=None if prefix is None else prefix.encode(),
        keys=[name.encode() for name in asked["names"]] if asked["names"] else None,
        recovery_point=asked["recovery_point"],
        target=asked["target"],
        overwrite=Overwrite(asked["overwrite"]),
        reason=Reason(asked["reason"]),
        priority=Priority(asked["priority"]),
        take_redundancy=TakeRedundancy(asked["take_redundancy"]),
    )


with DAG(
    "restore",
    schedule=None,
    catchup=False,
    max_active_runs=8,
    default_args=TASK_DEFAULTS | {"queue": TAPE_QUEUE},
    tags=["tapeflow", "restore"],
    description="Bring lost objects back from tape, verified, and report on each",
    doc_md="""
### Restore
The umbrella of one restore request; the reads themselves are done by `restore_wave` runs, which
therefore must not be paused.

* `plan` says which objects come from which volumes, where these are, and how long it should take.
  The plan is in its log. Nothing moves yet; a *dry run* ends here.
* `start` releases the request. From here on volumes are recalled and read without a person's help:
  one that is left out is asked for again, one that can't be read is replaced by the others of its
  set, both for at most `[restore] rounds` times.
* `wait` holds no worker. When it gives up after *Wait (hours)*, the request goes on: clear `wait`.
* `report` writes the JSON and HTML report, also when the wait was given up.
* `verdict` succeeds when the verdict is *passed*, or *partial*: then each object that is not back
  is named in the report, with the reason. It fails otherwise.

To stop a restore, use `tapeflow restore cancel`, and to pause it `tapeflow restore pause`; to mark
this run as failed does neither.
Names that are not UTF-8 can be restored by incident or prefix here, or by `tapeflow restore run
--names`.
""",
    params={
        "incident": Param(
            None,
            type=["integer", "null"],
            minimum=1,
            title="Incident",
            description="The objects that a loss scan found lost.",
            section=WHAT,
        ),
        "prefix": Param(
            None,
            type=["string", "null"],
            title="Prefix",
            description="All objects whose names begin with this.",
            section=WHAT,
        ),
        "names": Param(
            None,
            type=["array", "null"],
            items={"type": "string", "minLength": 1},
            title="Names",
            description="These objects; one name a line.",
            section=WHAT,
        ),
        "everything": Param(
            default=False,
            type="boolean",
            title="Everything",
            description="All objects of the recovery point.",
            section=WHAT,
        ),
        "store": Param(
            None,
            type=["string", "null"],
            examples=STORES,
            title="Store",
            description="The store whose backups are read; an incident knows its own.",
            section=WHERE,
        ),
        "recovery_point": Param(
            None,
            type=["integer", "null"],
            minimum=1,
            title="Recovery point",
            description="The state to go back to; the newest when empty.",
            section=WHERE,
        ),
        "target": Param(
            None,
            type=["string", "null"],
            examples=STORES,
            title="Target store",
            description="Where the objects go; to their own store when empty.",
            section=WHERE,
        ),
        "overwrite": Param(
            "never",
            type="string",
            enum=["never", "if-different", "always"],
            title="Overwrite",
            description="What happens to an object that stands at the target already.",
            section=WHERE,
        ),
        "take_redundancy": Param(
            "auto",
            type="string",
            enum=["auto", "always", "never"],
            title="Take redundancy along",
            description="Whether volumes that are needed only if another is bad come along from "
            "the vaults; auto: where that costs less than the risk of a second trip.",
            section=BOUNDS,
        ),
        "reason": Param(
            "restore",
            type="string",
            enum=["restore", "verify", "migrate"],
            title="Reason",
            description="Why volumes are recalled, as the vault is told.",
            section=BOUNDS,
        ),
        "priority": Param(
            "normal",
            type="string",
            enum=["urgent", "normal", "background"],
            title="Priority",
            description="Whose batches come first, where several restores are open.",
            section=BOUNDS,
        ),
        "wait_hours": Param(
            168.0,
            type="number",
            minimum=0.01,
            title="Wait (hours)",
            description="How long the run waits for the end; the restore itself has no such limit.",
            section=BOUNDS,
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="Log the plan, and do nothing.",
            section=BOUNDS,
        ),
    },
):

    @task
    def plan() -> int:
        """Make the request and log its plan; return its id.

        A request that an earlier try of this run has made is taken up.
        """
        from restore_lib.catalog.requests import planned_by
        from restore_lib.restore.request import plan_restore

        with open_site() as site:
            with site.catalog.read() as connection:
                made = planned_by(connection, actor())
            if made is not None:
                show("The plan", {"request": made.id, **(made.plan or {})})
                return made.id
            dry_run = bool(params()["dry_run"])
            planned = plan_restore(site, spec(params()), actor(), dry_run=dry_run)
        show("The plan", planned.as_dict())
        if dry_run:
            msg = "This is a dry run."
            raise AirflowSkipException(msg)
        if planned.request_id is None:
            raise AssertionError
        return planned.request_id

    @task
    def start(request: int) -> None:
        """Release the request for execution."""
        from restore_lib.restore.request import start_restore

        with open_site() as site:
            start_restore(site, request, actor())

    @task(trigger_rule="all_done")
    def report(request: int | None) -> None:
        """Write the report."""
        from restore_lib.restore.report import write_report

        if request is None:
            msg = "There is no request to report on."
            raise AirflowSkipException(msg)
        with open_site() as site:
            paths = write_report(site, request)
        show("The report", {"html": str(paths.html), "json": str(paths.json)})

    @task
    def verdict(request: int) -> None:
        """Fail unless the verdict is passed, or partial with the rest named."""
        from restore_lib.catalog import requests
        from restore_lib.model.verdict import Verdict

        with open_site() as site, site.catalog.read() as connection:
            found = requests.request(connection, request)
        log.info("Restore request %s: %s. Report: %s", request, found.verdict, found.report)
        if found.verdict not in {Verdict.PASSED, Verdict.PARTIAL}:
            msg = f"Restore request {request}: the verdict is {found.verdict}; see {found.report}."
            raise AirflowFailException(msg)

    planned: Any = plan()
    waited = WaitForRestores(task_id="wait", ids=planned, hours="{{ params.wait_hours }}")
    judged = verdict(planned)
    start(planned) >> waited >> report(planned) >> judged
    waited >> judged
