"""Backup and restore against their peers: `python -m benchmarks.datapath [--json]`.

Each round gives every contender a fresh repository, one after the other, so that what else the
machine does in between hits all of them, and measures what each stage alone could do; the medians
over the rounds are reported.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.contenders import Borg, Contender, Pipe, Restic, Tapeflow, install, versions
from benchmarks.corpus import Corpus, Shape, make_corpus
from benchmarks.limits import limits
from benchmarks.measure import Cost

_HOME = Path(__file__).resolve().parent.parent / "var" / "bench"
_SEALING = ("sha256", "zstd -1", "age encrypt")
_BACKUP_STAGES = {"tapeflow": (*_SEALING, "parity 4+2", "disk write and read back, 4+2")}
_BARE_STAGES = (*_SEALING, "disk write")
_RESTORE_STAGES = ("sha256", "age decrypt", "disk write", "files made")
_SMALL = 64 << 10


@dataclass
class Series:
    """What one contender cost in each round."""

    name: str
    does: str
    backup: list[Cost] = field(default_factory=list)
    restore: list[Cost] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table or JSON, and return 0."""
    options = _options(arguments)
    _HOME.mkdir(parents=True, exist_ok=True)
    borg = install(_HOME)
    corpus = make_corpus(_HOME, Shape.scaled(options.scale))
    _tell(f"Corpus: {corpus.files:,} files, {corpus.size / 1e9:.2f} GB.")
    makers: dict[str, Callable[[Path], Contender]] = {
        "tapeflow": Tapeflow,
        "tapeflow bare": lambda folder: Tapeflow(
            folder,
            parity=0,
            read_back=False,
            name="tapeflow bare",
            does="as tapeflow, without parity and read-back",
        ),
        "restic": Restic,
        "borg": lambda folder: Borg(folder, borg),
        "tar|zstd|age": Pipe,
    }
    chosen = {name: maker for name, maker in makers.items() if name in (options.only or makers)}
    series, stages = _measure(corpus, chosen, options.rounds)
    result = {
        "machine": {"cores": os.cpu_count(), "processor": _processor(), "peers": versions(borg)},
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "corpus": {"files": corpus.files, "bytes": corpus.size},
        "rounds": options.rounds,
        "backup": rows(series, corpus, "backup", backup_limit(stages)),
        "restore": rows(series, corpus, "restore", lambda _: _slowest(stages, _RESTORE_STAGES)),
        "stages_alone": stages,
    }
    print(json.dumps(result, indent=2) if options.json else report(result))
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.datapath", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--rounds", type=int, default=3, help="how often each one runs (3)")
    parser.add_argument("--scale", type=float, default=1.0, help="part of the corpus (1.0)")
    parser.add_argument("--only", action="append", metavar="NAME", help="run just this one")
    return parser.parse_args(arguments)


def _measure(
    corpus: Corpus, makers: dict[str, Callable[[Path], Contender]], rounds: int
) -> tuple[list[Series], dict[str, float]]:
    found: dict[str, Series] = {}
    alone: list[dict[str, float]] = []
    root = _HOME / "run"
    shutil.rmtree(root, ignore_errors=True)
    for number in range(1, rounds + 1):
        for name, maker in makers.items():
            folder = root / f"{number}-{name.replace('|', '-')}"
            folder.mkdir(parents=True)
            contender = maker(folder)
            contender.prepare(corpus.folder)
            one = found.setdefault(contender.name, Series(contender.name, contender.does))
            one.backup.append(contender.backup(corpus.folder))
            one.restore.append(contender.restore())
            _check(corpus, contender.restored())
            _tell(
                f"round {number}, {one.name}: backup {one.backup[-1].seconds:.1f} s, "
                f"restore {one.restore[-1].seconds:.1f} s"
            )
            thin(folder)
        folder = root / f"{number}-alone"
        folder.mkdir()
        alone.append(limits(folder, corpus.folder))
        thin(folder)
    shutil.rmtree(root)
    stages = {name: statistics.median(one[name] for one in alone) for name in alone[0]}
    return list(found.values()), stages


def thin(folder: Path) -> None:
    """Remove the larger files, which are nearly all of the bytes; the others go at the end.

    For some minutes, ext4 passes over each inode that came free, one by one, whenever it makes a
    file; so who comes after 20,000 files were removed would pay for who was before.
    """
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size > _SMALL:
            path.unlink()


def _check(corpus: Corpus, folder: Path) -> None:
    """Refuse a result that did not bring every file back."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    if (len(sizes), sum(sizes)) != (corpus.files, corpus.size):
        raise SystemExit(f"{folder} holds {len(sizes)} files, not the {corpus.files} of the corpus")


def backup_limit(stages: Mapping[str, float]) -> Callable[[str], float]:
    """Return what gives, by contender, the rate of the slowest stage that its backup needs."""
    return lambda name: _slowest(stages, _BACKUP_STAGES.get(name, _BARE_STAGES))


def _slowest(stages: Mapping[str, float], names: Sequence[str]) -> float:
    return min(stages[name] for name in names)


def rows(
    series: Sequence[Series], corpus: Corpus, what: str, limit: Callable[[str], float]
) -> list[dict[str, Any]]:
    """Return what each contender did in MB/s of source data, set against the others."""
    found: list[dict[str, Any]] = []
    for one in series:
        costs: list[Cost] = getattr(one, what)
        found.append(
            {
                "name": one.name,
                "mb_per_s": corpus.size / 1e6 / statistics.median(cost.seconds for cost in costs),
                "peak_mb": statistics.median(cost.peak for cost in costs) / 1e6,
                "cpu_s_per_gb": statistics.median(cost.cpu for cost in costs) / corpus.size * 1e9,
                "seconds": [round(cost.seconds, 2) for cost in costs],
                "does": one.does,
            }
        )
    peers = [row["mb_per_s"] for row in found if not row["name"].startswith("tapeflow")]
    for row in found:
        row["to_fastest_peer"] = row["mb_per_s"] / max(peers) if peers else None
        row["to_limit"] = row["mb_per_s"] / limit(row["name"])
    return found


def report(result: dict[str, Any]) -> str:
    """Return a result as a text with tables."""
    machine = result["machine"]
    title = (
        f"{result['measured_at'][:10]}, {machine['cores']} cores of {machine['processor']}; "
        f"{result['corpus']['files']:,} files, {result['corpus']['bytes'] / 1e9:.2f} GB; "
        f"medians of {result['rounds']} rounds"
    )
    lines = [title]
    for what in ("backup", "restore"):
        lines += [
            "",
            f"| {what} | MB/s | to fastest peer | to limit | peak MB | CPU s/GB |",
            "|---|--:|--:|--:|--:|--:|",
        ]
        for row in result[what]:
            ratio = "" if row["to_fastest_peer"] is None else f"{row['to_fastest_peer']:.2f}"
            lines.append(
                f"| {row['name']} | {row['mb_per_s']:.0f} | {ratio} | {row['to_limit']:.0%} "
                f"| {row['peak_mb']:.0f} | {row['cpu_s_per_gb']:.1f} |"
            )
    lines += ["", "What each does:"]
    lines += [f"- {row['name']}: {row['does']}" for row in result["backup"]]
    lines += ["", "One stage alone on all cores, MB/s of source data:"]
    lines += [f"- {name}: {rate:.0f}" for name, rate in result["stages_alone"].items()]
    return "\n".join(lines)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _tell(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
