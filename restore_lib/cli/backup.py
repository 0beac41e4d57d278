"""`tapeflow backup`: objects to tape, and the recovery points that this makes."""

from itertools import islice
from typing import Annotated, Any

import typer

from restore_lib.backup.run import (
    BackupPlan,
    begin_backup,
    commit_backup,
    plan_backup,
    run_job,
)
from restore_lib.catalog import recovery_points, volumes
from restore_lib.catalog.recovery_points import RecoveryPoint
from restore_lib.cli.crew import Crew
from restore_lib.cli.output import EXIT_CODES, count_text, facts, size_text, table
from restore_lib.cli.session import DryRun, Json, Session, group, opened
from restore_lib.model.states import JobState
from restore_lib.model.verdict import Verdict

app = group("Back up a store, and see its recovery points.")
_NAMED = 20


@app.command()
def run(
    ctx: typer.Context,
    policy: Annotated[str, typer.Argument(help="The policy whose store is backed up.")],
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Back up what is new or changed since the last recovery point.

    Interrupted at any moment, the same command goes on behind what is committed. Exit code 3: the
    recovery point is made, but some objects could not be read; they are named.
    """
    with opened(ctx, as_json=as_json) as session:
        if dry_run:
            with session.board() as board:
                plan = plan_backup(session.site, policy, board.stages())
            session.show(plan.as_dict(), _plan_text(plan))
            return
        point = _back_up(session, policy)
        session.show(_as_dict(point), _point_text(point))
        for line in _not_backed_up(point):
            session.say(line)
        if unreadable := point.summary["unreadable_objects"]:
            session.say(f"{count_text(unreadable, 'object')} could not be read.")
            raise typer.Exit(EXIT_CODES[Verdict.PARTIAL])


@app.command("list")
def list_points(ctx: typer.Context, as_json: Json = False) -> None:
    """List the recovery points, newest first."""
    with opened(ctx, as_json=as_json) as session:
        with session.site.catalog.read() as connection:
            points = recovery_points.recovery_points_of(connection)
        session.show(
            {"recovery_points": [_as_dict(point) for point in points]},
            table(
                ("id", "policy", "store", "state", "started", "committed", "objects", "size"),
                (
                    (
                        point.id,
                        point.policy,
                        point.store,
                        point.state,
                        point.started_at,
                        point.committed_at,
                        point.summary.get("objects"),
                        size_text(point.summary.get("bytes", 0)),
                    )
                    for point in points
                ),
            ),
        )


@app.command()
def show(
    ctx: typer.Context,
    recovery_point: Annotated[
        int, typer.Argument(help="Its id, as `tapeflow backup list` has it.")
    ],
    as_json: Json = False,
) -> None:
    """Show one recovery point: what it holds, and on which volumes its own data lie."""
    with opened(ctx, as_json=as_json) as session:
        with session.site.catalog.read() as connection:
            point = recovery_points.recovery_point(connection, recovery_point)
            sets = recovery_points.sets_holding(connection, recovery_point)
            held = volumes.volumes(connection, tape_sets=sets)
        session.show(
            _as_dict(point) | {"volumes": held},
            _point_text(point),
            *_not_backed_up(point),
            "",
            table(
                ("tape set", "position", "volume", "health", "custody", "place"),
                ((v.tape_set, v.position, v.barcode, v.health, v.custody, v.place) for v in held),
            ),
        )


def _back_up(session: Session, policy: str) -> RecoveryPoint:
    site = session.site
    with session.board() as board:
        point = begin_backup(site, policy, session.actor, board.stages())
        with site.catalog.read() as connection:
            jobs = recovery_points.jobs_of(connection, point.id)
        todo = [job for job in jobs if job.state is not JobState.DONE]
        session.say(f"Recovery point {point.id}; jobs to do: {len(todo)}.")
        drives = max(1, site.config.library.drives // max(1, len(todo)))
        total = board.total(
            "backing up", sum(job.objects for job in todo), sum(job.size for job in todo)
        )
        try:
            Crew(site, session.say).run(
                [job.id for job in todo],
                lambda own, job_id, progress: run_job(
                    own, job_id, session.actor, progress, drives=drives
                ),
                total,
            )
        except KeyboardInterrupt:
            session.say(f"Interrupted; `tapeflow backup run {policy}` goes on where it was.")
            raise
    return commit_backup(site, point.id, session.actor)


def _plan_text(plan: BackupPlan) -> Any:
    return facts(
        {
            "policy": plan.policy,
            "store": plan.store,
            "since recovery point": plan.since,
            **plan.counts,
            "to write": size_text(plan.size),
            "jobs": len(plan.jobs),
            "tape sets": plan.tape_sets,
            "volumes": plan.volumes,
        }
    )


def _point_text(point: RecoveryPoint) -> Any:
    summary = point.summary
    return facts(
        {
            "recovery point": point.id,
            "policy": point.policy,
            "store": point.store,
            "state": point.state,
            "started": point.started_at,
            "committed": point.committed_at,
            "backed up": summary.get("backed_up"),
            "bytes backed up": size_text(summary.get("bytes_backed_up", 0)),
            "gone": summary.get("gone"),
            "objects in all": summary.get("objects"),
            "bytes in all": size_text(summary.get("bytes", 0)),
            "tape sets": summary.get("tape_sets"),
            "unreadable": summary.get("unreadable_objects"),
        }
    )


def _not_backed_up(point: RecoveryPoint) -> list[str]:
    """Return the first objects that could not be read, each with the reason."""
    unreadable = point.summary.get("unreadable", {})
    return [f"not backed up: {name}: {why}" for name, why in islice(unreadable.items(), _NAMED)]


def _as_dict(point: RecoveryPoint) -> dict[str, Any]:
    return {
        "recovery_point": point.id,
        "policy": point.policy,
        "store": point.store,
        "state": point.state,
        "started_at": point.started_at,
        "committed_at": point.committed_at,
        **point.summary,
    }
