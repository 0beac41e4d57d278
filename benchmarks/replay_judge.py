"""What came of the 2012 replay: counts, every object compared, and times beside those of 2012."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from benchmarks.forecast_2012 import FACTS
from benchmarks.replay_place import Scale, body_of, key_of, names_in, never_key
from benchmarks.replay_run import RESTORE, SCAN, Run

RESTORE_BAR = 25 * 60.0
PLAN_BAR = 15.0
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of the stages; ``restore`` goes from the loss being found to the report.

    What begins with ``until`` counts from when the loss was found. ``after_first`` is the share of
    objects that were back when the second shipment came.
    """

    scan: float
    plan: float
    until_first_shipment: float
    import_first: float
    until_second_shipment: float | None
    rebuild: float | None
    until_last_read: float
    restore: float
    after_first: float


def judge(run: Run) -> dict[str, Any]:
    """Return what was found as JSON can hold it; ``complaints`` is empty when all holds."""
    report = run.report()
    times = times_of(run.tasks, run.found_at(), report)
    done = [batch for batch in report["batches"] if batch["ended_at"]]
    reading = _span(batch["started_at"] for batch in done), _span(b["ended_at"] for b in done)
    seconds = (reading[1][1] - reading[0][0]).total_seconds()
    cpu = {name: round(spent, 1) for name, spent in run.cpu.items()}
    bars = {
        f"restore within {RESTORE_BAR / 60:.0f} minutes": times.restore <= RESTORE_BAR,
        f"planned within {PLAN_BAR:.0f} seconds": times.plan <= PLAN_BAR,
    }
    complaints = [
        *complaints_of(run.place.scale, report, run.omitted, run.bad),
        *differences(run),
        *(f"not {name}" for name, met in bars.items() if not met),
    ]
    return {
        "sets": run.place.scale.sets,
        "starts": run.starts,
        "counts": report["counts"],
        "verdict": report["verdict"],
        "volumes": {name: len(found) for name, found in report["volumes"].items()},
        "batches": len(report["batches"]),
        "waves": run.waves,
        "times": {name: getattr(times, name) for name in times.__slots__},
        "batches_per_second": round(len(done) / seconds, 2),
        "cpu_seconds": cpu,
        "cpu_seconds_per_batch": round(sum(cpu.values()) / len(done), 3),
        "estimate": report["estimate"],
        "bars": bars,
        "complaints": complaints,
    }


def times_of(
    tasks: Mapping[str, Sequence[Mapping[str, Any]]], found_at: str, report: Mapping[str, Any]
) -> Times:
    """Return how long which stage took."""
    found = datetime.fromisoformat(found_at)

    def since(moment: datetime) -> float:
        return round((moment - found).total_seconds(), 1)

    def task(dag_id: str, task_id: str) -> tuple[datetime, datetime]:
        [one] = [t for t in tasks[dag_id] if t["task_id"] == task_id]
        return datetime.fromisoformat(one["start_date"]), datetime.fromisoformat(one["end_date"])

    def took(span: tuple[datetime, datetime]) -> float:
        return round((span[1] - span[0]).total_seconds(), 1)

    shipments = [s for s in report["shipments"] if s["arrived_at"] and s["reason"] == "restore"]
    first = _span(s["arrived_at"] for s in shipments if s["round"] == 0)[1]
    later = [s["arrived_at"] for s in shipments if s["round"] > 0]
    batches = [batch for batch in report["batches"] if batch["ended_at"]]
    gathers = [batch for batch in batches if batch["kind"] == "gather"]
    early = datetime.max.replace(tzinfo=found.tzinfo) if not later else _span(later)[0]
    back = [b["restored"] for b in batches if datetime.fromisoformat(b["ended_at"]) < early]
    return Times(
        scan=took(task(SCAN, "scan")),
        plan=took(task(RESTORE, "plan")),
        until_first_shipment=since(first),
        import_first=took((first, _span(b["started_at"] for b in batches)[0])),
        until_second_shipment=since(_span(later)[1]) if later else None,
        rebuild=took(
            (_span(b["started_at"] for b in gathers)[0], _span(b["ended_at"] for b in gathers)[1])
        )
        if gathers
        else None,
        until_last_read=since(_span(b["ended_at"] for b in batches)[1]),
        restore=since(task(RESTORE, "report")[1]),
        after_first=round(sum(back) / max(1, report["counts"]["restored"]), 3),
    )


