"""`tapeflow repack`: live objects move off sets that hold mostly what has expired."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from restore_lib.cli.output import EXIT_CODES, count_text, size_text, table
from restore_lib.cli.session import DryRun, Json, Session, Yes, group, opened
from restore_lib.errors import RetryLater
from restore_lib.integrity.repack import RepackResult, run_repack
from restore_lib.integrity.repack_plan import RepackPlan, SetToRepack, check_ready, plan_repack
from restore_lib.model.verdict import Verdict
from restore_lib.model.volume import Reason
from restore_lib.vault.recalls import recall

app = group("Move live objects off tape sets that hold mostly what has expired.")
_NAMED = 20

Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="SET", help="A closed set, however much of it is live; can be given again."
    ),
]
Below = Annotated[
    str,
    typer.Option(metavar="PERCENT", help="Sets of whose stored bytes a smaller share is live."),
]


@app.command()
def plan(
    ctx: typer.Context, sets: Sets = None, below: Below = "50%", as_json: Json = False
) -> None:
    """Show which sets would be repacked, and what that takes; changes nothing."""
    with opened(ctx, as_json=as_json) as session:
        planned = plan_repack(session.site, sets=sets or (), below=_share(below))
        session.show(planned.as_dict(), *_plan_text(planned))


@app.command()
def run(
    ctx: typer.Context,
    sets: Sets = None,
    below: Below = "50%",
    recall_first: Annotated[
        bool, typer.Option("--recall", help="First call back what is in the vaults.")
    ] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Write what is live on these sets to new ones, as it is stored: no key is needed.

    The old sets hold nothing live then, and can be reclaimed. Interrupted at any moment, the same
    command goes on behind what is committed. What an unfinished restore reads is left for the next
    time. Exit code 3: some payloads could not be read and are left; they are named.
    """
    share = _share(below)
    with opened(ctx, as_json=as_json) as session:
        planned = plan_repack(session.site, sets=sets or (), below=share)
        if not as_json:
            session.show({}, *_plan_text(planned))
        if dry_run:
            if as_json:
                session.show(planned.as_dict())
            return
        recalls = recall_first and any(one.recall for one in planned.sets)
        if not recalls:
            check_ready(planned)
        question = f"{'Recall and repack' if recalls else 'Repack'} these sets?"
        if planned.sets and not session.confirm(question, yes=yes):
            session.say("Nothing was done.")
            raise typer.Exit(1)
        if recalls:
            _recall(session, planned)
        with session.board() as board:
            result = run_repack(
                session.site,
                session.actor,
                board.stages(),
                sets=sets or (),
                below=share,
                drives=session.site.config.library.drives,
            )
        session.show({"repacked": result}, *_result_text(result))
        for name, why in list(result.unreadable.items())[:_NAMED]:
            session.say(f"left where it is: {name}: {why}")
        if result.unreadable:
            raise typer.Exit(EXIT_CODES[Verdict.PARTIAL])


def _recall(session: Session, planned: RepackPlan) -> None:
    """Ask the vaults for what is needed; raises RetryLater where nothing can be repacked before."""
    wanted = [barcode for one in planned.sets for barcode in one.away]
    shipments = recall(session.site, wanted, reason=Reason.MIGRATE, actor=session.actor)
    said = f"Volumes {', '.join(wanted)} are recalled, by shipments {_listed(shipments)}."
    if not any(one.ready for one in planned.sets):
        raise RetryLater(
            said,
            remedy="run the repack again when `tapeflow vault receive` has brought them in",
        )
    session.say(said)


def _share(below: str) -> float:
    text = below.strip().removesuffix("%")
    try:
        share = float(text) / 100
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise typer.BadParameter("a share such as 50%, above 0% and up to 100%", param_hint="below")
    return share


def _plan_text(planned: RepackPlan) -> Iterator[RenderableType]:
    if not planned.sets:
        yield "There is nothing to repack."
        return
    yield table(
        ("tape set", "live", "share", "of", "payloads", "state"),
        (
            (
                one.tape_set,
                size_text(one.live_size),
                f"{one.live_size / max(one.size, 1):.0%}",
                size_text(one.size),
                one.live_extents,
                _state(one),
            )
            for one in planned.sets
        ),
    )
    for new in planned.new:
        yield (
            f"To write: {size_text(new.size)} for policy {new.policy}, to "
            f"{count_text(new.tape_sets, 'new set')} of {count_text(new.volumes, 'volume')} in all."
        )
        if new.recipients_changed:
            yield (
                f"These payloads stay encrypted to {', '.join(new.recipients)}, who are not the "
                f"recipients of today's backups: keep the keys."
            )


def _state(one: SetToRepack) -> str:
    if one.why_not:
        return f"can't be repacked: {one.why_not}"
    if one.recall:
        return f"to recall: {_listed(one.away)}"
    if one.coming:
        return f"on their way: {_listed(one.coming)}"
    return "ready"


def _result_text(result: RepackResult) -> Iterator[RenderableType]:
    if result.sets:
        yield table(
            ("tape set", "moved", "size", "left in use", "left unreadable", "nothing live"),
            (
                (r.tape_set, r.moved, size_text(r.size), r.in_use, r.unreadable, r.empty)
                for r in result.sets
            ),
        )
    if result.new_sets:
        yield f"Written to {_listed(result.new_sets)}."
    if result.waiting:
        yield f"Not repacked now: {_listed(result.waiting)}."


def _listed(values: Any) -> str:
    return ", ".join(map(str, values))
