"""What a restore has to do, as its simulation takes it: jobs, and where their volumes are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

HERE = ""
"""The place of a volume that can be mounted; any other place is the name of a vault."""


@dataclass(frozen=True, slots=True)
class Job:
    """One batch: the volumes that it mounts, one after the other; ``size`` is in bytes.

    ``rebuilds`` when parity stands in for a volume. A batch with no volumes copies objects from
    another store. ``count`` batches of one kind may stand together for a faster simulation.
    """

    volumes: tuple[str, ...]
    objects: int
    size: int
    rebuilds: bool = False
    count: int = 1


@dataclass(frozen=True, slots=True)
class TapeSet:
    """The volumes of a tape set that can be read, and how many of them rebuild another one."""

    k: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Coming:
    """A shipment that was asked for ``ago`` seconds before the simulation begins."""

    vault: str
    volumes: tuple[str, ...]
    ago: float
    redundancy: bool = False
    round: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """Jobs to end, the place of each volume that matters, and the sets that can rebuild some.

    ``places`` tells HERE or a vault; volumes of ``coming`` are on their way whatever it says.
    ``starts`` is the second of the day (UTC) at which the simulation begins. ``objects`` counts
    what has still to be planned. ``weights`` tells for how many cartridges one name stands.
    """

    jobs: Sequence[Job]
    places: Mapping[str, str] = field(default_factory=dict)
    sets: Mapping[str, TapeSet] = field(default_factory=dict)
    coming: Sequence[Coming] = ()
    starts: float = 0.0
    objects: int = 0
    weights: Mapping[str, int] = field(default_factory=dict)

    def condensed(self, limit: int) -> "Work":
        """Return work of about ``limit`` jobs at most that takes as long.

        Jobs that read one volume each, from one place, are put together by equal numbers: they take
        one drive for the sum of their times, their volumes travel together and share their faults.
        What that distorts is the wait for the first mounts, and the last ones. Jobs of the same
        volume, of several volumes and of shipments on their way stay as they are.
        """
        size = -(-len(self.jobs) // limit)
        if size < 2:
            return self
        alone = self._alone()
        groups: dict[str, list[Job]] = {}
        jobs: list[Job] = []
        for job in self.jobs:
            if len(job.volumes) == 1 and job.volumes[0] in alone and not job.rebuilds:
                groups.setdefault(self.places.get(job.volumes[0], HERE), []).append(job)
            else:
                jobs.append(job)
        weights = dict(self.weights)
        for group in groups.values():
            for begin in range(0, len(group), size):
                part = group[begin : begin + size]
                name = part[0].volumes
                weights[name[0]] = len(part)
                jobs.append(
                    Job(
                        name,
                        sum(job.objects for job in part),
                        sum(job.size for job in part),
                        count=len(part),
                    )
                )
        return Work(jobs, self.places, self.sets, self.coming, self.starts, self.objects, weights)

    def _alone(self) -> set[str]:
        """Return the volumes that one job reads, and no other."""
        seen: dict[str, int] = {}
        for job in self.jobs:
            for barcode in job.volumes:
                seen[barcode] = seen.get(barcode, 0) + 1
        travelling = {barcode for shipment in self.coming for barcode in shipment.volumes}
        return {barcode for barcode, times in seen.items() if times == 1} - travelling
