import fcntl
import os
import signal
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer

from restore_lib.cli import executing
from restore_lib.cli.executing import execute
from restore_lib.cli.session import Session
from restore_lib.errors import CourierUnavailable, RetryLater
from restore_lib.library.faults import Faults, write_faults
from restore_lib.model.states import Overwrite
from restore_lib.restore import flow
from restore_lib.restore.claiming import claim
from restore_lib.restore.pausing import pause_restore, resume_restore
from restore_lib.restore.request import RestoreSpec, plan_restore, start_restore
from restore_lib.site import Site
from restore_lib.workers import Workers
from tests.support.commands import FILES
from tests.support.sites import digests, image, open_site

LONG = timedelta(minutes=2)
GO_ON = "tapeflow go on"


def ask(site: Site, *, prefix: bytes = b"") -> int:
    spec = RestoreSpec(store="live", prefix=prefix, target="out", overwrite=Overwrite.ALWAYS)
    plan = plan_restore(site, spec, "ann")
    assert plan.request_id is not None
    start_restore(site, plan.request_id, "ann")
    return plan.request_id


def test_several_restores_run_together(cluster: Path) -> None:
    session = Session(open_site(cluster), as_json=False)
    ids = [ask(session.site, prefix=b"d1/"), ask(session.site, prefix=b"d2/")]
    execute(session, ids, LONG, go_on=GO_ON)
    assert all(flow.is_ended(session.site, one) for one in ids)
    assert len(digests(cluster / "out")) == 24


@pytest.fixture
def _always_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executing, "_WORTH_PROCESSES", 0)


@pytest.mark.usefixtures("_always_aside")
def test_batches_run_in_processes_of_their_own(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAPEFLOW__RESTORE__BATCH_OBJECTS", "10")
    monkeypatch.setattr(executing, "run_batch", lambda *_: pytest.fail("it ran in this process"))
    session = Session(open_site(cluster), as_json=False)
    request = ask(session.site)
    execute(session, [request], LONG, go_on=GO_ON)
    assert len(digests(cluster / "out")) == len(FILES)


@pytest.mark.usefixtures("_always_aside")
def test_what_a_process_cant_read_is_planned_again(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAPEFLOW__RESTORE__BATCH_OBJECTS", "10")
    session = Session(open_site(cluster), as_json=False)
    said: list[str] = []
    session.say = said.append  # type: ignore[method-assign,assignment]  # to hear it
    write_faults(image(session.site, "TF0000L9"), Faults(unreadable_blocks=((1, 2, 2),)))
    execute(session, [ask(session.site)], LONG, go_on=GO_ON)
    assert any(line.startswith("Planned again") for line in said)
    assert len(digests(cluster / "out")) == len(FILES)


@pytest.mark.usefixtures("_always_aside")
def test_ctrl_c_ends_the_processes_at_their_next_object(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAPEFLOW__RESTORE__BATCH_OBJECTS", "10")
    session = Session(open_site(cluster), as_json=False)
    session.say = lambda _: None  # type: ignore[method-assign,assignment]  # quiet
    request = ask(session.site)
    submit = Workers.submit
    once = iter([signal.SIGINT])

    def pressed(self: Workers, *args: Any, **values: Any) -> Any:
        for number in once:
            os.kill(os.getpid(), number)
        return submit(self, *args, **values)

    with monkeypatch.context() as patch:
        patch.setattr(Workers, "submit", pressed)
        with pytest.raises(typer.Exit) as raised:
            execute(session, [request], LONG, go_on=GO_ON)
    assert raised.value.exit_code == 130
    execute(session, [request], LONG, go_on=GO_ON)
    assert flow.is_ended(session.site, request)
    assert len(digests(cluster / "out")) == len(FILES)


def test_one_works_and_the_other_waits_for_it(cluster: Path) -> None:
    said: list[str] = []
    sites = [open_site(cluster), open_site(cluster)]
    ids = [ask(sites[0], prefix=b"d1/"), ask(sites[0], prefix=b"d2/")]

    def work(site: Site, one: int) -> None:
        session = Session(site, as_json=False)
        session.say = said.append  # type: ignore[method-assign,assignment]  # to hear it
        execute(session, [one], LONG, go_on=GO_ON)

    with (sites[0].staging / "restoring.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        threads = [
            threading.Thread(target=work, args=pair) for pair in zip(sites, ids, strict=True)
        ]
        for thread in threads:
            thread.start()
        while len([line for line in said if "Another tapeflow" in line]) < 2:
            threading.Event().wait(0.01)
    for thread in threads:
        thread.join()
    assert all(flow.is_ended(sites[0], one) for one in ids)
    assert len(digests(cluster / "out")) == 24


def test_a_courier_that_is_away_is_waited_for(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(open_site(cluster), as_json=False)
    request = ask(session.site)
    real, calls = flow.advance, []

    def advance(site: Site, actor: str) -> flow.Advance:
        calls.append(actor)
        if len(calls) < 3:
            raise CourierUnavailable("The van is away.")
        return real(site, actor)

    monkeypatch.setattr(flow, "advance", advance)
    execute(session, [request], LONG, go_on=GO_ON)
    assert len(digests(cluster / "out")) == len(FILES)


def test_batches_that_another_has_are_told_of_once_and_come_free_by_a_pause(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(open_site(cluster), as_json=False)
    said: list[str] = []
    session.say = said.append  # type: ignore[method-assign,assignment]  # to hear it
    request = ask(session.site)
    assert claim(session.site, "airflow:restore_wave/run 1")
    real = flow.advance

    def advance(site: Site, actor: str) -> flow.Advance:
        done = real(site, actor)
        done.problems.append(CourierUnavailable("The van is away."))
        return done

    with monkeypatch.context() as patch:
        patch.setattr(flow, "advance", advance)
        patch.setattr(executing, "_SHORTEST_POLL", 0.01)
        with pytest.raises(RetryLater, match="The time is over"):
            execute(session, [request], timedelta(seconds=0.1), go_on=GO_ON)
    away, held = said
    assert away.startswith("The van is away.")
    assert held.startswith("Batches are with airflow:restore_wave. If it is dead")
    pause_restore(session.site, request, "ann")
    resume_restore(session.site, request, "ann")
    execute(session, [request], LONG, go_on=GO_ON)
    assert len(said) == 2
    assert len(digests(cluster / "out")) == len(FILES)


def test_after_the_timeout_it_says_how_to_go_on(cluster: Path) -> None:
    session = Session(open_site(cluster), as_json=False)
    request = ask(session.site)
    with (session.site.staging / "restoring.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RetryLater, match="The time is over") as raised:
            execute(session, [request], timedelta(), go_on=GO_ON)
    assert raised.value.remedy == f"to go on where it was: `{GO_ON}`"
    assert not flow.is_ended(session.site, request)
