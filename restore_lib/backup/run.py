"""The backup flow: plan → begin → jobs → commit; each step may run twice."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from restore_lib.backup.load import Load, Writer
from restore_lib.backup.pack import Geometry, Share, pieces, shares, weight
from restore_lib.backup.select import Change, Kind, changes
from restore_lib.backup.stage import Pieces, Selected, Sources, Stager
from restore_lib.catalog import audit, recovery_points, tape_sets
from restore_lib.catalog.recovery_points import Job, RecoveryPoint
from restore_lib.catalog.tape_sets import TapeSet
from restore_lib.catalog.volumes import volumes
from restore_lib.errors import DiskFull, MediumError, Refused, VolumeFull
from restore_lib.model.objects import StoredObject, display_key
from restore_lib.model.progress import Progress, Silent
from restore_lib.model.states import JobState, RecoveryPointState
from restore_lib.model.volume import Health
from restore_lib.site import Site

_SPOILED_SETS = 3
_NAMED = 1000


@dataclass(frozen=True, slots=True)
class BackupPlan:
    """What a backup would write: counts and bytes by kind of change, and its jobs' shares."""

    policy: str
    store: str
    since: int | None
    counts: Mapping[str, int]
    size: int
    jobs: tuple[Share, ...]
    tape_sets: int
    volumes: int

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON can hold it."""
        return asdict(self) | {
            "jobs": [{"objects": job.objects, "bytes": job.size} for job in self.jobs]
        }


def plan_backup(site: Site, policy_name: str, progress: Progress | None = None) -> BackupPlan:
    """Compare the store with the catalog and say what a backup would write; writes nothing."""
    policy = site.policy(policy_name)
    geometry = _geometry(site, policy_name)
    progress = progress or Silent()
    progress.stage("comparing the store with the catalog")
    counts = dict.fromkeys(Kind, 0)
    size = 0

    def selected() -> Iterator[StoredObject]:
        nonlocal size
        for change in _changes(site, policy.store, None, None):
            counts[change.kind] += 1
            progress.advance(objects=1)
            if change.to_back_up is not None:
                size += change.to_back_up.size
                yield change.to_back_up

    planned = tuple(shares(selected(), geometry.set_size))
    touched = sum(counts[kind] for kind in (Kind.NEW, Kind.CHANGED, Kind.GONE))
    writing = sum(1 for share in planned if share.objects)
    with site.catalog.read() as connection:
        newest = recovery_points.newest_committed(connection, policy.store)
    return BackupPlan(
        policy_name,
        policy.store,
        newest.id if newest else None,
        {str(kind): count for kind, count in counts.items()},
        size,
        planned if touched else (),
        writing,
        writing * (policy.k + policy.m),
    )


def begin_backup(
    site: Site, policy_name: str, actor: str, progress: Progress | None = None
) -> RecoveryPoint:
    """Open a recovery point with its jobs, or return the one that an earlier run left open."""
    with site.catalog.read() as connection:
        left = _open_point(connection, site.policy(policy_name).store)
    if left is not None:
        return left
    plan = plan_backup(site, policy_name, progress)
    with site.catalog.write() as connection:
        if (left := _open_point(connection, plan.store)) is not None:
            return left
        at = site.clock.now()
        rp_id = recovery_points.begin_recovery_point(connection, policy_name, plan.store, at)
        recovery_points.add_jobs(
            connection, rp_id, [(s.after, s.until, s.objects, s.size) for s in plan.jobs]
        )
        audit.record(
            connection,
            at=at,
            actor=actor,
            action="backup.begin",
            subject=f"recovery point {rp_id}",
            detail={"policy": policy_name, "counts": dict(plan.counts), "bytes": plan.size},
        )
        return recovery_points.recovery_point(connection, rp_id)


def job_ids(site: Site, rp_id: int) -> list[int]:
    """Return the ids of a recovery point's jobs."""
    with site.catalog.read() as connection:
        return [job.id for job in recovery_points.jobs_of(connection, rp_id)]


def run_job(
    site: Site, job_id: int, actor: str, progress: Progress | None = None
) -> Mapping[str, Any]:
    """Back up a job's share of the store; a job that is done returns its summary at once.

    Killed at any instant and run again, it goes on behind the last committed stripe. A volume that
    fails while it is written closes its set as committed, and another set takes over.
    """
    with site.catalog.read() as connection:
        job = recovery_points.job(connection, job_id)
        point = recovery_points.recovery_point(connection, job.rp_id)
    if job.state is JobState.DONE:
        return job.summary
    run = _JobRun(site, job, point, actor, progress or Silent())
    for attempt in range(1, _SPOILED_SETS + 1):
        try:
            return run.run()
        except (MediumError, VolumeFull) as error:
            if attempt == _SPOILED_SETS or not run.give_up_sets(error):
                raise
    raise AssertionError


