import fcntl
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from restore_lib.cli.executing import execute
from restore_lib.cli.session import Session
from restore_lib.errors import CourierUnavailable, RetryLater
from restore_lib.model.states import Overwrite
from restore_lib.restore import flow
from restore_lib.restore.request import RestoreSpec, plan_restore, start_restore
from restore_lib.site import Site
from tests.support.commands import FILES
from tests.support.sites import digests, open_site

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


def test_after_the_timeout_it_says_how_to_go_on(cluster: Path) -> None:
    session = Session(open_site(cluster), as_json=False)
    request = ask(session.site)
    with (session.site.staging / "restoring.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RetryLater, match="The time is over") as raised:
            execute(session, [request], timedelta(), go_on=GO_ON)
    assert raised.value.remedy == f"to go on where it was: `{GO_ON}`"
    assert not flow.is_ended(session.site, request)
