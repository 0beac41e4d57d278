"""The way that one writes first: one run, mapped over all batches at once."""

from airflow.sdk import DAG, task

from tapeflow_airflow.policies import TASK_DEFAULTS
from tapeflow_airflow.runs import TAPE_POOL, actor, open_site, show

with DAG("plain", schedule=None, catchup=False, default_args=TASK_DEFAULTS):

    @task
    def claim() -> list[int]:
        """Return all batches."""
        from restore_lib.catalog.batches import batches_of

        with open_site() as site, site.catalog.read() as connection:
            return [batch.id for batch in batches_of(connection)]

    @task(pool=TAPE_POOL)
    def restore_batch(batch_id: int) -> None:
        """Do what a batch of `restore_wave` does."""
        from restore_lib.restore.batch import run_batch

        with open_site() as site:
            done = run_batch(site, batch_id, actor())
        show(f"Batch {batch_id}", {"restored": done.restored, "others": done.others})

    restore_batch.expand(batch_id=claim())
