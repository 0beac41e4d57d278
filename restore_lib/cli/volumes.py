"""`tapeflow volumes`: every cartridge, and its history."""

from typing import Any

import typer

from restore_lib.catalog import volumes as catalog
from restore_lib.cli.output import facts, size_text, table
from restore_lib.cli.session import Json, group, opened
from restore_lib.model.volume import Volume

app = group("The volumes, and the history of each.")


@app.callback(invoke_without_command=True, no_args_is_help=False)
def volumes(ctx: typer.Context, as_json: Json = False) -> None:
    """List all volumes: what is on them, how they are, who has them, and where."""
    if ctx.invoked_subcommand is not None:
        return
    with opened(ctx, as_json=as_json) as session:
        with session.site.catalog.read() as connection:
            found = catalog.volumes(connection)
        session.show({"volumes": found}, table(_COLUMNS, map(_row, found)))


@app.command()
def show(ctx: typer.Context, barcode: str, as_json: Json = False) -> None:
    """Show one volume with everything that ever happened to it."""
    with opened(ctx, as_json=as_json) as session:
        with session.site.catalog.read() as connection:
            volume = catalog.volume(connection, barcode)
            history = catalog.history(connection, barcode)
        session.show(
            {"volume": volume, "history": history},
            facts(dict(zip(_COLUMNS, _row(volume), strict=True))),
            "",
            table(
                ("at", "field", "before", "after", "place", "actor", "reason"),
                ((e.at, e.field, e.before, e.after, e.place, e.actor, e.reason) for e in history),
            ),
        )


_COLUMNS = (
    "volume",
    "tape set",
    "content",
    "health",
    "custody",
    "place",
    "flags",
    "size",
    "verified",
)


def _row(volume: Volume) -> tuple[Any, ...]:
    return (
        volume.barcode,
        volume.tape_set,
        volume.content,
        volume.health,
        volume.custody,
        volume.place,
        volume.flags,
        size_text(volume.bytes),
        volume.verified_at,
    )
