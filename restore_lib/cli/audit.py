"""`tapeflow audit`: who did what, and the proof that nobody has altered it since."""

import json
from typing import Annotated

import typer

from restore_lib.catalog import audit
from restore_lib.cli.output import EXIT_CODES, facts, table
from restore_lib.cli.session import Json, group, opened

app = group("The audit trail, and whether it is sound.")


@app.command()
def verify(
    ctx: typer.Context,
    head: Annotated[
        str | None, typer.Option(help="A head that an earlier check gave, noted elsewhere.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read the whole trail, and say whether an event was altered, removed or put in.

    That its newest events were cut off is seen only with --head. Exit code 1: it is not sound.
    """
    with opened(ctx, as_json=as_json) as session:
        with session.site.catalog.read() as connection:
            found = audit.verify(connection, expected_head=head)
        result = {
            "verdict": found.verdict,
            "events": found.count,
            "head": found.head,
            "broken": found.broken,
            "reason": found.reason,
        }
        session.show(result, facts(result))
        raise typer.Exit(EXIT_CODES[found.verdict])


@app.command("list")
def list_events(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    as_json: Json = False,
) -> None:
    """List the newest events, the newest first."""
    with opened(ctx, as_json=as_json) as session:
        with session.site.catalog.read() as connection:
            events = audit.newest(connection, limit)
        session.show(
            {"events": events},
            table(
                ("id", "at", "actor", "action", "subject", "detail"),
                (
                    (
                        e["id"],
                        e["at"],
                        e["actor"],
                        e["action"],
                        e["subject"],
                        json.dumps(e["detail"]),
                    )
                    for e in events
                ),
            ),
        )
