"""How long a restore takes: P50 and P95 of the end and of each stage, from many simulated ones."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from restore_lib.restore.plant import Plant
from restore_lib.restore.simulate import Outcome, Setting, simulate
from restore_lib.restore.spans import Stage
from restore_lib.restore.work import Work
from restore_lib.workers import Workers

RUNS = 100
JOBS = 3000
"""As many jobs are simulated one by one; more are put together, see ``Work.condensed``."""

_MUCH = 1000
"""For as many jobs it pays to begin a process."""


@dataclass(frozen=True, slots=True)
class Quantiles:
    """What is met in half of the runs, and in 95 of 100; in seconds."""

    p50: float
    p95: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Quantiles":
        """Return the quantiles of at least one value, each interpolated between its neighbours."""
        ordered = sorted(values)
        return cls(_quantile(ordered, 0.5), _quantile(ordered, 0.95))


@dataclass(frozen=True, slots=True)
class StageForecast:
    """For how long a stage goes on, pauses not counted, and when it has ended."""

    seconds: Quantiles
    ends: Quantiles


@dataclass(frozen=True, slots=True)
class Forecast:
    """When a restore has ended, from ``runs`` simulated ones, and how its stages go.

    ``crowding`` is the median of how much longer batches take than undisturbed ones.
    """

    seconds: Quantiles
    stages: dict[str, StageForecast]
    crowding: float
    runs: int

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it; durations in seconds from the begin."""
        return asdict(self)


class Runs:
    """Simulations of one restore, to be had in parts: also from a process of their own."""

    def __init__(self, work: Work, plant: Plant) -> None:
        """Raise Refused as ``Setting`` does."""
        self._setting = Setting(work.condensed(JOBS), plant)

    def outcomes(self, seeds: range) -> list[Outcome]:
        """Return how the runs of these seeds went, in their order."""
        return [simulate(self._setting, seed) for seed in seeds]


def estimate(work: Work, plant: Plant, *, runs: int = RUNS, seed: int = 0) -> Forecast:
    """Return the forecast of a restore; the same seed gives the same one.

    Raises Refused as ``Setting`` does.
    """
    return _forecast(Runs(work, plant).outcomes(range(seed * runs, (seed + 1) * runs)))


def estimate_by_two(work: Work, plant: Plant) -> Forecast:
    """Return what ``estimate`` does; of much work, another process simulates one half.

    Raises RetryLater where that process dies.
    """
    if len(work.jobs) < _MUCH:
        return estimate(work, plant)
    own = Runs(work, plant)
    with Workers(1, Runs, work, plant) as other:
        rest = other.submit("outcomes", range(RUNS // 2, RUNS))
        return _forecast(own.outcomes(range(RUNS // 2)) + rest.result())


def _forecast(outcomes: Sequence[Outcome]) -> Forecast:
    return Forecast(
        Quantiles.of([outcome.seconds for outcome in outcomes]),
        {str(stage): _stage(outcomes, stage) for stage in Stage},
        Quantiles.of([outcome.crowding for outcome in outcomes]).p50,
        len(outcomes),
    )


def _stage(outcomes: Sequence[Outcome], stage: Stage) -> StageForecast:
    spans = [outcome.stages[stage] for outcome in outcomes]
    return StageForecast(
        Quantiles.of([span.seconds for span in spans]), Quantiles.of([span.ends for span in spans])
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
