"""`tapeflow loss-scan`: what a store should hold against what it does."""

import os
from pathlib import Path
from typing import Annotated

import typer

from restore_lib.cli.output import facts
from restore_lib.cli.session import DryRun, Json, group, opened
from restore_lib.integrity.loss_scan import scan_for_loss

app = group()


@app.command("loss-scan")
def loss_scan(
    ctx: typer.Context,
    store: Annotated[str, typer.Argument(help="The store to look at.")],
    reference: Annotated[
        Path | None,
        typer.Option(help="A Parquet or CSV table of what should exist, with a column key."),
    ] = None,
    prefix: Annotated[str, typer.Option(help="Only objects whose names begin so.")] = "",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Find the objects that STORE has lost, and make an incident of them.

    What should exist is in the reference table, else in the newest recovery point. A dry run
    compares and counts, and makes no incident.
    """
    with opened(ctx, as_json=as_json) as session:
        with session.board() as board:
            scan = scan_for_loss(
                session.site,
                store,
                reference=reference,
                prefix=os.fsencode(prefix),
                actor=session.actor,
                progress=board.stages(),
                dry_run=dry_run,
            )
        found = scan.as_dict()
        counts = {name.replace("_", " "): count for name, count in found["counts"].items()}
        session.show(
            found,
            facts(
                {
                    "store": scan.store,
                    "compared with": scan.reference,
                    **counts,
                    "incident": scan.incident_id,
                }
            ),
        )
        if scan.incident_id is not None:
            session.say(f"Next: `tapeflow restore run --incident {scan.incident_id} --dry-run`")
