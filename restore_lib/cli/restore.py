"""`tapeflow restore`: plan → show → confirm → bring back → report."""

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError

from restore_lib.catalog import batches, requests, shipments
from restore_lib.catalog.requests import Request
from restore_lib.cli.executing import execute
from restore_lib.cli.output import (
    EXIT_CODES,
    as_text,
    duration_text,
    facts,
    size_text,
    table,
)
from restore_lib.cli.session import (
    DryRun,
    Json,
    Session,
    Yes,
    check_can_ask,
    group,
    opened,
)
from restore_lib.config import Duration
from restore_lib.errors import Refused
from restore_lib.model.states import Overwrite, Priority, TakeRedundancy
from restore_lib.model.verdict import Verdict
from restore_lib.restore.flow import is_ended
from restore_lib.restore.outlook import outlook
from restore_lib.restore.pausing import pause_restore, resume_restore
from restore_lib.restore.report import build_report, write_report
from restore_lib.restore.request import (
    RestorePlan,
    RestoreSpec,
    cancel_restore,
    plan_restore,
    start_restore,
)

app = group("Bring objects back from tape, each verified.")
_NAMED = 20
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
            session.show(_head(found), f"Restore request {request} is {found.state}.")
            return
        run_to_end(session, request, timeout)


@app.command("list")
def list_requests(ctx: typer.Context, as_json: Json = False) -> None:
    """List the restore requests, oldest first."""
    with opened(ctx, as_json=as_json) as session:
        with session.site.catalog.read() as connection:
            found = requests.requests(connection)
        session.show(
            {"requests": [_head(request) for request in found]},
            table(
                ("id", "store", "target", "of", "state", "priority", "verdict", "created", "by"),
                (
                    (
                        *(r.id, r.store, r.target, _of(r), r.state, r.priority),
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
            _head(found)
            | {"objects": items, "batches": states, "shipments": recalls, "plan": found.plan}
            | {"outlook": seen},
            facts(_head(found) | _ends(seen)),
            "",
            facts({f"objects {state}": count for state, count in items.items() if count}),
            facts({f"batches {state}": count for state, count in states.items()}),
            table(
                ("shipment", "vault", "state", "round", "due"),
                ((s.id, s.vault, s.state, s.round, s.due_at) for s in recalls),
            )
            if recalls
            else "",
            _stages(seen["stages"]),
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
            _head(found),
            f"Restore request {request} is paused; `tapeflow restore resume {request}` goes on.",
        )


@app.command()
def cancel(ctx: typer.Context, request: RequestId, as_json: Json = False) -> None:
    """Stop a restore: no batch of it is begun any more; what is restored stays restored."""
    with opened(ctx, as_json=as_json) as session:
        if is_ended(session.site, request):
            raise Refused(
                f"Restore request {request} has ended already.",
                remedy="see `tapeflow restore show`",
            )
        found = cancel_restore(session.site, request, session.actor)
        session.show(_head(found), f"Restore request {request} is cancelled.")


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
        for each in found["names"][what][:_NAMED]
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


def plan_text(plan: RestorePlan) -> tuple[Any, ...]:
    """Return a restore plan as people read it."""
    detail = plan.detail
    estimate = detail["estimate"]
    return (
        facts(
            {
                **{name.replace("_", " "): count for name, count in detail["counts"].items()},
                "to read": size_text(detail["bytes"]),
                "batches": detail["batches"],
                "estimate": f"{duration_text(estimate['seconds'])}; 95 of 100 such restores end "
                f"within {duration_text(estimate['p95_seconds'])}",
                "choice": _choice_text(detail["selection"]),
                "taken along": _spares_text(detail["redundancy"]),
            }
        ),
        "",
        table(
            ("stage", "takes", "95 of 100 within", "ends after"),
            (
                (
                    name,
                    duration_text(stage["seconds"]),
                    duration_text(stage["p95_seconds"]),
                    duration_text(stage["ends"]),
                )
                for name, stage in estimate["stages"].items()
                if stage["p95_seconds"]
            ),
        ),
        "",
        table(
            ("volume", "tape set", "place", "custody", "batches", "objects", "size"),
            (
                (
                    row["barcode"],
                    row["tape_set"],
                    row["place"],
                    row["custody"],
                    row["batches"],
                    row["objects"],
                    size_text(row["bytes"]),
                )
                for row in detail["volumes"]
            ),
        ),
        *(f"can't be restored: {name}" for name in detail["unrestorable"][:_NAMED]),
    )


def _choice_text(made: Mapping[str, Any]) -> str:
    """Return why these volumes are wanted, and how far from the cheapest choice that is."""
    off = "" if made["gap"] < 0.0005 else f"; at most {made['gap']:.1%} off the cheapest choice"
    return f"{made['why']}{off}"


def _spares_text(spares: Mapping[str, Any]) -> str:
    count = len(spares["volumes"])
    if not spares["second_trip_chance"]:
        return "none: no bad volume would cause a second trip to a vault"
    before, left = spares["second_trip_chance"], spares["second_trip_chance_with"]
    risk = f"a second trip to a vault has a chance of {before:.2%}"
    if not count:
        return f"none: {risk}"
    return f"{count} volume{'s' if count > 1 else ''}: {risk} without, {left:.2%} with them"


def _plan_and_ask(session: Session, spec: RestoreSpec, *, yes: bool) -> int:
    """Make the durable plan, show it and release it; a plan that is declined is cancelled."""
    plan = plan_restore(session.site, spec, session.actor)
    request_id = plan.request_id or 0
    if not session.as_json:
        session.show({}, *plan_text(plan), "")
    if not session.confirm("Restore these objects?", yes=yes):
        cancel_restore(session.site, request_id, session.actor)
        session.say("Nothing was restored.")
        raise typer.Exit(1)
    start_restore(session.site, request_id, session.actor)
    session.say(f"Restore request {request_id} begins.")
    return request_id


def _ends(seen: dict[str, Any]) -> dict[str, Any]:
    if seen["ends_at"] is None:
        return {}
    return {"ends, by now": seen["ends_at"], "95 of 100 by": seen["p95_ends_at"]}


def _stages(found: dict[str, dict[str, float | None]]) -> Any:
    """Return what stages were to take beside what they took so far, without those that are none."""
    kinds = ("estimated_seconds", "p95_seconds", "actual_seconds")
    return table(
        ("stage", "estimate", "95 of 100 within", "so far"),
        (
            (name, *("-" if row[kind] is None else duration_text(row[kind] or 0) for kind in kinds))
            for name, row in found.items()
            if any(row[kind] for kind in kinds)
        ),
    )


def _names(text: bytes, end: bytes) -> list[bytes]:
    return [name for name in text.split(end) if name]


def _of(request: Request) -> str:
    if request.source.get("prefix") == "":
        return f"everything, recovery_point {request.rp_id}"
    return ", ".join(f"{name} {as_text(value)}" for name, value in request.source.items())


def _head(request: Request) -> dict[str, Any]:
    return {
        "request": request.id,
        "store": request.store,
        "target": request.target,
        "of": _of(request),
        "overwrite": request.overwrite,
        "reason": request.reason,
        "actor": request.actor,
        "state": request.state,
        "priority": request.priority,
        "at_once": request.at_once,
        "created_at": request.created_at,
        "finished_at": request.finished_at,
        "verdict": request.verdict,
        "report": request.report,
    }