def commit_backup(site: Site, rp_id: int, actor: str) -> RecoveryPoint:
    """Make the recovery point appear once all its jobs are done; Refused before."""
    with site.catalog.write() as connection:
        point = recovery_points.recovery_point(connection, rp_id)
        if point.state is RecoveryPointState.COMMITTED:
            return point
        jobs = recovery_points.jobs_of(connection, rp_id)
        waiting = [job.id for job in jobs if job.state is not JobState.DONE]
        if waiting:
            raise Refused(
                f"Recovery point {rp_id} has jobs that are not done: {waiting}.",
                remedy="run `tapeflow backup` again; it goes on where it was",
            )
        objects, size = recovery_points.counts_at(connection, point.store, rp_id)
        added, added_size, gone = recovery_points.changed_in(connection, rp_id)
        summary = _summary(jobs) | {
            "backed_up": added,
            "bytes_backed_up": added_size,
            "gone": gone,
            "objects": objects,
            "bytes": size,
        }
        at = site.clock.now()
        recovery_points.commit_recovery_point(connection, rp_id, at, summary)
        audit.record(
            connection,
            at=at,
            actor=actor,
            action="backup.commit",
            subject=f"recovery point {rp_id}",
            detail={key: value for key, value in summary.items() if key != "unreadable"},
        )
        return recovery_points.recovery_point(connection, rp_id)


def _open_point(connection: Any, store: str) -> RecoveryPoint | None:
    left = recovery_points.recovery_points_of(connection, store, RecoveryPointState.OPEN)
    return left[0] if left else None


def _geometry(site: Site, policy_name: str) -> Geometry:
    recipients = len(site.recipients.names)
    return Geometry.of(site.policy(policy_name), site.config.library.capacity, recipients)


def _changes(site: Site, store: str, after: bytes | None, until: bytes | None) -> Iterator[Change]:
    with site.catalog.read() as connection:
        known = recovery_points.live_versions(connection, store, after, until)
        yield from changes(site.store(store).list(after=after, until=until), known)


def _summary(jobs: list[Job]) -> dict[str, Any]:
    sets: set[str] = set()
    unreadable: dict[str, str] = {}
    for job in jobs:
        sets.update(job.summary.get("tape_sets", []))
        unreadable |= job.summary.get("unreadable", {})
    return {"tape_sets": sorted(sets), "unreadable": unreadable}


