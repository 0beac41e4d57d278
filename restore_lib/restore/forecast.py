"""How long a restore takes: P50 and P95 of the end and of each stage, from many simulated ones."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, Self

from restore_lib.errors import RetryLater
from restore_lib.restore.plant import Plant
from restore_lib.restore.simulate import Outcome, Setting, simulate
from restore_lib.restore.spans import Stage
from restore_lib.restore.work import Work
from restore_lib.workers import Workers

RUNS = 100
JOBS = 3000
"""As many jobs are simulated one by one; more are put together, see ``Work.condensed``."""

MANY = 50_000
"""For a plan of as many objects it pays to have something done beside it."""


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


class Simulator:
    """Simulates restores, also in a process of its own."""

    def outcomes(self, work: Work, plant: Plant, seeds: range) -> list[Outcome]:
        """Return how the runs of these seeds went; raises Refused as ``Setting`` does."""
        setting = Setting(work.condensed(JOBS), plant)
        return [simulate(setting, seed) for seed in seeds]


class Forecaster:
    """Makes forecasts beside other work; a context manager, whose end ends what is under way.

    For many objects, a process of its own simulates one half of the runs. It is begun at once, so
    that it is ready by the time that there is something to simulate.
    """

    def __init__(self, objects: int) -> None:
        self._held = ExitStack()
        thread = ThreadPoolExecutor(1, thread_name_prefix="forecast")
        self._thread = self._held.enter_context(thread)
        self._other: Workers | None = None
        if objects >= MANY:
            self._other = self._held.enter_context(Workers(1, Simulator))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def begin(self, work: Work, plant: Plant) -> Future[Forecast]:
        """Begin what ``estimate`` does."""
        return self._thread.submit(self._estimate, work, plant)

    def _estimate(self, work: Work, plant: Plant) -> Forecast:
        if self._other is None:
            return estimate(work, plant)
        half, rest = range(RUNS // 2), range(RUNS // 2, RUNS)
        beside = self._other.submit("outcomes", work, plant, rest)
        outcomes = Simulator().outcomes(work, plant, half)
        try:
            return _forecast(outcomes + beside.result())
        except RetryLater:  # the process has died, and is not needed
            return _forecast(outcomes + Simulator().outcomes(work, plant, rest))


def estimate(work: Work, plant: Plant, *, runs: int = RUNS, seed: int = 0) -> Forecast:
    """Return the forecast of a restore; the same seed gives the same one.

    Raises Refused as ``Setting`` does.
    """
    return _forecast(Simulator().outcomes(work, plant, range(seed * runs, (seed + 1) * runs)))


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
