"""`tapeflow incident`: the losses that scans have found."""

from typing import Annotated, Any

import typer

from restore_lib.catalog import incidents
from restore_lib.catalog.incidents import Incident, Loss
from restore_lib.cli.output import facts, print_json_list, table
from restore_lib.cli.session import Json, group, opened
from restore_lib.model.objects import display_key, key_fields
from restore_lib.model.states import LossClass
from restore_lib.retention.expire import close_incident

app = group("The losses that scans have found.")


@app.command("list")
def list_incidents(ctx: typer.Context, as_json: Json = False) -> None:
    """List the incidents, newest first."""
    with opened(ctx, as_json=as_json) as session:
        with session.site.catalog.read() as connection:
            found = incidents.incidents_of(connection)
        session.show(
            {"incidents": found},
            table(
                ("id", "store", "state", "found", "lost", "compared with"),
                (
                    (i.id, i.store, i.state, i.found_at, i.counts.get("lost"), i.reference)
                    for i in found
                ),
            ),
        )


@app.command()
def show(
    ctx: typer.Context,
    incident: Annotated[int, typer.Argument(help="Its id, as `tapeflow incident list` has it.")],
    only: Annotated[
        LossClass | None, typer.Option("--class", help="Only the losses of this class.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show one incident, with each lost object by name and what can be done about it."""
    with (
        opened(ctx, as_json=as_json) as session,
        session.site.catalog.read() as connection,
    ):
        found = incidents.incident(connection, incident)
        losses = incidents.losses_of(connection, incident, only)
        if as_json:
            print_json_list(_head(found), "losses", map(_loss, losses))
            return
        head = {key: value for key, value in _head(found).items() if key != "counts"}
        session.show({}, facts(head | dict(found.counts)), "")
        for loss in losses:
            typer.echo(f"{loss.loss_class:<20}  {display_key(loss.key)}")


@app.command()
def close(
    ctx: typer.Context,
    incident: Annotated[int, typer.Argument(help="Its id, as `tapeflow incident list` has it.")],
    as_json: Json = False,
) -> None:
    """Close an incident: what it has lost is kept on tape no longer than retention says."""
    with opened(ctx, as_json=as_json) as session:
        close_incident(session.site, incident, session.actor)
        session.show({"closed": incident}, f"Incident {incident} is closed.")


def _head(found: Incident) -> dict[str, Any]:
    return {
        "incident": found.id,
        "store": found.store,
        "reference": found.reference,
        "recovery_point": found.rp_id,
        "found_at": found.found_at,
        "state": found.state,
        "counts": dict(found.counts),
    }


def _loss(loss: Loss) -> dict[str, Any]:
    return {
        **key_fields(loss.key),
        "class": loss.loss_class,
        "size": loss.size,
        "sha256": loss.sha256,
    }
