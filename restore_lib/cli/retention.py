"""`tapeflow retention`: recovery points expire by the rules of their policies."""

from datetime import timedelta
from typing import Annotated, Any

import typer

from restore_lib.cli.output import count_text, duration_text, table
from restore_lib.cli.session import DryRun, Json, Yes, group, opened
from restore_lib.retention.expire import PolicyPlan, RetentionPlan, apply_retention, plan_retention
from restore_lib.retention.undo import undo_retention

app = group("Let recovery points expire by the rules of their policies.")
Policy = Annotated[str | None, typer.Option(help="Only the recovery points of this policy.")]


@app.command()
def plan(ctx: typer.Context, policy: Policy = None, as_json: Json = False) -> None:
    """Show which recovery points would expire, and why each of the others stays."""
    with opened(ctx, as_json=as_json) as session:
        planned = plan_retention(session.site, policy)
        session.show(planned.as_dict(), *_text(planned))


@app.command()
def apply(
    ctx: typer.Context,
    policy: Policy = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Expire what the plan shows; nothing is taken from any tape.

    Nothing younger than the policy's keep_within ever expires, and no last good copy.
    """
    with opened(ctx, as_json=as_json) as session:
        planned = plan_retention(session.site, policy)
        if not as_json:
            session.show({}, *_text(planned))
        if dry_run:
            if as_json:
                session.show(planned.as_dict())
            return
        if not planned.is_empty and not session.confirm("Do what the plan shows?", yes=yes):
            session.say("Nothing has expired.")
            raise typer.Exit(1)
        done = apply_retention(session.site, planned, session.actor)
        count = sum(map(len, done.points.values()))
        session.show({"expired": done}, f"{count_text(count, 'recovery point')} expired.")


@app.command()
def undo(
    ctx: typer.Context,
    recovery_point: Annotated[
        int, typer.Argument(help="Its id, as `tapeflow backup list` has it.")
    ],
    as_json: Json = False,
) -> None:
    """Bring back a recovery point that has expired, while all of it is still on tape."""
    with opened(ctx, as_json=as_json) as session:
        done = undo_retention(session.site, recovery_point, session.actor)
        session.show(
            {"brought_back": done},
            f"Recovery point {recovery_point} can be restored.",
            *(f"Set {tape_set} is out of quarantine." for tape_set in done.sets),
        )


def _text(planned: RetentionPlan) -> list[Any]:
    shown: list[Any] = []
    for each in planned.policies:
        shown += [_headline(each), ""]
        if each.decisions:
            shown += [_decisions(each), ""]
        shown += [
            f"Incident {number} is restored, and would be closed." for number in each.incidents
        ]
    return shown


def _headline(each: PolicyPlan) -> str:
    if each.rule is None:
        return f"Policy {each.policy} has no retention: nothing expires."
    return (
        f"Policy {each.policy} keeps what is younger than {_span(each.rule.keep_within)}, and "
        f"{each.rule.minimum_redundancy} good ones that are older; "
        f"{len(each.expiring)} of {len(each.decisions)} would expire."
    )


def _span(span: timedelta) -> str:
    return duration_text(span.total_seconds()).removesuffix(", 0:00:00")


def _decisions(each: PolicyPlan) -> Any:
    return table(
        ("id", "committed", "good", "plan", "why"),
        (
            (
                decision.point,
                decision.committed_at,
                decision.good,
                "expires" if decision.kept is None else "stays",
                decision.why,
            )
            for decision in each.decisions
        ),
    )
