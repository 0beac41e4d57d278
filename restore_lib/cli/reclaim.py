"""`tapeflow reclaim`: tape sets that nothing needs any more become free volumes."""

from typing import Annotated, Any

import typer

from restore_lib.cli.output import facts, size_text, table
from restore_lib.cli.session import DryRun, Json, Yes, group, opened
from restore_lib.retention.reclaim import Reclaimed, ReclaimPlan, plan_reclaim, run_reclaim
from restore_lib.retention.undo import undo_reclaim

app = group("Reclaim the volumes of tape sets that nothing needs any more.")


@app.command()
def plan(ctx: typer.Context, as_json: Json = False) -> None:
    """Show the sets on which nothing is live, and what is next for each."""
    with opened(ctx, as_json=as_json) as session:
        planned = plan_reclaim(session.site)
        session.show(planned.as_dict(), *_text(planned))


@app.command()
def run(
    ctx: typer.Context, yes: Yes = False, dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Do what the plan shows: into quarantine, and after it free for other sets.

    Nothing is written to any volume. A free volume in a vault is called back.
    """
    with opened(ctx, as_json=as_json) as session:
        planned = plan_reclaim(session.site)
        if not as_json:
            session.show({}, *_text(planned))
        if dry_run:
            if as_json:
                session.show(planned.as_dict())
            return
        if not planned.is_empty and not session.confirm("Do this?", yes=yes):
            session.say("Nothing was done.")
            raise typer.Exit(1)
        with session.board() as board:
            done = run_reclaim(session.site, planned, session.actor, board.stages())
        session.show({"done": done}, _done(done))


@app.command()
def undo(
    ctx: typer.Context,
    tape_set: Annotated[str, typer.Argument(help="The set, as the plan has it.")],
    as_json: Json = False,
) -> None:
    """Bring back a set in quarantine, and the recovery points that need it."""
    with opened(ctx, as_json=as_json) as session:
        done = undo_reclaim(session.site, tape_set, session.actor)
        points = ", ".join(map(str, done.points)) or "none"
        session.show(
            {"brought_back": done},
            *(f"Set {each} is out of quarantine." for each in done.sets),
            f"Recovery points that can be restored again: {points}.",
        )


def _text(planned: ReclaimPlan) -> list[Any]:
    if not planned.sets and not planned.to_recall:
        return ["There is no set to reclaim."]
    rows = (
        (
            each.tape_set,
            each.step.replace("_", " "),
            each.why,
            each.until,
            size_text(each.size),
            ", ".join(each.volumes),
        )
        for each in planned.sets
    )
    recalls = {f"to recall from {vault}": held for vault, held in planned.to_recall.items()}
    shown: list[Any] = [table(("tape set", "next", "why", "until", "size", "volumes"), rows)]
    return [*shown, facts(recalls)] if recalls else shown


def _done(done: Reclaimed) -> Any:
    freed = [barcode for each in done.reclaimed.values() for barcode in each.free]
    retired = [barcode for each in done.reclaimed.values() for barcode in each.retired]
    return facts(
        {
            "into quarantine": done.quarantined,
            "brought back": done.brought_back,
            "reclaimed": list(done.reclaimed),
            "free volumes": freed,
            "retired volumes": retired,
            "shipments to wait for": done.shipments,
        }
    )
