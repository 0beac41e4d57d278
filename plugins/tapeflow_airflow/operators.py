"""Operators: one that restores a batch, and those that wait without holding a worker."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator, Context

from tapeflow_airflow.runs import LoggedProgress, actor, open_site, run_name, show
from tapeflow_airflow.triggers import RestoresEnded, ShipmentsEnded


class RestoreBatch(BaseOperator):
    """Brings back the objects of one batch.

    There are thousands: nothing of it is a template, whose value Airflow would have each of them
    report. The task's log names the batch.
    """

    def __init__(self, *, batch_id: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.batch_id = batch_id

    def execute(self, context: Context) -> None:
        """Run the batch for this run; raise what the retry policy is to decide on."""
        from restore_lib.restore.batch import run_batch

        with open_site() as site:
            done = run_batch(site, self.batch_id, actor(), LoggedProgress(), runner=run_name())
        show(
            f"Batch {self.batch_id}",
            {"state": done.state, "restored": done.restored, "others": done.others},
        )


class WaitForEnd(BaseOperator):
    """Waits, deferred, until all of ``ids`` have ended; fails when that takes too long.

    ``hours`` is how long to wait. Both may be templates or the results of other tasks. Killed and
    run again, it goes on waiting, for ``hours`` from then.
    """

    template_fields = ("ids", "hours")
    trigger: type[RestoresEnded | ShipmentsEnded]

    def __init__(self, *, ids: Any, hours: Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.ids = ids
        self.hours = hours

    def execute(self, context: Context, event: dict[str, Any] | None = None) -> None:
        """Look once, then leave it to the triggerer."""
        ids = [int(one) for one in (self.ids if isinstance(self.ids, Sequence) else [self.ids])]
        trigger = self.trigger(ids)
        with open_site() as site:
            if trigger.ended(site):
                return
        self.defer(
            trigger=trigger, method_name="execute", timeout=timedelta(hours=float(self.hours))
        )


class WaitForRestores(WaitForEnd):
    """Waits for restore requests."""

    trigger = RestoresEnded


class WaitForShipments(WaitForEnd):
    """Waits for shipments."""

    trigger = ShipmentsEnded
