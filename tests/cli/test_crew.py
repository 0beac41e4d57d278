import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console

from restore_lib.cli.crew import Crew, Stopped
from restore_lib.cli.progress import Board
from restore_lib.errors import DiskFull, DriveBusy, KeyUnusable
from restore_lib.model.progress import Progress
from restore_lib.site import Site
from tests.support.sites import open_site


class Seconds(threading.Event):
    """An event that is never set; waiting for it takes no time, and is counted."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = 0.0

    def wait(self, timeout: float | None = None) -> bool:
        self.waited += timeout or 0.0
        return False


@pytest.fixture
def site(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("TAPEFLOW__LIBRARY__LEASE", "1s")
    return open_site(cluster)


def total() -> object:
    return Board(Console(stderr=True)).total("work", 1)


def run(site: Site, ids: list[int], work: object, said: list[str] | None = None) -> None:
    told = [] if said is None else said
    Crew(site, told.append).run(ids, work, total())  # type: ignore[arg-type]  # any work does


def test_each_id_is_done_once_on_a_site_of_its_threads_own(site: Site) -> None:
    done: list[tuple[int, int]] = []

    def work(own: Site, one: int, _: Progress) -> None:
        assert own is not site
        with own.catalog.read():
            done.append((one, id(own)))

    run(site, list(range(10)), work)
    assert sorted(one for one, _ in done) == list(range(10))


def test_as_many_work_at_once_as_there_are_drives(site: Site) -> None:
    both = threading.Barrier(2, timeout=30)
    run(site, [1, 2, 3, 4], lambda *_: both.wait())


def test_what_may_pass_is_tried_again_and_told(site: Site) -> None:
    tries: list[int] = []
    said: list[str] = []

    def work(_own: Site, one: int, _: Progress) -> None:
        tries.append(one)
        if len(tries) < 3:
            raise DriveBusy("No drive is free.")

    run(site, [7], work, said)
    assert tries == [7, 7, 7]
    assert said == [
        "No drive is free. Trying again in 0.5 s.",
        "No drive is free. Trying again in 1 s.",
    ]


def test_what_another_piece_of_the_crew_has_is_waited_for(site: Site) -> None:
    said: list[str] = []
    crew = Crew(site, said.append)
    at_work, end = threading.Event(), threading.Event()

    def long() -> None:
        at_work.set()
        assert end.wait(30)

    other = threading.Thread(target=lambda: crew._patiently(long, threading.Event()))
    other.start()
    assert at_work.wait(30)
    seconds = Seconds()

    def blocked() -> None:
        if seconds.waited < 3600:
            raise DriveBusy("The volume is in use.")

    crew._patiently(blocked, seconds)
    end.set()
    other.join()
    assert said == ["The volume is in use. Trying again in 0.5 s."]


def test_patience_ends(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(
        threading.Event, "wait", lambda _, seconds=None: waits.append(seconds or 0.0)
    )

    def work(*_: object) -> None:
        raise DriveBusy("No drive is free.")

    crew = Crew(site, lambda _: None)
    with pytest.raises(DriveBusy):
        crew._patiently(work, threading.Event())
    assert timedelta(seconds=sum(waits)) >= timedelta(minutes=1)
    assert max(waits) == 30.0


@pytest.mark.parametrize("error", [DiskFull, KeyUnusable])
def test_other_errors_end_it_at_once(site: Site, error: type[Exception]) -> None:
    begun: list[int] = []
    stopped = threading.Event()

    def work(_own: Site, one: int, progress: Progress) -> None:
        begun.append(one)
        if one == 0:
            raise error("It can't go on.")
        try:
            while True:
                progress.advance(objects=1)
        finally:
            stopped.set()

    with pytest.raises(error, match="can't go on"):
        run(site, [0, 1, 2, 3, 4, 5], work)
    assert len(begun) <= 3
    if len(begun) > 1:
        assert stopped.is_set()


def test_ctrl_c_ends_work_at_its_next_object(site: Site) -> None:
    ended: list[int] = []
    said: list[str] = []
    both = threading.Barrier(2, timeout=30)

    def work(_own: Site, one: int, progress: Progress) -> None:
        if one == 2:
            os.kill(os.getpid(), signal.SIGINT)
        else:
            both.wait()
        try:
            while one:
                progress.advance(objects=1)
        except Stopped:
            ended.append(one)
            raise

    with pytest.raises(KeyboardInterrupt):
        run(site, [0, 1, 2], work, said)
    assert sorted(ended) == [1, 2]
    assert "Ctrl-C again stops at once" in said[0]


def test_a_second_ctrl_c_ends_the_process_at_once(cluster: Path) -> None:
    code = """
import os, signal, sys, threading
from pathlib import Path
from restore_lib.cli.crew import Crew
from restore_lib.cli.progress import Board
from restore_lib.site import Site
from rich.console import Console

def work(site, one, progress):
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait()

def say(message):
    print(message, flush=True)
    os.kill(os.getpid(), signal.SIGINT)

Crew(Site.load(Path("tapeflow.toml")), say).run([1], work, Board(Console()).total("work", 1))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cluster,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 130, done.stderr
    assert "Ctrl-C again" in done.stdout
    assert done.stderr == ""
