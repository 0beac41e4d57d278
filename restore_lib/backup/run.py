"""The backup flow: plan → begin → jobs → commit; each step may run twice."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection

from restore_lib.backup.job import JobRun, changes_in, geometry_of
from restore_lib.backup.pack import Share, shares
from restore_lib.backup.select import Kind
from restore_lib.catalog import audit, recovery_points
from restore_lib.catalog.recovery_points import Job, RecoveryPoint
from restore_lib.errors import EndOfData, MediumError, Refused, VolumeAbsent, VolumeFull
from restore_lib.model.objects import StoredObject
from restore_lib.model.progress import Progress, Silent
from restore_lib.model.states import JobState, RecoveryPointState
from restore_lib.site import Site

_SPOILED_SETS = 3


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
    geometry = geometry_of(site, policy_name)
    progress = progress or Silent()
    progress.stage("comparing the store with the catalog")
    counts = dict.fromkeys(Kind, 0)
    size = 0

    def selected() -> Iterator[StoredObject]:
        nonlocal size
        for change in changes_in(site, policy.store, None, None):
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
        recovery_points.lock_store(connection, plan.store)
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
    site: Site, job_id: int, actor: str, progress: Progress | None = None, *, drives: int = 1
) -> Mapping[str, Any]:
    """Back up a job's share of the store; a job that is done returns its summary at once.

    It writes up to ``drives`` volumes at once; of jobs that run side by side, each needs its own.
    Killed at any instant and run again, it goes on behind the last committed stripe. A volume that
    fails while it is written is set aside: a blank one takes its place, or where its set holds data
    already, that set is closed as committed and another one takes over. An object that can't be
    read is named in the summary, and its older version stays live.
    """
    with site.catalog.read() as connection:
        job = recovery_points.job(connection, job_id)
        point = recovery_points.recovery_point(connection, job.rp_id)
    if job.state is JobState.DONE:
        return job.summary
    run = JobRun(site, job, point, actor, progress or Silent(), drives)
    for _ in range(_SPOILED_SETS - 1):
        with contextlib.suppress(MediumError, VolumeAbsent, EndOfData, VolumeFull):
            return run.run()
    return run.run()


def commit_backup(site: Site, rp_id: int, actor: str) -> RecoveryPoint:
    """Make the recovery point appear once all its jobs are done; Refused before."""
    with site.catalog.write() as connection:
        point = recovery_points.recovery_point(connection, rp_id)
        if point.state is not RecoveryPointState.OPEN:
            return point
        jobs = recovery_points.jobs_of(connection, rp_id)
        waiting = [job.id for job in jobs if job.state is not JobState.DONE]
        if waiting:
            raise Refused(
                f"Recovery point {rp_id} has jobs that are not done: {waiting}.",
                remedy=f"run `tapeflow backup run {point.policy}`; it goes on where it was",
            )
        objects, size = recovery_points.counts_at(connection, point.store, rp_id)
        added, added_size, gone = recovery_points.changed_in(connection, rp_id)
        summary = _summary(connection, jobs, rp_id) | {
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


def _open_point(connection: Connection, store: str) -> RecoveryPoint | None:
    left = recovery_points.recovery_points_of(connection, store, RecoveryPointState.OPEN)
    return left[0] if left else None


def _summary(connection: Connection, jobs: list[Job], rp_id: int) -> dict[str, Any]:
    unreadable: dict[str, str] = {}
    for job in jobs:
        unreadable |= job.summary.get("unreadable", {})
    return {
        "tape_sets": recovery_points.sets_written(connection, rp_id),
        "unreadable_objects": sum(job.summary.get("unreadable_objects", 0) for job in jobs),
        "unreadable": unreadable,
    }
