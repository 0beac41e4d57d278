"""Restores as people read them: what was asked for, the plan, how far they are."""

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType

from restore_lib.catalog.requests import Request
from restore_lib.cli.output import as_text, count_text, duration_text, facts, size_text, table
from restore_lib.restore.request import RestorePlan

NAMED = 20
"""So many objects of a kind are named on the terminal; the report has all."""


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
                f"within {duration_text(estimate['p95_seconds'])}{_experience(estimate)}",
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
        *(f"can't be restored: {name}" for name in detail["unrestorable"][:NAMED]),
    )


def _experience(estimate: Mapping[str, Any]) -> str:
    if not (earlier := len(estimate.get("learned_from", ()))):
        return "; no restore has shown yet how fast this plant is"
    return f"; by what {count_text(earlier, 'earlier restore')} showed"


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
    return f"{count_text(count, 'volume')}: {risk} without, {left:.2%} with them"


def ends(seen: Mapping[str, Any]) -> dict[str, Any]:
    """Return when a restore ends by its ``outlook``, nothing where it has ended."""
    if seen["ends_at"] is None:
        return {}
    return {"ends, by now": seen["ends_at"], "95 of 100 by": seen["p95_ends_at"]}


def stages(found: Mapping[str, Mapping[str, float | None]]) -> RenderableType:
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


def asked_for(request: Request) -> str:
    """Return what a request is of."""
    if request.source.get("prefix") == "":
        return f"everything, recovery_point {request.rp_id}"
    return ", ".join(f"{name} {as_text(value)}" for name, value in request.source.items())


def head(request: Request) -> dict[str, Any]:
    """Return a request as its fields, without its plan."""
    return {
        "request": request.id,
        "store": request.store,
        "target": request.target,
        "of": asked_for(request),
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
