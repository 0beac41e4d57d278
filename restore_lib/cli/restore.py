"""`tapeflow restore`: plan → show → confirm → bring back → report."""

import os
from datetime import timedelta
from typing import Annotated, Literal

import typer
from pydantic import TypeAdapter, ValidationError

from restore_lib.catalog import batches, requests, shipments
from restore_lib.cli.executing import execute
from restore_lib.cli.output import EXIT_CODES, facts, table
from restore_lib.cli.restore_text import NAMED, asked_for, ends, head, plan_text, stages
from restore_lib.cli.session import (
    DryRun,
    Json,
    Session,
    Yes,
    check_can_ask,
    group,
    opened,
)
from restore_lib.config_tables import Duration
from restore_lib.errors import Refused
from restore_lib.model.states import Overwrite, Priority, TakeRedundancy
from restore_lib.model.verdict import Verdict
from restore_lib.model.volume import Reason
from restore_lib.restore.outlook import outlook
from restore_lib.restore.pausing import pause_restore, resume_restore
from restore_lib.restore.report import build_report, write_report
from restore_lib.restore.request import (
    RestoreSpec,
    cancel_restore,
    plan_restore,
    start_restore,
)

app = group("Bring objects back from tape, each verified.")
_CONCERNING = ("failed", "unrestorable", "kept", "unverified")


def duration(text: str) -> timedelta:
    """Return what a text as in the config means; BadParameter when it is none."""
    try:
        return TypeAdapter(Duration).validate_python(text)
    except ValidationError:
        raise typer.BadParameter("a number and one of s, min, h, d, w, as in 4h") from None


Timeout = Annotated[
    timedelta,
    typer.Option(
        parser=duration,
        metavar="DURATION",
        show_default="2w",
        help="How long to work and to wait for volumes, as in 4h or 2d.",
    ),
]
TWO_WEEKS = timedelta(weeks=2)
RequestId = Annotated[int, typer.Argument(help="Its id, as `tapeflow restore list` has it.")]


@app.command()
def run(
    ctx: typer.Context,
    incident: Annotated[
        int | None, typer.Option(help="Restore what this incident says is lost.")
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(help="Restore the objects whose names begin so.")
    ] = None,
    names: Annotated[
        typer.FileBinaryRead | None,
        typer.Option(help="Restore the objects named in this file, one a line; - is stdin."),
    ] = None,
    null: Annotated[
        bool, typer.Option("-0", "--null", help="Names in the file end with a zero byte.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--everything", help="Restore all that the recovery point holds.")
    ] = False,
    store: Annotated[str | None, typer.Option(help="The store whose objects are wanted.")] = None,
    recovery_point: Annotated[
        int | None, typer.Option(help="As this recovery point holds them; else the newest.")
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="The store to write to; else where they were.")
    ] = None,
    overwrite: Annotated[
        Overwrite, typer.Option(help="What to do where another object stands.")
    ] = Overwrite.NEVER,
    reason: Annotated[
        Literal["restore", "verify", "migrate"],
        typer.Option(help="Why volumes are recalled, as the vault is told."),
    ] = "restore",
    priority: Annotated[
        Priority, typer.Option(help="Whose batches come first, where several restores are open.")
    ] = Priority.NORMAL,
    take_redundancy: Annotated[
        TakeRedundancy,
        typer.Option(
            help="Whether volumes that are needed only if another is bad come along from vaults; "
            "auto: where that costs less than the risk of a second trip."
        ),
    ] = TakeRedundancy.AUTO,
    timeout: Timeout = TWO_WEEKS,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Restore objects: show the plan, ask, bring them back, verify each, report.

    Say which objects by one of --incident, --prefix, --names and --everything. Exit code 0: all of
    them are back and verified; 3: the rest can't be restored, or was kept, and is named; 1: some
    failed; 4: nothing was verified.
    """
    given = (incident is not None, prefix is not None, names is not None, everything)
    if sum(given) != 1:
        raise Refused(
            "It is not clear which objects to restore.",
            remedy="give exactly one of --incident, --prefix, --names and --everything",
        )
    spec = RestoreSpec(
        store=store,
        incident=incident,
        prefix=b"" if everything else None if prefix is None else os.fsencode(prefix),
        keys=None if names is None else _names(names.read(), b"\0" if null else b"\n"),
        recovery_point=recovery_point,
        target=to,
        overwrite=overwrite,
        reason=Reason(reason),
        priority=priority,
        take_redundancy=take_redundancy,
    )
    with opened(ctx, as_json=as_json) as session:
        if dry_run:
            plan = plan_restore(session.site, spec, session.actor, dry_run=True)
            session.show(plan.as_dict(), *plan_text(plan))
            return
        if not yes:
            check_can_ask(as_json=as_json)
        request_id = _plan_and_ask(session, spec, yes=yes)
        run_to_end(session, request_id, timeout)


@app.command()
def resume(
    ctx: typer.Context,
    request: RequestId,
    timeout: Timeout = TWO_WEEKS,
    release: Annotated[
        bool, typer.Option("--release", help="Only let it go on; Airflow does the work.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Go on with a restore that was paused or interrupted, or that nobody has started.

    It exits as `run` does; with --release, at once.
    """
    with opened(ctx, as_json=as_json) as session:
        found = resume_restore(session.site, request, session.actor)
        if release:
            session.show(head(found), f"Restore request {request} is {found.state}.")
            return
        run_to_end(session, request, timeout)


