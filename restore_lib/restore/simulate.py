"""One whole restore on a simulated clock: trucks, rest, doors, robots, drives, store, faults.

A run draws its truth from the plant's priors by its seed, then lets the restore happen once.
Robots, doors and the store serve who comes first, so their queues are kept as the time at which
they are free again; drives, trucks and repairs are processes of SimPy.
"""

import heapq
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from random import Random

import simpy

from restore_lib.errors import Refused
from restore_lib.restore.plant import Plant
from restore_lib.restore.road import Road, Steps
from restore_lib.restore.spans import Span, Stage
from restore_lib.restore.work import HERE, Job, TapeSet, Work


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one simulated restore went; times in seconds from its begin.

    Each job ended once: ``ended`` were restored, and ``lost`` were beyond what parity rebuilds, or
    were tried as often as the plant's rounds allow.
    Batches held drives for ``held`` seconds, and would have for ``undisturbed`` ones had they not
    waited for robots and the store.
    """

    seconds: float
    stages: Mapping[Stage, Span]
    ended: int
    lost: int
    omitted: int
    bad: int
    held: float
    undisturbed: float

    @property
    def crowding(self) -> float:
        """How long batches took in proportion to undisturbed ones."""
        return self.held / self.undisturbed if self.undisturbed else 1.0


@dataclass(slots=True, eq=False)
class _Batch:
    job: Job
    seconds: float
    volumes: tuple[str, ...]
    rebuilds: bool
    missing: frozenset[str] = frozenset()
    queued: bool = False
    tries: int = 0


class Setting:
    """What is the same in every run of the same work on the same plant."""

    def __init__(self, work: Work, plant: Plant) -> None:
        """Refused where there are batches and no drive, or a volume is in an unknown vault."""
        if plant.drives < 1 and work.jobs:
            raise Refused(
                "No drive is there to read with, so a restore never ends.",
                remedy="set [library] drives to the drives that work",
            )
        self.work, self.plant = work, plant
        places = {*work.places.values(), *(shipment.vault for shipment in work.coming)}
        for vault in sorted(places - {HERE} - plant.vaults.keys()):
            raise Refused(
                f"Volumes are in vault {vault!r}, which the config does not define.",
                remedy=f"define [vaults.{vault}] again",
            )
        self.seconds = [
            plant.drive_seconds(len(job.volumes), job.objects, job.size)
            if job.count == 1
            else job.count * plant.drive_seconds(1, job.objects // job.count, job.size // job.count)
            for job in work.jobs
        ]
        self.set_of = {barcode: found for found in work.sets.values() for barcode in found.members}
        names = {*work.places, *self.set_of, *(b for job in work.jobs for b in job.volumes)}
        names.difference_update(b for shipment in work.coming for b in shipment.volumes)
        self.here = {name for name in names if work.places.get(name, HERE) == HERE}


def simulate(setting: Setting, seed: int) -> Outcome:
    """Let a restore happen once; the same seed gives the same outcome."""
    return _Restore(setting, seed).run()


class _Restore:
    def __init__(self, setting: Setting, seed: int) -> None:
        self._setting, self._plant = setting, setting.plant
        self._env = simpy.Environment()
        self._random = random = Random(seed)  # noqa: S311 - chance, not secrecy, and by a seed
        plant = self._plant
        self._reading = plant.reading.draw(random)
        self._move = plant.times.move * plant.moving.draw(random)
        rate, publishing = plant.store_rate, plant.publishing.draw(random)
        self._store_seconds = publishing / rate if rate else 0.0
        self._bad = plant.bad.draw(random)
        self._dies = plant.dies.draw(random)
        self._robots = [0.0] * plant.robots
        self._store_free = 0.0
        self._staging = plant.staging
        self._ready: deque[_Batch] = deque()
        self._idle: list[simpy.Event] = []
        self._for_staging: deque[_Batch] = deque()
        self._mounted: dict[str, list[_Batch]] = {}
        self._waiting: dict[str, list[_Batch]] = {}
        self._health: dict[str, bool] = {}
        self._gone: set[str] = set()
        self._spans = {stage: Span() for stage in Stage}
        self._road = Road(self._env, random, setting.work, plant, self._spans, setting.here)
        self._road.arrive, self._road.give_up = self._arrive, self._give_up
        self._left = len(setting.work.jobs)
        self._lost = 0
        self._held = self._undisturbed = 0.0
        self._over = self._env.event()

    def run(self) -> Outcome:
        self._env.process(self._begin())
        self._env.run(until=self._over)
        return Outcome(
            self._env.now,
            self._spans,
            len(self._setting.work.jobs) - self._lost,
            self._lost,
            self._road.omissions,
            sum(self._health.values()),
            self._held,
            self._undisturbed,
        )

    def _begin(self) -> Steps:
        work = self._setting.work
        self._spans[Stage.PLAN].begin(self._env.now)
        yield self._env.timeout(work.objects / self._plant.objects_per_second)
        self._spans[Stage.PLAN].end(self._env.now)
        for job, seconds in zip(work.jobs, self._setting.seconds, strict=True):
            self._await(_Batch(job, seconds, job.volumes, job.rebuilds))
        self._road.begin()
        wanted = {barcode: job.rebuilds for job in work.jobs for barcode in job.volumes}
        for redundancy in (False, True):
            those = (barcode for barcode, late in wanted.items() if late is redundancy)
            self._road.recall(those, redundancy=redundancy)
        for _ in range(min(self._plant.drives, len(work.jobs))):
            self._env.process(self._drive())
        if not self._left:
            self._over.succeed()

    def _arrive(self, barcode: str) -> None:
        for batch in self._waiting.pop(barcode, ()):
            batch.missing -= {barcode}
            if not batch.missing:
                self._queue(batch)

    def _give_up(self, barcodes: Collection[str]) -> None:
        self._gone.update(barcodes)
        for barcode in barcodes:
            for batch in self._waiting.pop(barcode, ()):
                if barcode in batch.missing and not self._rebuild(batch):
                    self._lose(batch)

    def _await(self, batch: _Batch) -> None:
        batch.queued = False
        batch.missing = frozenset(batch.volumes) - self._road.here
        for barcode in batch.missing:
            self._waiting.setdefault(barcode, []).append(batch)
        if not batch.missing:
            self._queue(batch)

    def _queue(self, batch: _Batch) -> None:
        if batch.queued:
            return
        batch.queued = True
        self._ready.append(batch)
        if self._idle:
            self._idle.pop().succeed()

    def _rebuild(self, batch: _Batch) -> bool:
        """Let k others stand in for the volumes that are gone; False: too few are left."""
        wanted: dict[str, None] = {}
        for barcode in batch.volumes:
            if barcode not in self._gone:
                wanted[barcode] = None
                continue
            survivors = self._survivors(self._setting.set_of.get(barcode))
            if not survivors:
                return False
            wanted.update(dict.fromkeys(survivors))
        batch.volumes, batch.rebuilds = tuple(wanted), True
        job = batch.job
        batch.seconds = self._plant.drive_seconds(len(wanted), job.objects, job.size)
        self._road.recall(wanted, redundancy=True)
        self._await(batch)
        return True

    def _survivors(self, found: TapeSet | None) -> list[str]:
        if found is None:
            return []
        left = [barcode for barcode in found.members if barcode not in self._gone]
        left.sort(
            key=lambda barcode: (barcode not in self._road.here, barcode not in self._road.asked)
        )
        return left[: found.k] if len(left) >= found.k else []

    def _drive(self) -> Steps:
        env = self._env
        while True:
            while not self._ready:
                wake = env.event()
                self._idle.append(wake)
                yield wake
            batch = self._ready.popleft()
            if not self._take(batch):
                continue
            span = self._spans[Stage.REDUNDANCY if batch.rebuilds else Stage.READ]
            span.begin(env.now)
            seconds, fault = self._course(batch)
            died = fault is not None and not self._health[fault]
            yield env.timeout(seconds)
            span.end(env.now)
            waiting = self._release(batch)
            self._settle(batch, fault, died=died)
            for other in waiting:
                self._await(other)
            if died:
                yield env.timeout(self._plant.repair)

    def _course(self, batch: _Batch) -> tuple[float, str | None]:
        """Return how long a batch holds its drive, and the volume that ends it before its end."""
        now, random = self._env.now, self._random
        noise = self._plant.mount_noise
        seconds = batch.seconds * self._reading
        if noise:
            seconds *= 1 + noise * random.uniform(-1.7, 1.7)
        mounted, moves = now, 0.0
        if batch.volumes:
            moves = 2 * max(len(batch.volumes), batch.job.count) * self._move
            mounted = max(self._robots[0], now) + moves
            heapq.heapreplace(self._robots, mounted)
        end = mounted + seconds
        if (fault := self._fault(batch)) is not None:
            return end - now - seconds * random.random(), fault
        if self._store_seconds:
            free = max(self._store_free, mounted) + batch.job.size * self._store_seconds
            self._store_free = free
            end = max(end, free)
        if batch.volumes:
            self._held += end - now
            self._undisturbed += seconds + moves
        return end - now, None

    def _fault(self, batch: _Batch) -> str | None:
        count = batch.job.count
        for barcode in batch.volumes:
            if barcode not in self._health:
                bad = self._bad if count == 1 else 1 - (1 - self._bad) ** count
                self._health[barcode] = self._random.random() < bad
            if self._health[barcode]:
                return barcode
        mounts = len(batch.volumes) * count
        if mounts and self._random.random() < 1 - (1 - self._dies) ** mounts:
            return batch.volumes[0]
        return None

    def _take(self, batch: _Batch) -> bool:
        """Claim what a batch needs beside a drive; False: it waits for that."""
        if len(batch.volumes) != 1:
            if self._staging is not None and batch.volumes:
                if batch.job.size > self._staging and self._staging != self._plant.staging:
                    self._for_staging.append(batch)
                    return False
                self._staging -= batch.job.size
            return True
        [barcode] = batch.volumes
        if barcode in self._mounted:
            self._mounted[barcode].append(batch)
            return False
        self._mounted[barcode] = []
        return True

    def _release(self, batch: _Batch) -> list[_Batch]:
        """Give back what a batch had claimed, and return those that waited for it."""
        if len(batch.volumes) == 1:
            return self._mounted.pop(batch.volumes[0])
        waiting: list[_Batch] = []
        if self._staging is not None and batch.volumes:
            self._staging += batch.job.size
            waiting = list(self._for_staging)
            self._for_staging.clear()
        return waiting

    def _settle(self, batch: _Batch, fault: str | None, *, died: bool) -> None:
        if fault is None:
            self._end()
            return
        self._gone.add(fault)
        if died:
            self._road.here.discard(fault)
            self._env.process(self._free_from_drive(fault))
        if (count := batch.job.count) > 1:  # the others that it stands for were read
            job = batch.job
            batch.job = Job(job.volumes, job.objects // count, job.size // count)
        batch.tries += 1
        tired = batch.tries >= self._plant.rounds
        if not tired and self._rebuild(batch):
            return
        if tired or not died:
            self._lose(batch)
        else:
            self._await(batch)

    def _free_from_drive(self, barcode: str) -> Steps:
        yield self._env.timeout(self._plant.repair)
        self._gone.discard(barcode)
        self._road.here.add(barcode)
        self._arrive(barcode)

    def _lose(self, batch: _Batch) -> None:
        """End a batch for good, also where it is still listed as waiting."""
        batch.missing = frozenset()
        batch.queued = True
        self._end(lost=True)

    def _end(self, *, lost: bool = False) -> None:
        self._lost += lost
        self._left -= 1
        publish = self._spans[Stage.PUBLISH]
        if not lost:
            if not publish.ends:
                publish.begin(self._env.now)
            publish.ends = self._env.now
        if not self._left:
            if publish.ends:
                publish.end(publish.ends)
            self._over.succeed()
