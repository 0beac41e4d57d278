"""The replay of 2012 in small: begun, killed, taken up, and that its judge sees what is wrong."""

import json
import multiprocessing
import os
import signal
from contextlib import closing
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from benchmarks import replay_2012
from benchmarks.forecast_2012 import FACTS
from benchmarks.replay_judge import complaints_of, differences, judge, shown, times_of
from benchmarks.replay_place import FULL, Place, Scale, body_of, key_of, never_key
from benchmarks.replay_run import Run
from demo.airflow_settings import Tuning
from restore_lib.catalog.tables import batches
from restore_lib.errors import TapeflowError
from restore_lib.model.states import BatchState
from tests.support.airflow_env import LOSS_TIMEOUT
from tests.support.airflow_line import until

SETS = 3
TUNING = Tuning(parallelism=4, loss_timeout=LOSS_TIMEOUT)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a place of three sets in it."""
    home = tmp_path_factory.mktemp("replay")
    Place(home / f"replay-2012-{SETS}" / "place", Scale(SETS)).build()
    return home


@pytest.fixture(scope="module")
def run(home: Path) -> Run:
    """A run that was killed in the middle, and then brought to its end."""
    folder = home / f"replay-2012-{SETS}"
    first = multiprocessing.get_context("spawn").Process(target=_go, args=(folder,))
    first.start()
    until(lambda: _done(folder / "run") > 0 or not first.is_alive(), timeout=120)
    assert first.is_alive()
    os.kill(first.pid or 0, signal.SIGKILL)
    first.join()
    taken_up = Run(Place(folder / "place", Scale(SETS)), folder / "run", TUNING)
    assert not taken_up.is_over
    taken_up.go()
    return taken_up


def _go(folder: Path) -> None:
    Run(Place(folder / "place", Scale(SETS)), folder / "run", TUNING).go()


def _done(folder: Path) -> int:
    ended = select(func.count()).where(batches.c.state == BatchState.DONE)
    if not folder.exists():
        return 0
    try:
        with closing(Place(folder, Scale(SETS)).site()) as site, site.catalog.read() as connection:
            return int(connection.execute(ended).scalar_one())
    except TapeflowError:
        return 0


def test_a_place_that_was_killed_while_it_was_built_is_built_on(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path / "place", Scale(1))

    ready = [place.is_ready]

    def killed(_self: Place) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Place, "_vault", killed)
        with pytest.raises(KeyboardInterrupt):
            place.build()
    ready.append(place.is_ready)
    again = place.build()
    assert [*ready, place.is_ready] == [False, False, True]
    assert again.keys() == {"furnish", "fill", "back_up", "vault", "lose"}
    assert len(place.data_volumes()) == 9
    assert len(list(place.tapes.glob("vault-*/*.tap"))) == 11
    assert list(place.store.iterdir()) == []


def test_all_is_back_after_a_kill_and_the_rest_is_named(run: Run) -> None:
    found = judge(run)
    assert found["complaints"] == []
    assert found["starts"] == 2
    assert found["counts"]["verified"] == Scale(SETS).objects == 2206
    assert found["counts"]["never_backed_up"] == Scale(SETS).never == 815
    assert found["volumes"]["omitted"] == Scale(SETS).omitted == 9
    assert found["volumes"]["bad"] == 1
    assert found["verdict"] == "partial"
    assert "MISSED" not in shown(found)
    assert found["times"]["plan"] > 0


def test_a_run_that_is_over_is_judged_again_and_removed(
    run: Run, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay_2012.main(["--sets", str(SETS), "--home", str(home), "--json", "--keep"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["complaints"] == []
    assert json.loads((run.folder / "judged").read_text()) == found


def test_what_is_not_as_it_was_is_named(run: Run) -> None:
    store = run.place.store
    first, second = (store / key_of(number).decode() for number in (5, 6))
    first.write_bytes(b"another")
    second.unlink()
    (store / "stray").touch()
    try:
        assert differences(run) == [
            f"{key_of(5).decode()} differs",
            f"{key_of(6).decode()} is gone",
            "1 objects too many",
        ]
    finally:
        first.write_bytes(body_of(5))
        second.write_bytes(body_of(6))
        (store / "stray").unlink()
    assert differences(run) == []


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("counts", "verified"), 2205, "objects verified: 2205 instead of 2206"),
        (("counts", "never_backed_up"), 1, "objects never backed up: 1 instead of 815"),
        (("counts", "rebuilt_from_parity"), 0, "no object was rebuilt from parity"),
        (("volumes", "recalled"), [], "only 0 volumes were recalled"),
        (("volumes", "bad"), [], "unreadable volumes: [] instead of"),
        (("names", "never_backed_up"), [{"key": "x"}], "816 names of the report"),
        (("verdict",), "passed", "verdict: passed instead of partial"),
    ],
)
def test_a_count_that_is_wrong_is_told(
    run: Run, path: tuple[str, ...], value: object, complaint: str
) -> None:
    report: dict[str, Any] = deepcopy(run.report())
    assert complaints_of(run.place.scale, report, run.omitted, run.bad) == []
    *above, last = path
    place = report
    for name in above:
        place = place[name]
    place[last] = value
    told = complaints_of(run.place.scale, report, run.omitted, run.bad)
    assert any(one.startswith(complaint) for one in told), told


def test_times_count_from_when_the_loss_was_found() -> None:
    def at(second: int) -> str:
        return f"2012-03-07T00:{second // 60:02}:{second % 60:02}Z"

    def shipment(round_: int, arrived: int, reason: str = "restore") -> dict[str, Any]:
        return {"round": round_, "arrived_at": at(arrived), "reason": reason}

    def batch(kind: str, start: int, end: int, restored: int) -> dict[str, Any]:
        return {"kind": kind, "started_at": at(start), "ended_at": at(end), "restored": restored}

    def task(name: str, start: int, end: int) -> dict[str, Any]:
        return {"task_id": name, "start_date": at(start), "end_date": at(end)}

    tasks = {
        "loss_scan": [task("scan", 0, 60)],
        "restore": [task("plan", 62, 70), task("report", 500, 510)],
    }
    report = {
        "shipments": [shipment(0, 100), shipment(1, 200), shipment(0, 300, "redundancy")],
        "batches": [
            batch("read", 120, 150, 74),
            batch("read", 220, 250, 20),
            batch("gather", 310, 400, 6),
        ],
        "counts": {"restored": 100},
    }
    times = times_of(tasks, at(60), report)
    assert (times.scan, times.plan, times.restore) == (60, 8, 450)
    assert (times.until_first_shipment, times.import_first) == (40, 20)
    assert (times.until_second_shipment, times.after_first) == (140, 0.74)
    assert (times.rebuild, times.until_last_read) == (90, 340)


def test_full_size_is_that_of_2012() -> None:
    full = Scale(FULL)
    assert (FULL, full.data_volumes) == (593, FACTS["tapes_recalled"])
    assert full.objects == FACTS["objects_on_tape"]
    assert full.never == FACTS["objects_lost_before_backup"]
    assert full.omitted == FACTS["tapes_omitted_from_first_shipment"]
    assert full.bad == FACTS["bad_tapes"]
    assert len({never_key(number) for number in range(full.never)}) == full.never
    assert len({key_of(number).split(b"/")[0] for number in range(full.objects)}) == 21_000
