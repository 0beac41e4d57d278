"""What a drill showed: its restores measured against the policy's objectives, kept as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restore_lib.catalog.drills import Drill
from restore_lib.catalog.requests import Request
from restore_lib.model.verdict import Verdict
from restore_lib.restore.report import write_document

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Restored:
    """One restore of a drill with its report, and where that is."""

    request: Request
    report: Mapping[str, Any]
    path: Path


@dataclass(frozen=True, slots=True)
class Measures:
    """Seconds a drill took (RTO), and the age of its recovery point when it began (RPO)."""

    rto_seconds: float
    rto_objective_seconds: float
    rpo_seconds: float
    rpo_objective_seconds: float

    @property
    def met(self) -> bool:
        """Whether both objectives are met."""
        return (
            self.rto_seconds <= self.rto_objective_seconds
            and self.rpo_seconds <= self.rpo_objective_seconds
        )

    def as_dict(self) -> dict[str, Any]:
        """Return them as JSON can hold them, each with whether it is met."""
        return {
            "rto_seconds": self.rto_seconds,
            "rto_objective_seconds": self.rto_objective_seconds,
            "rto_met": self.rto_seconds <= self.rto_objective_seconds,
            "rpo_seconds": self.rpo_seconds,
            "rpo_objective_seconds": self.rpo_objective_seconds,
            "rpo_met": self.rpo_seconds <= self.rpo_objective_seconds,
        }


def measure(drill: Drill, restores: Sequence[Restored]) -> Measures:
    """Measure a drill whose restores have ended, against the objectives of when it began."""
    ends = [one.request.finished_at for one in restores if one.request.finished_at is not None]
    took = max(ends) - drill.started_at
    return Measures(
        took.total_seconds(),
        float(drill.evidence["rto"]),
        float(drill.evidence["age"]),
        float(drill.evidence["rpo"]),
    )


def verdict_of(restores: Sequence[Restored], measures: Measures) -> Verdict:
    """Return PASSED if all came back verified in time, NOT_CHECKED if nothing came back at all."""
    verdicts = {Verdict(one.report["verdict"]) for one in restores}
    if verdicts == {Verdict.NOT_CHECKED}:
        return Verdict.NOT_CHECKED
    return Verdict.PASSED if verdicts == {Verdict.PASSED} and measures.met else Verdict.FAILED


def evidence_of(
    drill: Drill, restores: Sequence[Restored], measures: Measures, verdict: Verdict, cleaned: int
) -> dict[str, Any]:
    """Return all that a drill showed, as JSON can hold it; times are RFC 3339 in UTC."""
    asked = sum(one.report["counts"]["asked"] for one in restores)
    verified = sum(one.report["counts"]["verified"] for one in restores)
    return {
        "format": FORMAT,
        "drill": drill.id,
        "started_at": drill.started_at.isoformat(),
        **drill.evidence,
        "verdict": str(verdict),
        "measures": measures.as_dict(),
        "objects": {"asked": asked, "verified": verified},
        "volumes": _volumes(restores),
        "requests": [
            {
                "id": one.request.id,
                "source": dict(one.request.source),
                "verdict": one.report["verdict"],
                "counts": one.report["counts"],
                "report": str(one.path),
            }
            for one in restores
        ],
        "deleted_from_scratch": cleaned,
    }


def write_evidence(folder: Path, evidence: Mapping[str, Any]) -> Path:
    """Write evidence as ``drill-<id>.json`` into ``folder``, whole or not at all.

    Raises DiskFull or ConfigError when the folder takes no files.
    """
    path = folder / f"drill-{evidence['drill']}.json"
    text = json.dumps(evidence, ensure_ascii=False, indent=1) + "\n"
    write_document(path, text)
    return path


def _volumes(restores: Sequence[Restored]) -> list[str]:
    """Return the barcodes that were read."""
    return sorted(
        {
            barcode
            for one in restores
            for batch in one.report["batches"]
            if batch["started_at"] is not None
            for barcode in batch["volumes"]
        }
    )
