import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from restore_lib.catalog.drills import Drill
from restore_lib.catalog.requests import Request
from restore_lib.drills.evidence import (
    Measures,
    Restored,
    evidence_of,
    measure,
    verdict_of,
    write_evidence,
)
from restore_lib.errors import ConfigError
from restore_lib.model.states import DrillState, Overwrite, Priority, RequestState
from restore_lib.model.verdict import Verdict
from restore_lib.model.volume import Reason

AT = datetime(2030, 1, 1, tzinfo=UTC)
IN_TIME = Measures(10, 20, 30, 40)


def restored(verdict: str, minutes: int = 1, **report: Any) -> Restored:
    request = Request(
        id=1,
        store="live",
        target="scratch",
        overwrite=Overwrite.ALWAYS,
        source={"names": 3},
        incident_id=None,
        rp_id=1,
        reason=Reason.DRILL,
        actor="drill 1",
        state=RequestState.ENDED,
        priority=Priority.NORMAL,
        at_once=None,
        created_at=AT,
        finished_at=AT + timedelta(minutes=minutes),
        plan=None,
        verdict=verdict,
        report=None,
    )
    shown = {"verdict": verdict, "counts": {"asked": 3, "verified": 2}, "batches": []} | report
    return Restored(request, shown, Path("/reports/restore-1.json"))


def drill(**evidence: Any) -> Drill:
    begun = {"rto": 600.0, "rpo": 3600.0, "age": 1800.0, "seed": 9} | evidence
    return Drill(1, "monthly", DrillState.ACTIVE, AT, None, (1, 2), begun, None)


def test_the_slowest_restore_counts() -> None:
    measures = measure(drill(), [restored("passed", 3), restored("passed", 9)])
    assert measures == Measures(540.0, 600.0, 1800.0, 3600.0)
    assert measures.met


@pytest.mark.parametrize(
    "measures", [Measures(601, 600, 0, 10), Measures(0, 600, 11, 10), Measures(601, 600, 11, 10)]
)
def test_an_objective_that_is_missed_fails(measures: Measures) -> None:
    assert not measures.met
    assert verdict_of([restored("passed")], measures) is Verdict.FAILED
    assert not all(value for name, value in measures.as_dict().items() if name.endswith("met"))


@pytest.mark.parametrize(
    ("verdicts", "verdict"),
    [
        (["passed", "passed"], Verdict.PASSED),
        (["passed", "partial"], Verdict.FAILED),
        (["passed", "failed"], Verdict.FAILED),
        (["passed", "not_checked"], Verdict.FAILED),
        (["not_checked", "not_checked"], Verdict.NOT_CHECKED),
        (["failed"], Verdict.FAILED),
    ],
)
def test_the_verdict_is_that_of_all_restores(verdicts: list[str], verdict: Verdict) -> None:
    assert verdict_of([restored(one) for one in verdicts], IN_TIME) is verdict


def test_evidence_says_what_was_done(tmp_path: Path) -> None:
    read = {"started_at": "2030", "volumes": ["B2", "A1"]}
    unread = {"started_at": None, "volumes": ["C3"]}
    restores = [restored("passed", batches=[read, unread]), restored("passed")]
    evidence = evidence_of(drill(), restores, IN_TIME, Verdict.PASSED, 7)
    path = write_evidence(tmp_path / "new", evidence)
    kept = json.loads(path.read_text())
    assert path.name == "drill-1.json"
    assert kept == evidence
    assert (kept["format"], kept["seed"], kept["verdict"]) == (1, 9, "passed")
    assert kept["objects"] == {"asked": 6, "verified": 4}
    assert kept["volumes"] == ["A1", "B2"]
    assert kept["deleted_from_scratch"] == 7
    assert kept["measures"]["rto_met"]


def test_a_folder_that_takes_no_files_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"drill-1\.json"):
        write_evidence(tmp_path / "file", {"drill": 1})
