"""`tapeflow verifications`: what was read again, and what was found."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from restore_lib.catalog import verifications
from restore_lib.catalog.verifications import VerificationRun, VolumeResult
from restore_lib.cli.output import size_text, table
from restore_lib.cli.session import Json, Session, group, opened
from restore_lib.integrity.readable import ObjectOnVolume, Readability, objects_on
from restore_lib.model.objects import display_key, key_fields
from restore_lib.model.verdict import Verdict
from restore_lib.site import Site

app = group("The verifications, and what each has found.")
Objects = Annotated[
    bool, typer.Option("--objects", help="List the readable objects of damaged volumes too.")
]


_COUNTED = ("volumes", "passed", "failed", "not checked")


@app.command("list")
def list_runs(ctx: typer.Context, as_json: Json = False) -> None:
    """List the verifications, newest first."""
    with opened(ctx, as_json=as_json) as session:
        with session.site.catalog.read() as connection:
            found = verifications.runs(connection)
            verdicts = verifications.verdicts(connection)
        rows = [_head(run) | _counts(verdicts.get(run.id, {})) for run in found]
        session.show(
            {"verifications": rows},
            table(
                ("id", "state", "began", "ended", "verdict", *_COUNTED),
                (row.values() for row in rows),
            ),
        )


@app.command()
def show(
    ctx: typer.Context,
    verification: Annotated[
        int, typer.Argument(help="Its id, as `tapeflow verifications list` has it.")
    ],
    objects: Objects = False,
    as_json: Json = False,
) -> None:
    """Show what one verification found on each volume; it reads no tape.

    Of a damaged volume it lists the objects that can't be read, by name.
    """
    with opened(ctx, as_json=as_json) as session:
        show_run(session, verification, whole=objects)


def show_run(session: Session, run_id: int, *, whole: bool) -> None:
    """Show a run: its volumes, what is wrong with them, and the objects that this concerns.

    With ``whole``, the readable objects of damaged volumes too.
    """
    with session.site.catalog.read() as connection:
        run = verifications.run(connection, run_id)
        results = verifications.results(connection, run_id)
    found = {
        result.barcode: _Objects.of(session.site, result, whole=whole)
        for result in results
        if result.verdict is Verdict.FAILED
    }
    session.show(
        _head(run)
        | {"volumes": results}
        | {"objects": {barcode: each.as_dict() for barcode, each in found.items()}},
        table(
            ("volume", "verdict", "tape files", "size", "problems"),
            (
                (r.barcode, r.verdict, r.files, size_text(r.bytes), _problems(r.problems))
                for r in results
            ),
        ),
        *(part for barcode, each in found.items() for part in each.text(barcode)),
        f"Verification {run_id}: {run.verdict or 'not ended yet'}.",
    )


@dataclass
class _Objects:
    """The objects on a damaged volume: how many in which state, and those to be listed."""

    counts: dict[Readability, int]
    listed: list[ObjectOnVolume]
    known: bool

    @classmethod
    def of(cls, site: Site, result: VolumeResult, *, whole: bool) -> "_Objects":
        with site.catalog.read() as connection:
            known = verifications.holds_data(connection, result.barcode, result.at)
        found = cls(dict.fromkeys(Readability, 0), [], known)
        for each in objects_on(site, result) if known else ():
            found.counts[each.state] += 1
            if whole or each.state is not Readability.READABLE:
                found.listed.append(each)
        return found

    def as_dict(self) -> dict[str, Any]:
        rows = [asdict(each) | key_fields(each.key) for each in self.listed]
        counts: dict[str, Any] = {str(state): count for state, count in self.counts.items()}
        return {"known": self.known} | counts | {"listed": rows}

    def text(self, barcode: str) -> Iterator[RenderableType]:
        if not self.known:
            yield f"{barcode} was replaced or reclaimed since: its objects are not there any more."
            return
        if not sum(self.counts.values()):
            yield f"{barcode} holds parity, and no object."
            return
        counted = ", ".join(
            f"{count:,} {state.replace('_', ' ')}" for state, count in self.counts.items()
        )
        yield f"Objects on {barcode}: {counted}."
        if self.listed:
            yield table(
                ("state", "tape file", "member", "store", "object"),
                (
                    (each.state.replace("_", " "), each.file, each.member, each.store, _name(each))
                    for each in self.listed
                ),
            )


def _head(run: VerificationRun) -> dict[str, Any]:
    return {
        "run": run.id,
        "state": run.state,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "verdict": run.verdict,
    }


def _counts(verdicts: dict[Verdict, int]) -> dict[str, int]:
    return {
        "volumes": sum(verdicts.values()),
        "passed": verdicts.get(Verdict.PASSED, 0),
        "failed": verdicts.get(Verdict.FAILED, 0),
        "not_checked": verdicts.get(Verdict.NOT_CHECKED, 0),
    }


def _name(each: ObjectOnVolume) -> str:
    part = f" (part {each.part} of {each.parts})" if each.parts > 1 else ""
    return display_key(each.key) + part


def _problems(problems: Any) -> str:
    return "; ".join(
        " ".join(
            part
            for part in (
                None if each["file"] is None else f"tape file {each['file']}",
                each["member"],
                each["what"],
            )
            if part
        )
        for each in problems
    )
