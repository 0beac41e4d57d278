"""`tapeflow library`: the robot, its drives and slots, and new volumes."""

from typing import Annotated, Any

import typer

from restore_lib.catalog import volumes
from restore_lib.catalog.leases import CatalogLeases
from restore_lib.cli.output import count_text, facts, table
from restore_lib.cli.session import Json, Session, group, opened
from restore_lib.config_tables import LibraryConfig
from restore_lib.errors import Refused
from restore_lib.library.base import ElementKind
from restore_lib.library.virtual import VirtualLibrary
from restore_lib.model.volume import LIBRARY
from restore_lib.vault.found import enable

app = group("The tape library: its drives, slots, new volumes.")


@app.command()
def create(ctx: typer.Context, as_json: Json = False) -> None:
    """Set up the virtual library of [library], or add what is missing of it."""
    with opened(ctx, as_json=as_json) as session:
        section = session.site.config.library
        create_library(section)
        session.show(
            {"path": str(section.path), "slots": section.slots, "drives": section.drives},
            f"{section.path}: {section.slots} slots, {section.drives} drives.",
        )


@app.command()
def show(ctx: typer.Context, as_json: Json = False) -> None:
    """Show the drives, what each holds and for whom, and how full the library is."""
    with opened(ctx, as_json=as_json) as session:
        site = session.site
        elements = site.library.inventory()
        leases = CatalogLeases(site.catalog, site.clock).holders()
        drives = [
            {"drive": e.number, "volume": e.barcode, "leased_for": leases.get(e.number)}
            for e in elements
            if e.kind is ElementKind.DRIVE
        ]
        slots = [e for e in elements if e.kind is ElementKind.STORAGE]
        used = sum(slot.barcode is not None for slot in slots)
        session.show(
            {
                "slots": len(slots),
                "used": used,
                "dock": sorted(site.library.dock()),
                "drives": drives,
            },
            facts({"slots": f"{used} of {len(slots)} used", "on the dock": site.library.dock()}),
            table(("drive", "volume", "leased for"), (d.values() for d in drives)),
        )


@app.command()
def inventory(ctx: typer.Context, as_json: Json = False) -> None:
    """List every volume that is in the library, and whether the catalog agrees."""
    with opened(ctx, as_json=as_json) as session:
        rows = _inventory(session)
        session.show(
            {"volumes": rows},
            table(("place", "number", "volume", "catalog"), (row.values() for row in rows)),
        )


@app.command("add-blank")
def add_blank(
    ctx: typer.Context,
    barcodes: Annotated[list[str], typer.Argument(metavar="BARCODE...")],
    as_json: Json = False,
) -> None:
    """Put new blank volumes into the library, and enter them in the catalog.

    A volume that is in the library already, but not in the catalog, is entered as it is: backup
    reads what is on it before it writes, and refuses to overwrite anybody's data.
    """
    with opened(ctx, as_json=as_json) as session:
        site = session.site
        with site.catalog.read() as connection:
            known = [volume.barcode for volume in volumes.volumes(connection, barcodes)]
        if known:
            raise Refused(
                f"The catalog has {', '.join(known)} already.",
                remedy="give new volumes new barcodes; one that was given up and is here again "
                "comes back by `tapeflow volumes found`",
            )
        library = site.virtual_library()
        there = {element.barcode for element in library.inventory() if element.barcode}
        library.add_blank([barcode for barcode in barcodes if barcode not in there])
        with site.catalog.write() as connection:
            volumes.add_blank(connection, barcodes, actor=session.actor, at=site.clock.now())
        told = [f"{count_text(len(set(barcodes) - there), 'blank volume')} added."]
        if found := sorted(there.intersection(barcodes)):
            told.append(f"Entered as they were found in the library: {', '.join(found)}.")
        session.show({"added": barcodes}, *told)


@app.command("repair-drive")
def repair_drive(
    ctx: typer.Context, drive: Annotated[int, typer.Argument(min=0)], as_json: Json = False
) -> None:
    """Take a dead drive into use again, once it has been repaired.

    A volume that was stuck in it is mounted again: it is suspect until it has passed `verify`.
    """
    with opened(ctx, as_json=as_json) as session:
        library = session.site.virtual_library()
        library.repair_drive(drive)
        held = library.loaded().get(drive)
        why = f"drive {drive} is repaired"
        enabled = enable(session.site, [held], session.actor, why) if held else []
        session.show(
            {"drive": drive, "enabled": enabled},
            f"Drive {drive} is in use again.",
            *(
                f"{barcode} in it is suspect until `tapeflow verify --volume {barcode}` has passed."
                for barcode in enabled
            ),
        )


def create_library(section: LibraryConfig) -> VirtualLibrary:
    """Set up the folders of a virtual library, or those that are missing."""
    return VirtualLibrary.create(
        section.path,
        slots=section.slots,
        drives=section.drives,
        import_export=section.import_export,
        capacity_bytes=section.capacity,
    )


def _inventory(session: Session) -> list[dict[str, Any]]:
    with session.site.catalog.read() as connection:
        known = {volume.barcode: volume for volume in volumes.volumes(connection)}
    rows: list[dict[str, Any]] = []
    for element in session.site.library.inventory():
        if element.barcode is None:
            continue
        volume = known.pop(element.barcode, None)
        stands = "unknown" if volume is None else str(volume.custody)
        rows.append(
            {
                "place": str(element.kind),
                "number": element.number,
                "volume": element.barcode,
                "catalog": stands,
            }
        )
    expected = (v for v in known.values() if v.place == LIBRARY)
    rows += [
        {"place": "missing", "number": None, "volume": v.barcode, "catalog": str(v.custody)}
        for v in expected
    ]
    return rows
