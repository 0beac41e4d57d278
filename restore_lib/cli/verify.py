"""`tapeflow verify`: volumes are read again and compared with what was written."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from restore_lib.catalog import verifications
from restore_lib.catalog.verifications import VolumeResult
from restore_lib.cli.crew import Crew
from restore_lib.cli.output import EXIT_CODES, size_text, table
from restore_lib.cli.session import DryRun, Json, group, opened
from restore_lib.integrity.readable import ObjectOnVolume, Readability, objects_on
from restore_lib.integrity.verify_media import (
    begin_verification,
    finish_verification,
    plan_verification,
    verify_volume,
)
from restore_lib.model.objects import display_key, key_fields
from restore_lib.model.verdict import Verdict
from restore_lib.site import Site

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
    objects: Annotated[
        bool, typer.Option("--objects", help="List the readable objects of damaged volumes too.")
    ] = False,
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
        with session.site.catalog.read() as connection:
            results = verifications.results(connection, run_id)
        found = {
            result.barcode: _Objects.of(session.site, result, whole=objects)
            for result in results
            if result.verdict is Verdict.FAILED
        }
        session.show(
            {
                "run": run_id,
                "verdict": verdict,
                "volumes": results,
                "objects": {barcode: each.as_dict() for barcode, each in found.items()},
            },
            table(
                ("volume", "verdict", "tape files", "size", "problems"),
                (
                    (r.barcode, r.verdict, r.files, size_text(r.bytes), _text(r.problems))
                    for r in results
                ),
            ),
            *(part for barcode, each in found.items() for part in each.text(barcode)),
            f"Verification {run_id}: {verdict}.",
        )
        raise typer.Exit(EXIT_CODES[verdict])


@dataclass
class _Objects:
    """The objects on a damaged volume: how many in which state, and those to be listed."""

    counts: dict[Readability, int]
    listed: list[ObjectOnVolume]

    @classmethod
    def of(cls, site: Site, result: VolumeResult, *, whole: bool) -> "_Objects":
        found = cls(dict.fromkeys(Readability, 0), [])
        for each in objects_on(site, result):
            found.counts[each.state] += 1
            if whole or each.state is not Readability.READABLE:
                found.listed.append(each)
        return found

    def as_dict(self) -> dict[str, Any]:
        rows = [asdict(each) | key_fields(each.key) for each in self.listed]
        counts: dict[str, Any] = {str(state): count for state, count in self.counts.items()}
        return counts | {"listed": rows}

    def text(self, barcode: str) -> Iterator[RenderableType]:
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


def _name(each: ObjectOnVolume) -> str:
    part = f" (part {each.part} of {each.parts})" if each.parts > 1 else ""
    return display_key(each.key) + part


def _text(problems: Any) -> str:
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
