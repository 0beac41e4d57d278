"""`tapeflow drill`: rehearsals, measured."""

import secrets
from typing import Annotated, Any

import typer

from restore_lib.catalog import drills
from restore_lib.catalog.drills import Drill
from restore_lib.cli.executing import execute
from restore_lib.cli.output import EXIT_CODES, as_text, duration_text, facts, table
from restore_lib.cli.restore import TWO_WEEKS, Timeout
from restore_lib.cli.session import DryRun, Json, group, opened
from restore_lib.drills.run import DrillPlan, begin_drill, finish_drill, plan_drill
from restore_lib.model.states import DrillState
from restore_lib.model.verdict import Verdict

app = group("Rehearse: restore into a scratch store, measure.")


@app.command()
def run(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The drill, as [drills] in the config has it.")],
    seed: Annotated[
        int | None, typer.Option(help="Which sample; a random one when not given.")
    ] = None,
    timeout: Timeout = TWO_WEEKS,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Restore a random sample into the scratch store, measure, clean up, keep the evidence.

    Interrupted, the same command goes on with the same sample. Exit code 0: all came back verified,
    and within the objectives; 1: not so; 4: nothing was verified.
    """
    chosen = secrets.randbelow(2**32) if seed is None else seed
    with opened(ctx, as_json=as_json) as session:
        site = session.site
        if dry_run:
            plan = plan_drill(site, name, chosen)
            session.show(plan.as_dict(), *_plan_text(plan))
            return
        drill_id = begin_drill(site, name, session.actor, chosen)
        with site.catalog.read() as connection:
            begun = drills.drill(connection, drill_id)
        session.say(f"Drill {drill_id} with seed {begun.evidence['seed']}.")
        execute(session, begun.requests, timeout, go_on=f"tapeflow drill run {name}")
        ended = finish_drill(site, drill_id, session.actor)
        session.show(_as_dict(ended), *_drill_text(ended))
        raise typer.Exit(EXIT_CODES[ended.verdict or Verdict.NOT_CHECKED])


@app.command("list")
def list_drills(ctx: typer.Context, as_json: Json = False) -> None:
    """List the drills, newest first."""
    with opened(ctx, as_json=as_json) as session:
        with session.site.catalog.read() as connection:
            found = drills.drills_of(connection)
        session.show(
            {"drills": [_as_dict(drill) for drill in found]},
            table(
                ("id", "drill", "state", "verdict", "began", "ended", "restores"),
                (
                    (d.id, d.name, d.state, d.verdict, d.started_at, d.ended_at, d.requests)
                    for d in found
                ),
            ),
        )


@app.command()
def show(
    ctx: typer.Context,
    drill: Annotated[int, typer.Argument(help="Its id, as `tapeflow drill list` has it.")],
    as_json: Json = False,
) -> None:
    """Show one drill with its evidence."""
    with opened(ctx, as_json=as_json) as session:
        with session.site.catalog.read() as connection:
            found = drills.drill(connection, drill)
        session.show(_as_dict(found), *_drill_text(found))


def _plan_text(plan: DrillPlan) -> tuple[Any, ...]:
    return (
        facts(
            {
                "drill": plan.name,
                "policy": plan.policy,
                "into": plan.scratch,
                "seed": str(plan.seed),
                "recovery point": plan.recovery_point,
                "its age": f"{duration_text(plan.age)} of {duration_text(plan.rpo)} allowed",
                "to end within": duration_text(plan.rto),
            }
        ),
        "",
        table(
            ("restore", "objects", "volumes", "estimate"),
            (
                (
                    part,
                    detail["counts"]["asked"],
                    [row["barcode"] for row in detail["volumes"]],
                    duration_text(detail["estimate"]["seconds"]),
                )
                for part, detail in plan.restores.items()
            ),
        ),
    )


def _drill_text(drill: Drill) -> tuple[Any, ...]:
    head = {
        "drill": drill.id,
        "name": drill.name,
        "state": drill.state,
        "seed": str(drill.evidence["seed"]),
        "recovery point": drill.evidence["recovery_point"],
        "restores": drill.requests,
    }
    if drill.state is not DrillState.ENDED:
        return (facts(head),)
    found = drill.evidence
    verified, asked = (as_text(found["objects"][name]) for name in ("verified", "asked"))
    return (
        facts(head | _measures(found["measures"]) | {"volumes": found["volumes"]}),
        f"verdict: {drill.verdict}. {verified} of {asked} objects came back verified.",
    )


def _measures(measures: dict[str, Any]) -> dict[str, str]:
    return {
        f"{what} ({name})": f"{duration_text(measures[f'{name}_seconds'])} of "
        f"{duration_text(measures[f'{name}_objective_seconds'])} allowed: "
        f"{'met' if measures[f'{name}_met'] else 'missed'}"
        for name, what in (("rto", "time to restore"), ("rpo", "age of the data"))
    }


def _as_dict(drill: Drill) -> dict[str, Any]:
    return {
        "drill": drill.id,
        "name": drill.name,
        "state": drill.state,
        "started_at": drill.started_at,
        "ended_at": drill.ended_at,
        "requests": drill.requests,
        "verdict": drill.verdict,
        "evidence": drill.evidence,
    }