def complaints_of(
    scale: Scale, report: Mapping[str, Any], omitted: Sequence[str], bad: Sequence[str]
) -> list[str]:
    """Return which counts are not those that were laid out, and who is not named."""
    counts, volumes = report["counts"], report["volumes"]
    named = {row["key"] for row in report["names"]["never_backed_up"]}
    wanted = {never_key(number).decode() for number in range(scale.never)}
    expected = {
        "objects on tape": (counts["on_tape"], scale.objects),
        "objects restored": (counts["restored"], scale.objects),
        "objects verified": (counts["verified"], scale.objects),
        "objects never backed up": (counts["never_backed_up"], scale.never),
        "objects unrestorable": (counts["unrestorable"], scale.never),
        "names of these": (len(named), scale.never),
        "volumes left out": (volumes["omitted"], list(omitted)),
        "unreadable volumes": (volumes["bad"], list(bad)),
        "verdict": (report["verdict"], "partial"),
    }
    found = [f"{what}: {is_} instead of {ought}" for what, (is_, ought) in expected.items()
             if is_ != ought]  # fmt: skip
    if strangers := named ^ wanted:
        found.append(f"{len(strangers)} names of the report are not those that were lost")
    if len(volumes["recalled"]) < scale.data_volumes:
        found.append(f"only {len(volumes['recalled'])} volumes were recalled")
    if not counts["rebuilt_from_parity"]:
        found.append("no object was rebuilt from parity")
    return found


def differences(run: Run) -> list[str]:
    """Compare every object in the store, byte by byte, with what it was; name what differs."""
    scale, store = run.place.scale, os.fsencode(run.place.store)
    wrong: list[str] = []
    there = 0
    for number in range(scale.objects):
        name = key_of(number)
        try:
            with open(os.path.join(store, name), "rb") as file:  # noqa: PTH118, PTH123 - many
                content: bytes | None = file.read()
                there += 1
        except FileNotFoundError:
            content = None
        if content != body_of(number):
            wrong.append(f"{name.decode()} {'is gone' if content is None else 'differs'}")
    more = sum(1 for _ in names_in(run.place.store)) - there
    listed = wrong[:_SHOWN] + ([f"{len(wrong)} objects in all"] if len(wrong) > _SHOWN else [])
    return [*listed, *([f"{more} objects too many"] if more else [])]


def shown(found: Mapping[str, Any]) -> str:
    """Return what was found as a table, beside 2012."""
    times, counts, volumes = found["times"], found["counts"], found["volumes"]
    second, rebuild = times["until_second_shipment"], times["rebuild"]
    rows = [
        ("objects on tape, verified", f"{counts['verified']:,}", f"{FACTS['objects_on_tape']:,}"),
        (
            "never backed up, named",
            f"{counts['never_backed_up']:,}",
            f"{FACTS['objects_lost_before_backup']:,}",
        ),
        ("volumes recalled", f"{volumes['recalled']:,}", f"{FACTS['tapes_recalled']:,}"),
        (
            "left out of the first shipment",
            f"{volumes['omitted']:,}",
            f"{FACTS['tapes_omitted_from_first_shipment']:,}",
        ),
        ("unreadable", f"{volumes['bad']:,}", f"{FACTS['bad_tapes']:,}"),
        ("rebuilt from parity", f"{counts['rebuilt_from_parity']:,}", ""),
        ("batches", f"{found['batches']:,}", f"{FACTS['restore_jobs']:,}"),
        ("scan for loss", _clock(times["scan"]), "1 day"),
        ("plan", _clock(times["plan"]), f"{FACTS['plan_hours']} h"),
        ("first shipment there", _clock(times["until_first_shipment"]), ""),
        ("loaded", _clock(times["import_first"]), f"{FACTS['hand_loading_hours']} h"),
        ("second shipment there", _clock(second), ""),
        ("back by then", f"{times['after_first']:.0%}", f"{FACTS['percent_back_after_first']}%"),
        ("rebuilding", _clock(rebuild), ""),
        ("last object back", _clock(times["until_last_read"]), f"{FACTS['restore_days']} days"),
        ("from the loss found to the report", _clock(times["restore"]), ""),
        ("batches a second", f"{found['batches_per_second']:.2f}", ""),
        ("CPU seconds a batch", f"{found['cpu_seconds_per_batch']:.3f}", ""),
    ]
    lines = [f"{'':34} {'here':>10} {'2012':>10}"]
    lines += [f"{name:34} {here:>10} {then:>10}" for name, here, then in rows]
    lines.append("CPU: " + ", ".join(f"{name} {s:.0f}" for name, s in found["cpu_seconds"].items()))
    lines += [f"{'met   ' if met else 'MISSED'}  {bar}" for bar, met in found["bars"].items()]
    lines += [f"WRONG   {complaint}" for complaint in found["complaints"]]
    return "\n".join(lines)


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"


def _span(moments: Iterable[str]) -> tuple[datetime, datetime]:
    found = sorted(map(datetime.fromisoformat, moments))
    return found[0], found[-1]