class _JobRun:
    """One run of a job; what it has committed, a later run finds in the catalog."""

    def __init__(
        self, site: Site, job: Job, point: RecoveryPoint, actor: str, progress: Progress
    ) -> None:
        self._site = site
        self._job = job
        self._point = point
        self._policy = site.policy(point.policy)
        self._geometry = _geometry(site, point.policy)
        self._writer = Writer(site, actor)
        self._progress = progress
        self._gone: list[int] = []
        self._count = {"backed_up": 0, "bytes_backed_up": 0}
        self._sets: list[str] = []

    def run(self) -> Mapping[str, Any]:
        """Select, stage, write and commit until nothing of the share is left."""
        self._gone.clear()
        self._progress.stage("backing up", self._job.objects, self._job.size)
        sources = Sources(self._site.store(self._point.store))
        parent = self._site.staging / "backup"
        for stale in parent.glob(f"job-{self._job.id}-*"):
            shutil.rmtree(stale, ignore_errors=True)
        parent.mkdir(exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"job-{self._job.id}-", dir=parent))
        try:
            self._drain(Pieces(self._selected()), sources, folder)
        finally:
            sources.close()
            shutil.rmtree(folder, ignore_errors=True)
        return self._finish(sources)

    def _drain(self, work: Pieces, sources: Sources, folder: Path) -> None:
        started: dict[bytes, int] = {}
        target = self._geometry.target(weight(self._job.objects, self._job.size))
        stager = Stager(
            folder,
            self._point.store,
            self._geometry,
            self._site.recipients,
            sources,
            self._progress,
        )
        while work.next is not None:
            tape_set, used = self._take_set()
            self._check_room(folder)
            staged = stager.stage(work, first=tape_set.stripes + 1, used=used, target=target)
            if not staged and not work.next:
                break
            full = work.next is not None
            self._write(Load(tape_set, staged, full or not self._policy.keep_open, folder), started)
        self._end_sets(folder)

    def _write(self, load: Load, started: dict[bytes, int]) -> None:
        self._writer.write(load)
        self._writer.commit(load, self._point.id, self._point.store, started)
        self._account(load)
        for file in load.folder.iterdir():
            file.unlink()

    def _end_sets(self, folder: Path) -> None:
        """Close, or leave to later backups, the sets that the job still holds."""
        with self._site.catalog.write() as connection:
            held = tape_sets.sets_of_job(connection, self._job.id)
            for tape_set in held:
                if self._policy.keep_open or not tape_set.stripes:
                    tape_sets.release_set(connection, tape_set.id)
        for tape_set in held:
            if tape_set.stripes and not self._policy.keep_open:
                self._write(Load(tape_set, (), True, folder), {})

    def _selected(self) -> Iterator[Selected]:
        for change in _changes(self._site, self._point.store, self._job.after, self._job.until):
            if change.kind is Kind.GONE and change.known is not None:
                self._gone.append(change.known.id)
            elif (source := change.to_back_up) is not None:
                replaces = change.known.id if change.known else None
                for piece in pieces(source, self._geometry.part_size):
                    yield Selected(piece, replaces)

    def _take_set(self) -> tuple[TapeSet, int]:
        """Return the set to write to, and the bytes that its fullest volume holds already."""
        geometry, at = self._geometry, self._site.clock.now()
        with self._site.catalog.write() as connection:
            held = tape_sets.sets_of_job(connection, self._job.id)
            shape = (geometry.k, geometry.m, geometry.block_size)
            tape_set = (
                held[0]
                if held
                else tape_sets.claim_open_set(connection, self._point.policy, self._job.id, shape)
            ) or tape_sets.create_set(
                connection,
                policy=self._point.policy,
                k=geometry.k,
                m=geometry.m,
                block_size=geometry.block_size,
                recipients=self._site.recipients.names,
                job_id=self._job.id,
                at=at,
            )
            files = tape_sets.files_of_set(connection, tape_set.id)
        used = dict.fromkeys(tape_set.barcodes, 0)
        for file in files:
            used[file.barcode] += file.blocks * tape_set.block_size
        return tape_set, max(used.values())

    def _check_room(self, folder: Path) -> None:
        geometry = self._geometry
        wanted = min(self._job.size * 2, geometry.segment_size * geometry.k)
        wanted += self._site.config.staging.reserve
        free = shutil.disk_usage(folder).free
        if free < wanted:
            raise DiskFull(
                f"The staging disk {self._site.staging} has {free:,} bytes free; a stripe needs "
                f"{wanted:,}."
            )

    def _account(self, load: Load) -> None:
        for stripe in load.staged:
            ended = [extent for extent in stripe.extents if extent.part == extent.parts]
            self._count["backed_up"] += len(ended)
            self._count["bytes_backed_up"] += sum(extent.size for extent in stripe.extents)
        self._sets.append(load.tape_set.id)

    def _finish(self, sources: Sources) -> Mapping[str, Any]:
        named = sorted(sources.failures.items())[:_NAMED]
        summary = self._count | {
            "gone": len(self._gone),
            "tape_sets": sorted(set(self._sets)),
            "unreadable": {display_key(key): why for key, why in named},
        }
        with self._site.catalog.write() as connection:
            recovery_points.mark_gone(connection, self._gone, self._point.id)
            recovery_points.end_job(connection, self._job.id, summary)
        return summary

    def give_up_sets(self, error: MediumError | VolumeFull) -> bool:
        """Make room for another try; False when a blank set was too small, so no other helps.

        A set with data on it is closed as committed. In one without, blank volumes take the places
        of the suspect ones.
        """
        with self._site.catalog.write() as connection:
            for held in tape_sets.sets_of_job(connection, self._job.id):
                if held.stripes:
                    self._writer.close(connection, held)
                elif isinstance(error, VolumeFull):
                    return False
                else:
                    suspect = volumes(connection, held.barcodes, health=[Health.SUSPECT])
                    tape_sets.replace_volumes(
                        connection, held.id, [volume.barcode for volume in suspect]
                    )
        return True
