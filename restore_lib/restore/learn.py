"""What a restore that runs has shown so far, and the plant as it is known then."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from restore_lib.catalog.reporting import BatchRow, ShipmentRow, VolumeMarks
from restore_lib.model.states import BatchState
from restore_lib.restore.plant import HOUR, Plant, VaultTimes


@dataclass(frozen=True, slots=True)
class Ratio:
    """``count`` durations that were together ``ratio`` times as long as their model says."""

    ratio: float = 1.0
    count: int = 0

    @classmethod
    def of(cls, pairs: Sequence[tuple[float, float]]) -> "Ratio":
        """Return the ratio of actual to modelled seconds; of nothing, where no model has any."""
        modelled = sum(model for _, model in pairs)
        return cls(sum(actual for actual, _ in pairs) / modelled, len(pairs)) if modelled else cls()


@dataclass(frozen=True, slots=True)
class Seen:
    """What has been seen; volumes are counted as (with the fault, without it)."""

    batches: Ratio = Ratio()
    shipments: Ratio = Ratio()
    bad: tuple[float, float] = (0, 0)
    omitted: tuple[float, float] = (0, 0)
    omitted_again: tuple[float, float] = (0, 0)

    def at_most(self, durations: int, omissions: int, read: int) -> "Seen":
        """Return the same ratios and shares, with no more cases behind each of them."""
        return Seen(
            replace(self.batches, count=min(self.batches.count, durations)),
            replace(self.shipments, count=min(self.shipments.count, durations)),
            _at_most(self.bad, read),
            _at_most(self.omitted, omissions),
            _at_most(self.omitted_again, omissions),
        )


def learned(plant: Plant, seen: Seen) -> Plant:
    """Return the plant with its priors narrowed by what was seen.

    Rates move to the weighted geometric mean of prior and observation, and shares of faults are
    Beta distributions to which the cases are added. What was not observed stays as it was.
    """
    return replace(
        plant,
        reading=plant.reading.seen(seen.batches.ratio, seen.batches.count),
        driving=plant.driving.seen(seen.shipments.ratio, seen.shipments.count),
        bad=plant.bad.seen(*seen.bad),
        omitted=plant.omitted.seen(*seen.omitted),
        omitted_again=plant.omitted_again.seen(*seen.omitted_again),
    )


def seen_in(
    plant: Plant,
    crowding: float,
    batches: Sequence[BatchRow],
    shipments: Sequence[ShipmentRow],
    marks: VolumeMarks,
) -> Seen:
    """Return what the rows of one request show, held against the times of ``plant``.

    ``crowding`` is how much longer batches take by the forecast, since they wait for robots and the
    store: so that this wait is not taken for slow drives.
    """
    done = [batch for batch in batches if batch.state is BatchState.DONE and batch.volumes]
    read = {barcode for batch in done for barcode in batch.volumes}
    bad = len(marks.suspect | marks.broken)
    arrived = [row for row in shipments if row.arrived_at is not None]
    return Seen(
        Ratio.of([_took(plant, crowding, batch) for batch in done if batch.started_at]),
        Ratio.of([_came(plant.vaults, row) for row in arrived if row.vault in plant.vaults]),
        (bad, len(read - marks.suspect - marks.broken)),
        _omissions([row for row in arrived if not row.round]),
        _omissions([row for row in arrived if row.round]),
    )


def _at_most(cases: tuple[float, float], count: int) -> tuple[float, float]:
    share = min(1.0, count / (sum(cases) or 1))
    return cases[0] * share, cases[1] * share


def _took(plant: Plant, crowding: float, batch: BatchRow) -> tuple[float, float]:
    assert batch.started_at is not None and batch.ended_at is not None  # noqa: S101, PT018 - it is done
    actual = (batch.ended_at - batch.started_at).total_seconds()
    modelled = plant.batch_seconds(len(batch.volumes), batch.objects, batch.size)
    return actual, modelled * crowding


def _came(vaults: Mapping[str, VaultTimes], row: ShipmentRow) -> tuple[float, float]:
    assert row.arrived_at is not None  # noqa: S101 - chosen by it
    vault = vaults[row.vault]
    picking = row.volumes / vault.picks_per_hour * HOUR
    midnight = row.created_at.replace(hour=0, minute=0, second=0, microsecond=0)
    asked = (row.created_at - midnight).total_seconds()
    modelled = picking + vault.wait(asked + picking) + vault.transit
    return (row.arrived_at - row.created_at).total_seconds(), modelled


def _omissions(rows: Sequence[ShipmentRow]) -> tuple[int, int]:
    omitted = sum(row.omitted for row in rows)
    return omitted, sum(row.volumes for row in rows) - omitted
