"""`tapeflow repair`: a lost or damaged volume of a set is written anew from the set's others."""

from typing import Annotated, Any

import typer

from restore_lib.cli.output import facts, size_text
from restore_lib.cli.session import DryRun, Json, Session, group, opened
from restore_lib.errors import RetryLater
from restore_lib.integrity.repair import run_repair
from restore_lib.integrity.repair_plan import RepairPlan, plan_repair
from restore_lib.vault.recalls import recall

app = group()


@app.command()
def repair(
    ctx: typer.Context,
    barcode: Annotated[str, typer.Argument(help="The volume to write anew.")],
    recall_first: Annotated[
        bool, typer.Option("--recall", help="First call back what it needs from the vaults.")
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Write a lost or damaged volume anew from the others of its set, and retire it.

    What the volume itself still gives is taken from it; each row that lacks a block is rebuilt from
    any k others. A blank volume of the library takes its place. No key is needed.
    """
    with opened(ctx, as_json=as_json) as session:
        plan = plan_repair(session.site, barcode)
        if dry_run:
            session.show(plan.as_dict(), _plan_text(plan))
            return
        if recall_first and plan.recall:
            _recall(session, plan)
        with session.board() as board:
            result = run_repair(session.site, barcode, session.actor, board.stages())
        session.show(
            {"repaired": result},
            f"Volume {result.replacement} stands in for {result.barcode} at position "
            f"{result.position} of set {result.tape_set}; {result.barcode} is retired.",
        )


def _recall(session: Session, plan: RepairPlan) -> None:
    """Ask the vaults for what is needed; raises RetryLater, since it takes its time."""
    wanted = [barcode for held in plan.recall.values() for barcode in held]
    shipments = recall(session.site, wanted, reason=plan.reason, actor=session.actor)
    raise RetryLater(
        f"Volumes {', '.join(wanted)} are recalled, by shipments {_listed(shipments)}.",
        remedy="run the repair again when `tapeflow vault receive` has brought them in",
    )


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _plan_text(plan: RepairPlan) -> Any:
    if plan.done:
        return facts({"volume": plan.barcode, "replaced by": plan.replacement})
    return facts(
        {
            "volume": plan.barcode,
            "health": plan.health,
            "place in set": f"position {plan.position} of {plan.tape_set}, {plan.role}",
            "tape files": plan.files,
            "size": size_text(plan.size),
            "read from": ", ".join(plan.sources),
            "written to": plan.replacement or "no blank volume is in the library",
            **{f"to recall from {vault}": held for vault, held in plan.recall.items()},
            "coming": plan.coming,
            "closes the set": plan.closes_set,
        }
    )
