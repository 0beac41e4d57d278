"""`tapeflow verify`: volumes are read again and compared with what was written."""

from typing import Annotated

import typer

from restore_lib.cli.crew import Crew
from restore_lib.cli.output import EXIT_CODES, size_text, table
from restore_lib.cli.session import DryRun, Json, group, opened
from restore_lib.cli.verifications import Objects, show_run
from restore_lib.integrity.verify_media import (
    begin_verification,
    finish_verification,
    plan_verification,
    verify_volume,
)

app = group()


@app.command()
def verify(
    ctx: typer.Context,
    volume: Annotated[
        list[str] | None, typer.Option(help="A volume to verify; can be given again.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many volumes.", show_default="all")
    ] = None,
    objects: Objects = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Read volumes again, the one verified longest ago first; no key is needed.

    Of a damaged volume it lists the objects that can't be read, by name.

    Exit code 0: all that were read are sound; 1: damage was found, and the volumes are marked; 3:
    some could not be read; 4: nothing was read.
    """
    with opened(ctx, as_json=as_json) as session:
        plan = plan_verification(session.site, barcodes=volume, limit=limit)
        if dry_run:
            session.show(
                {"volumes": plan},
                table(
                    ("volume", "tape files", "size", "verified"),
                    ((v.barcode, v.files, size_text(v.bytes), v.verified_at) for v in plan),
                ),
            )
            return
        run_id = begin_verification(session.site, plan, session.actor)
        with session.board() as board:
            total = board.total("verifying", sum(v.files for v in plan), sum(v.bytes for v in plan))
            Crew(session.site, session.say).run(
                [candidate.barcode for candidate in plan],
                lambda site, barcode, progress: verify_volume(site, run_id, barcode, progress),
                total,
            )
        verdict = finish_verification(session.site, run_id)
        show_run(session, run_id, whole=objects)
        raise typer.Exit(EXIT_CODES[verdict])
