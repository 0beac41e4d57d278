"""Find out what a store has lost: one task, which pushes the id of the incident."""

from airflow.sdk import DAG, Param, task

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

STORES = configured("stores")

with DAG(
    "loss_scan",
    schedule=None,
    catchup=False,
    max_active_runs=4,
    default_args=TASK_DEFAULTS | {"queue": TAPE_QUEUE},
    tags=["tapeflow", "integrity"],
    description="Compare a store with what should be in it, and name every lost object",
    doc_md="""
### Loss scan
Compares what exists in a store with what should: a reference table, or the newest recovery point.
Every lost object is written down by name in an *incident*, and classed as on tape, changed after
the last backup, or never backed up.

`scan` returns the incident's id, which a `restore` run takes as its parameter, and nothing when
nothing is lost. Nothing in the store is changed.
""",
    params={
        "store": Param(
            STORES[0] if STORES else None,
            type=["string", "null"],
            examples=STORES,
            title="Store",
            description="The store of tapeflow.toml to look at.",
            section="What to compare",
        ),
        "reference": Param(
            None,
            type=["string", "null"],
            title="Reference table",
            description=(
                "Path, on the worker, of a Parquet or CSV table of what should exist; when empty, "
                "what the newest recovery point holds."
            ),
            section="What to compare",
        ),
        "prefix": Param(
            None,
            type=["string", "null"],
            title="Prefix",
            description="Look only at objects whose names begin with this.",
            section="What to compare",
        ),
    },
):

    @task
    def scan() -> int | None:
        """Compare; return the id of the incident, None when nothing is lost."""
        from pathlib import Path

        from restore_lib.integrity.loss_scan import scan_for_loss

        asked = params()
        with open_site() as site:
            found = scan_for_loss(
                site,
                asked["store"] or "",
                reference=Path(asked["reference"]) if asked["reference"] else None,
                prefix=(asked["prefix"] or "").encode(),
                actor=actor(),
                progress=LoggedProgress(),
            )
        show("Loss scan", found.as_dict())
        return found.incident_id

    scan()
