"""`tapeflow vault`: volumes go offsite, and are called back."""

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from restore_lib.catalog import shipments, volumes
from restore_lib.cli.output import count_text, facts, print_json, table
from restore_lib.cli.session import DryRun, Json, group, opened
from restore_lib.errors import Refused
from restore_lib.model.shipment import SHIPMENT_ENDS, Shipment, ShipmentState
from restore_lib.model.volume import Reason
from restore_lib.vault.documents import Inventory, PackingList, PickList
from restore_lib.vault.outbound import VaultPlan, plan_vault_out, send_out
from restore_lib.vault.papers import paper as paper_of
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
        session.show(
            plan.as_dict() | {"sent": sent}, f"{count_text(len(sent), 'shipment')} announced."
        )


@app.command("receive")
def receive_documents(ctx: typer.Context, as_json: Json = False) -> None:
    """Work through what the couriers have brought, and ask again for what is overdue.

    A document that can't be used is set aside, with the reason beside it.
    """
    with opened(ctx, as_json=as_json) as session:
        done = receive(session.site, session.actor)
        news = {
            name.replace("_", " "): found
            for name, found in asdict(done).items()
            if found and name != "rejected"
        }
        told: list[RenderableType] = [facts(news)] if news else []
        told += [f"Set aside {each.document}: {each.reason}" for each in done.rejected]
        session.show(asdict(done), *(told or ["Nothing new."]))


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


@app.command()
def show(
    ctx: typer.Context,
    shipment: int,
    paper: Annotated[
        bool,
        typer.Option(
            "--paper",
            help="Print the paper that goes with it: its packing list, a page for each box, or the "
            "pick list of what is still to come.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show one shipment: its seal, its boxes, and how far each of its volumes is."""
    with opened(ctx, as_json=as_json) as session:
        with session.site.catalog.read() as connection:
            found = shipments.shipment(connection, shipment)
            lines = shipments.lines_of(connection, shipment)
        if found is None:
            raise Refused(
                f"There is no shipment {shipment}.", remedy="`tapeflow vault list --all` has them"
            )
        if paper:
            _print_paper(paper_of(session.site, found, lines), found, as_json=as_json)
            return
        session.show(
            {"shipment": asdict(found), "lines": [asdict(line) for line in lines]},
            facts({name.replace("_", " "): value for name, value in asdict(found).items()}),
            "",
            table(
                ("box", "volume", "state", "note"),
                ((line.box or None, line.barcode, line.state, line.note) for line in lines),
            ),
        )


@app.command()
def inventory(ctx: typer.Context, as_json: Json = False) -> None:
    """List where every volume is, place by place: the list to keep on paper too."""
    with opened(ctx, as_json=as_json) as session:
        site = session.site
        with site.catalog.read() as connection:
            found = volumes.volumes(connection)
        made = Inventory.of(site.config.cluster.id, site.clock.now(), found)
        session.show(made.as_dict(), made.text().rstrip())


@app.command("recall")
def recall_volumes(
    ctx: typer.Context,
    barcodes: Annotated[list[str], typer.Argument(metavar="BARCODE...")],
    reason: Annotated[Reason, typer.Option(help="Why they are wanted.")],
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Ask the vaults for volumes; what is here already, or asked for, is not asked for twice.

    A volume that a vault did not send, and that counts as lost since, is asked for anew.
    """
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


def _print_paper(
    paper: PackingList | PickList | None, shipment: Shipment, *, as_json: bool
) -> None:
    if paper is None:
        raise Refused(
            f"Shipment {shipment.id} is {shipment.state}, and has no paper.",
            remedy="a shipment to a vault has one once it is sealed, a recall until it ends",
        )
    if as_json:
        print_json(json.loads(paper.json()))
    else:
        typer.echo(paper.text(), nl=False)


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
