"""`tapeflow vault`: volumes go offsite, and are called back."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from restore_lib.catalog import shipments
from restore_lib.cli.output import facts, table
from restore_lib.cli.session import DryRun, Json, group, opened
from restore_lib.model.shipment import SHIPMENT_ENDS, ShipmentState
from restore_lib.model.volume import Reason
from restore_lib.vault.outbound import VaultPlan, plan_vault_out, send_out
from restore_lib.vault.recalls import plan_recall, recall
from restore_lib.vault.receiving import receive

app = group("Send volumes offsite, and call them back.")


@app.command()
def out(
    ctx: typer.Context,
    policy: Annotated[str | None, typer.Option(help="Only the volumes of this policy.")] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Send every volume of a closed tape set to a vault: ejected, packed, sealed, announced.

    No box holds two volumes of one set. Run again, it finishes what was begun.
    """
    with opened(ctx, as_json=as_json) as session:
        plan = plan_vault_out(session.site, policy)
        if not as_json:
            session.show({}, _plan_text(plan), *plan.notes)
        if dry_run:
            if as_json:
                session.show(plan.as_dict())
            return
        sent = send_out(session.site, plan, session.actor)
        session.show(plan.as_dict() | {"sent": sent}, f"{len(sent)} shipments announced.")


@app.command("receive")
def receive_documents(ctx: typer.Context, as_json: Json = False) -> None:
    """Work through what the couriers have brought, and ask again for what is overdue."""
    with opened(ctx, as_json=as_json) as session:
        done = asdict(receive(session.site, session.actor))
        news = {name.replace("_", " "): found for name, found in done.items() if found}
        session.show(done, facts(news) if news else "Nothing new.")


@app.command("list")
def list_shipments(
    ctx: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Those that have ended, too.")] = False,
    as_json: Json = False,
) -> None:
    """List the shipments that are under way, with how far each of their volumes is."""
    states = list(ShipmentState) if every else set(ShipmentState) - SHIPMENT_ENDS
    with opened(ctx, as_json=as_json) as session:
        with session.site.catalog.read() as connection:
            found = shipments.find(connection, states=states)
            lines = shipments.lines_of(connection, *(shipment.id for shipment in found))
        rows = [
            asdict(shipment)
            | {"lines": [asdict(line) for line in lines if line.shipment_id == shipment.id]}
            for shipment in found
        ]
        session.show(
            {"shipments": rows},
            table(
                ("id", "way", "vault", "state", "reason", "round", "due", "volumes"),
                ((*_head(row), _lines_text(row["lines"])) for row in rows),
            ),
        )


@app.command("recall")
def recall_volumes(
    ctx: typer.Context,
    barcodes: Annotated[list[str], typer.Argument(metavar="BARCODE...")],
    reason: Annotated[Reason, typer.Option(help="Why they are wanted.")],
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Ask the vaults for volumes; what is here already, or asked for, is not asked for twice."""
    with opened(ctx, as_json=as_json) as session:
        plan = plan_recall(session.site, barcodes)
        sent: list[int] = []
        if not dry_run:
            sent = recall(session.site, barcodes, reason=reason, actor=session.actor)
        session.show(
            plan.as_dict() | ({} if dry_run else {"shipments": sent}),
            facts(
                {
                    "here": plan.mountable,
                    **{f"to recall from {v}": held for v, held in plan.to_recall.items()},
                    "coming": plan.coming,
                    "leaving": plan.leaving,
                    "lost": plan.lost,
                    **({} if dry_run else {"shipments to wait for": sent}),
                }
            ),
        )


def _plan_text(plan: VaultPlan) -> Any:
    return table(
        ("vault", "box", "volumes"),
        (
            (shipment.vault, number, box)
            for shipment in plan.shipments
            for number, box in enumerate(shipment.boxes, start=1)
        ),
    )


def _head(row: dict[str, Any]) -> tuple[Any, ...]:
    names = ("id", "direction", "vault", "state", "reason", "round", "due_at")
    return tuple(row[name] for name in names)


def _lines_text(lines: list[dict[str, Any]]) -> str:
    states: dict[str, list[str]] = {}
    for line in lines:
        states.setdefault(line["state"], []).append(line["barcode"])
    return "; ".join(f"{state}: {', '.join(held)}" for state, held in states.items())
