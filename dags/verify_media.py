"""Read tapes again and compare them with their digests: begin → one task a volume → verdict."""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable, Param, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from tapeflow_airflow.policies import TASK_DEFAULTS
from tapeflow_airflow.runs import (
    TAPE_POOL,
    TAPE_QUEUE,
    LoggedProgress,
    actor,
    log,
    open_site,
    params,
    push,
    show,
)

with DAG(
    "verify_media",
    schedule=CronTriggerTimetable("0 3 * * SUN", "UTC", run_immediately=timedelta(0)),
    catchup=False,
    max_active_runs=1,
    default_args=TASK_DEFAULTS | {"queue": TAPE_QUEUE},
    tags=["tapeflow", "integrity"],
    description="Read volumes again and compare all that is on them with their digests",
    doc_md="""
### Verify media
Reads volumes that are in the library from end to end, the one verified longest ago first, and
compares each tape file and each object as stored with its digest. No key is needed. Every Sunday at
03:00 UTC.

* `begin` chooses the volumes; with none in the library, the run ends as skipped: nothing was
  checked.
* `verify_volume` reads one; it holds a slot of the pool `tape_drives`, after restores and backups.
* `verdict` fails unless every volume that was chosen was read and is whole. What is damaged is
  marked suspect or broken, so that restores go over the other volumes of its set.
""",
    params={
        "limit": Param(
            50,
            type="integer",
            minimum=1,
            maximum=1000,
            title="Volumes",
            description="How many volumes to read at most.",
            section="What to verify",
        ),
        "barcodes": Param(
            None,
            type=["array", "null"],
            items={"type": "string", "minLength": 1},
            title="Barcodes",
            description="Only these volumes, one a line; they have to be in the library.",
            section="What to verify",
        ),
    },
):

    @task
    def begin() -> list[str]:
        """Choose the volumes, and push the id of the verification; return their barcodes."""
        from restore_lib.integrity.verify_media import begin_verification, plan_verification

        asked = params()
        with open_site() as site:
            chosen = plan_verification(
                site, barcodes=asked["barcodes"] or None, limit=asked["limit"]
            )
            if not chosen:
                msg = "No volume with data on it is in the library: nothing was checked."
                raise AirflowSkipException(msg)
            push("verification", begin_verification(site, chosen, actor()))
        return [volume.barcode for volume in chosen]

    @task(pool=TAPE_POOL, weight_rule="absolute")
    def verify_volume(verification: int, barcode: str) -> None:
        """Read one volume."""
        from restore_lib.integrity import verify_media

        with open_site() as site:
            found = verify_media.verify_volume(site, verification, barcode, LoggedProgress())
        show(barcode, {"verdict": found.verdict, "problems": [str(p) for p in found.problems]})

    @task(trigger_rule="none_skipped")
    def verdict(verification: int) -> None:
        """End the verification; fail unless it passed."""
        from restore_lib.integrity.verify_media import finish_verification
        from restore_lib.model.verdict import Verdict

        with open_site() as site:
            found = finish_verification(site, verification)
        log.info("Verification %s: %s", verification, found)
        if found is not Verdict.PASSED:
            msg = (
                f"Verification {verification}: the verdict is {found}; see "
                f"`tapeflow verifications show {verification}`."
            )
            raise AirflowFailException(msg)

    volumes: Any = begin()
    verified = verify_volume.partial(verification=volumes["verification"]).expand(barcode=volumes)
    verified >> verdict(volumes["verification"])