@app.command("list")
def list_requests(ctx: typer.Context, as_json: Json = False) -> None:
    """List the restore requests, newest first."""
    with opened(ctx, as_json=as_json) as session:
        with session.site.catalog.read() as connection:
            found = requests.requests(connection)[::-1]
        session.show(
            {"requests": [head(request) for request in found]},
            table(
                ("id", "store", "target", "of", "state", "priority", "verdict", "created", "by"),
                (
                    (
                        *(r.id, r.store, r.target, asked_for(r), r.state, r.priority),
                        *(r.verdict, r.created_at, r.actor),
                    )
                    for r in found
                ),
            ),
        )


@app.command()
def show(ctx: typer.Context, request: RequestId, as_json: Json = False) -> None:
    """Show how far a restore is: its objects, its batches, what it waits for."""
    with opened(ctx, as_json=as_json) as session:
        with session.site.catalog.read() as connection:
            found = requests.request(connection, request)
            items = requests.count_items(connection, request)
            planned = batches.batches_of(connection, request_id=request)
            recalls = shipments.find(connection, request_id=request)
        seen = outlook(session.site, request)
        states: dict[str, int] = {}
        for batch in planned:
            states[batch.state] = states.get(batch.state, 0) + 1
        session.show(
            head(found)
            | {"objects": items, "batches": states, "shipments": recalls, "plan": found.plan}
            | {"outlook": seen},
            facts(head(found) | ends(seen)),
            "",
            facts({f"objects {state}": count for state, count in items.items() if count}),
            facts({f"batches {state}": count for state, count in states.items()}),
            table(
                ("shipment", "vault", "state", "round", "due"),
                ((s.id, s.vault, s.state, s.round, s.due_at) for s in recalls),
            )
            if recalls
            else "",
            stages(seen["stages"]),
        )


@app.command()
def report(ctx: typer.Context, request: RequestId, as_json: Json = False) -> None:
    """Write the report of a restore again, as JSON and HTML, and show what it comes to."""
    with opened(ctx, as_json=as_json) as session:
        show_report(session, request)


@app.command()
def pause(ctx: typer.Context, request: RequestId, as_json: Json = False) -> None:
    """Begin no batch of a restore until it is resumed; those that run end. For days, if need be."""
    with opened(ctx, as_json=as_json) as session:
        found = pause_restore(session.site, request, session.actor)
        session.show(
            head(found),
            f"Restore request {request} is paused; `tapeflow restore resume {request}` goes on.",
        )


@app.command()
def cancel(ctx: typer.Context, request: RequestId, as_json: Json = False) -> None:
    """Stop a restore: no batch of it is begun any more; what is restored stays restored."""
    with opened(ctx, as_json=as_json) as session:
        found = cancel_restore(session.site, request, session.actor)
        session.show(head(found), f"Restore request {request} is cancelled.")


def run_to_end(session: Session, request_id: int, timeout: timedelta) -> None:
    """Run a released restore to its end, report, and end the command by the verdict."""
    execute(session, [request_id], timeout, go_on=f"tapeflow restore resume {request_id}")
    raise typer.Exit(EXIT_CODES[show_report(session, request_id)])


def show_report(session: Session, request_id: int) -> Verdict:
    """Write the report of a restore, show it, and return its verdict."""
    paths = write_report(session.site, request_id)
    found = build_report(session.site, request_id)
    counts = {name.replace("_", " "): count for name, count in found["counts"].items() if count}
    named = [
        f"{what.replace('_', ' ')}: {each['key']}"
        for what in _CONCERNING
        for each in found["names"][what][:NAMED]
    ]
    verdict = Verdict(found["verdict"])
    session.show(
        found | {"files": {"json": str(paths.json), "html": str(paths.html)}},
        facts(counts),
        *named,
        f"verdict: {verdict}. {found['summary']}",
        f"report: {paths.html}",
    )
    return verdict


def _plan_and_ask(session: Session, spec: RestoreSpec, *, yes: bool) -> int:
    """Make the durable plan, show it and release it.

    A plan that is declined, or left by Ctrl-C, is cancelled: an open one keeps what it names.
    """
    plan = plan_restore(session.site, spec, session.actor)
    request_id = plan.request_id or 0
    agreed = False
    try:
        if not session.as_json:
            session.show({}, *plan_text(plan), "")
        agreed = session.confirm("Restore these objects?", yes=yes)
    finally:
        if not agreed:
            cancel_restore(session.site, request_id, session.actor)
            session.say("Nothing was restored.")
    if not agreed:
        raise typer.Exit(1)
    start_restore(session.site, request_id, session.actor)
    session.say(f"Restore request {request_id} begins.")
    return request_id


def _names(text: bytes, end: bytes) -> list[bytes]:
    return [name for name in text.split(end) if name]
