"""`tapeflow volumes`: every cartridge, its history, and its way back when it was given up."""

from typing import Annotated, Any

import typer

from restore_lib.catalog import volumes as catalog
from restore_lib.cli.output import facts, size_text, table
from restore_lib.cli.session import Json, group, opened
from restore_lib.model.volume import Health, Volume
from restore_lib.vault.found import FOUND_AGAIN, take_found

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


@app.command()
def found(
    ctx: typer.Context,
    barcodes: Annotated[list[str], typer.Argument(metavar="BARCODE...")],
    reason: Annotated[str, typer.Option(help="What their history says of it.")] = FOUND_AGAIN,
    as_json: Json = False,
) -> None:
    """Take back volumes that were given up, and that lie in the library or on its dock again.

    Those are the lost, the disabled and the missing ones. They are suspect until they have passed
    `verify`; restores read suspect volumes, but prefer others.
    """
    with opened(ctx, as_json=as_json) as session:
        taken = take_found(session.site, barcodes, session.actor, reason)
        others = sorted(set(barcodes) - set(taken))
        with session.site.catalog.read() as connection:
            told = [_prove(volume) for volume in catalog.volumes(connection, taken)]
        told += [f"{barcode} was not given up, and stays as it is." for barcode in others]
        session.show({"found": taken, "unchanged": others}, *told)


def _prove(volume: Volume) -> str:
    """Return what has to follow for a volume that was taken back."""
    name = volume.barcode
    if volume.health is Health.BROKEN:
        return f"{name} is broken; `tapeflow repair {name}` writes it anew."
    if not volume.files:
        return f"{name} is suspect, and holds nothing that could prove it: no backup takes it."
    return f"{name} is suspect until `tapeflow verify --volume {name}` has passed."


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
