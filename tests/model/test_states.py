"""States fit the catalog's columns, and ends are ends."""

from enum import StrEnum

import pytest

from restore_lib.catalog import tables
from restore_lib.model import shipment, states, verdict, volume
from restore_lib.model.states import ITEM_ENDS, ItemState


@pytest.mark.parametrize(
    ("kind", "column"),
    [
        (states.RecoveryPointState, tables.recovery_points.c.state),
        (states.JobState, tables.backup_jobs.c.state),
        (states.SetState, tables.tape_sets.c.state),
        (states.IncidentState, tables.incidents.c.state),
        (states.LossClass, tables.losses.c.loss_class),
        (states.Overwrite, tables.restore_requests.c.overwrite),
        (states.RequestState, tables.restore_requests.c.state),
        (states.WaveState, tables.waves.c.state),
        (states.BatchKind, tables.batches.c.kind),
        (states.BatchState, tables.batches.c.state),
        (states.ItemState, tables.items.c.state),
        (states.Way, tables.items.c.way),
        (verdict.Verdict, tables.restore_requests.c.verdict),
        (volume.Content, tables.volumes.c.content),
        (volume.Health, tables.volumes.c.health),
        (volume.Custody, tables.volumes.c.custody),
        (volume.Reason, tables.shipments.c.reason),
        (shipment.Direction, tables.shipments.c.direction),
        (shipment.ShipmentState, tables.shipments.c.state),
        (shipment.LineState, tables.shipment_lines.c.state),
    ],
)
def test_every_state_fits_its_column(kind: type[StrEnum], column: object) -> None:
    width = column.type.length  # type: ignore[attr-defined]  # all of these are String columns
    assert max(len(state) for state in kind) <= width


def test_an_item_that_waits_has_not_ended() -> None:
    assert set(ItemState) - ITEM_ENDS == {ItemState.PENDING, ItemState.BATCHED}
