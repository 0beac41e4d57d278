"""`tapeflow catalog`: the database that knows where everything is."""

from pathlib import Path
from typing import Annotated, Any

import typer

from restore_lib.catalog.engine import Catalog
from restore_lib.cli.crew import Crew
from restore_lib.cli.output import count_text, facts, table
from restore_lib.cli.session import DryRun, Json, Session, group, opened
from restore_lib.integrity import rebuild as rebuilding
from restore_lib.integrity.rebuild import RebuildReport
from restore_lib.model.progress import Progress
from restore_lib.site import Site

app = group("Set up, check and rebuild the catalog's database.")


@app.command()
def migrate(ctx: typer.Context, as_json: Json = False) -> None:
    """Create the catalog, or bring an older one up to date; all rows are kept."""
    with opened(ctx, as_json=as_json) as session:
        catalog = Catalog(session.site.config.catalog.url)
        try:
            catalog.migrate()
            catalog.check()
        finally:
            catalog.close()
        session.show({"catalog": "ready"}, "The catalog is ready.")


@app.command()
def check(ctx: typer.Context, as_json: Json = False) -> None:
    """Say whether the catalog answers, and is of this version."""
    with opened(ctx, as_json=as_json) as session:
        session.site.catalog.check()
        session.show({"catalog": "ready"}, "The catalog is ready.")


@app.command()
def rebuild(
    ctx: typer.Context,
    diff: Annotated[
        bool,
        typer.Option("--diff", help="Rebuild a temporary catalog, and compare it with this one."),
    ] = False,
    incomplete: Annotated[
        bool,
        typer.Option("--incomplete", help="Do without what missing volumes may still tell."),
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Make an empty catalog whole again from the volumes in the library and a key.

    Exit code 0: all is there; 1: --diff found differences; 3: something is missing, and nothing is
    written without --incomplete. Bring in more volumes and run it again: it goes on where it was.
    """
    with opened(ctx, as_json=as_json) as session:
        if dry_run:
            _show_plan(session, diff=diff)
            return
        with rebuilding.rebuild_folder(session.site, compare=diff) as folder:
            _read_volumes(session, folder, diff=diff)
            if diff:
                _compare(session, folder)
            else:
                _finish(session, folder, incomplete=incomplete)


def _show_plan(session: Session, *, diff: bool) -> None:
    plan = rebuilding.plan_rebuild(session.site, compare=diff)
    rows = [(barcode, "to read") for barcode in plan.to_read]
    rows += [(barcode, "has been read") for barcode in plan.read]
    session.show({"to_read": plan.to_read, "read": plan.read}, table(("volume", "plan"), rows))


def _read_volumes(session: Session, folder: Path, *, diff: bool) -> None:
    plan = rebuilding.plan_rebuild(session.site, compare=diff)

    def read(site: Site, barcode: str, progress: Progress) -> None:
        rebuilding.read_into(site, folder, barcode, progress)

    with session.board() as board:
        total = board.total("reading volumes", len(plan.to_read))
        Crew(session.site, session.say).run(plan.to_read, read, total)


def _finish(session: Session, folder: Path, *, incomplete: bool) -> None:
    with session.board() as board:
        report = rebuilding.finish_rebuild(
            session.site, folder, session.actor, incomplete=incomplete, progress=board.stages()
        )
    said = (
        "The catalog is whole again."
        if report.complete
        else "The catalog is written, without what is missing."
        if report.written
        else "Nothing is written: bring in what is missing and run it again, or give --incomplete."
    )
    session.show({"rebuilt": _plain(report)}, *_text(report), said)
    raise typer.Exit(0 if report.complete else 3)


def _compare(session: Session, folder: Path) -> None:
    with session.board() as board:
        report, count, first = rebuilding.compare_rebuild(
            session.site, folder, session.actor, board.stages()
        )
    session.show(
        {"rebuilt": _plain(report), "differences": count, "first": first},
        *_text(report),
        table(
            ("what", "where", "on tape", "in the catalog"),
            ((d.kind, d.name, d.tapes, d.catalog) for d in first),
        )
        if first
        else "",
        f"{count_text(count, 'difference')}." if count else "The catalog says what the tapes say.",
    )
    raise typer.Exit(1 if count else 0 if report.complete else 3)


def _plain(report: RebuildReport) -> dict[str, Any]:
    return vars(report) | {"complete": report.complete}


def _text(report: RebuildReport) -> list[Any]:
    counts = {
        "tape sets": report.sets,
        "stripes": report.stripes,
        "objects": report.objects,
        "versions": report.versions,
        "indexes from parity": report.by_parity,
        "not in the library": report.away,
    }
    lines = [
        f"{name}: {line}"
        for name, found in (
            ("missing", report.missing),
            ("problem", report.problems),
            ("assumed", report.assumed),
            ("left by a crash", report.left_out),
            ("reclaimed", report.reclaimed),
            ("not known from tapes", report.unknowable),
        )
        for line in found
    ]
    return [facts(counts), *lines]
