import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from restore_lib.errors import DiskFull, RetryLater
from restore_lib.model.progress import Progress
from restore_lib.workers import Workers, cores, few_collections


class Counter:
    """What the processes of these tests hold."""

    def __init__(self, start: int) -> None:
        self.count = start

    def add(self, number: int) -> tuple[int, int]:
        self.count += number
        return os.getpid(), self.count

    def fail(self, path: Path) -> None:
        raise DiskFull(f"There is no room for {path}.", path=path)

    def work(self, units: int, pause: float, progress: Progress) -> str:
        progress.stage("work", units)
        for number in range(units):
            progress.advance(objects=1, size=number)
            time.sleep(pause)
        return "worked"

    def wait(self) -> None:
        time.sleep(600)

    def say(self) -> str:
        print("not a reply")  # noqa: T201 - what a library may do
        return "said"


def test_each_process_has_its_own_object() -> None:
    with Workers(2, Counter, 10) as workers:
        first = [workers.submit("add", 1, lane=0) for _ in range(3)]
        second = workers.submit("add", 5, lane=1)
        pids, counts = zip(*(future.result() for future in first), strict=True)
        assert counts == (11, 12, 13)
        assert len({*pids, second.result()[0], os.getpid()}) == 3
        assert second.result()[1] == 15


def test_work_goes_to_the_process_with_the_least_of_it() -> None:
    with Workers(2, Counter, 0) as workers:
        heavy = workers.submit("add", 1, weight=100)
        light = [workers.submit("add", 1, weight=1) for _ in range(3)]
        assert {one.result()[0] for one in light}.isdisjoint({heavy.result()[0]})


def test_an_error_comes_back_as_it_was_raised() -> None:
    with Workers(1, Counter, 0) as workers:
        with pytest.raises(DiskFull, match="no room for /x") as caught:
            workers.submit("fail", Path("/x")).result()
        assert caught.value.context == {"path": "/x"}
        assert workers.submit("say").result() == "said"


class Seen:
    """Progress that remembers, and raises from the given word on."""

    def __init__(self, error: Exception | None = None) -> None:
        self.stages: list[tuple[str, int | None]] = []
        self.objects = self.size = self.words = 0
        self._error = error

    def stage(self, label: str, objects: int | None = None, size: int | None = None) -> None:
        assert size is None
        self.stages.append((label, objects))

    def advance(self, objects: int = 0, size: int = 0) -> None:
        self.objects += objects
        self.size += size
        self.words += 1
        if self._error:
            raise self._error


def test_progress_is_summed_up_and_all_of_it_arrives() -> None:
    with Workers(1, Counter, 0) as workers:
        seen = Seen()
        assert workers.submit("work", 5000, 0.0, progress=seen).result() == "worked"
        assert (seen.stages, seen.objects) == ([("work", 5000)], 5000)
        assert seen.size == sum(range(5000))
        assert seen.words < 500


def test_what_progress_raises_ends_the_work_and_comes_back() -> None:
    with Workers(1, Counter, 0) as workers:
        seen = Seen(DiskFull("stop here"))
        with pytest.raises(DiskFull, match="stop here"):
            workers.submit("work", 100_000, 0.001, progress=seen).result()
        assert 0 < seen.objects < 100_000
        assert workers.submit("work", 3, 0.0, progress=Seen()).result() == "worked"


OWNER = """
import sys
from restore_lib.model.progress import Progress
from restore_lib.workers import Workers
from tests.test_workers import Counter

with Workers(1, Counter, 0) as workers:
    print(workers.submit("add", 0).result()[0], flush=True)
    workers.submit("wait").result()
"""


def test_a_process_at_work_ends_with_the_one_that_began_it() -> None:
    command = [sys.executable, "-c", OWNER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        owner.kill()
    until = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert not Path(f"/proc/{pid}").exists()


def kill(pid: int) -> None:
    """Kill a process of a test, and wait until it has ended (a zombie, or gone)."""
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_one_that_dies_at_work_ends_its_call() -> None:
    with Workers(1, Counter, 0) as workers:
        pid = workers.submit("add", 0).result()[0]
        waiting = workers.submit("wait")
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(RetryLater, match=r"ended early \(code -9\)"):
            waiting.result()


def test_after_one_that_has_died_another_process_begins_with_an_object_of_its_own() -> None:
    with Workers(1, Counter, 10) as workers:
        first, count = workers.submit("add", 5).result()
        assert count == 15
        kill(first)
        with pytest.raises(RetryLater, match=r"ended early \(code -9\)"):
            workers.submit("add", 5).result()
        second, count = workers.submit("add", 5).result()
        assert (count, second == first) == (15, False)


class Unmade:
    """What can't be made while a file is missing."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise DiskFull(f"There is no room for {path}.", path=path)

    def say(self) -> str:
        return "made"


def test_what_keeps_an_object_from_being_made_is_raised_by_each_call_until_it_can_be(
    tmp_path: Path,
) -> None:
    with Workers(1, Unmade, tmp_path / "room") as workers:
        for _ in range(2):
            with pytest.raises(DiskFull, match="no room for"):
                workers.submit("say").result()
        (tmp_path / "room").touch()
        assert workers.submit("say").result() == "made"


def test_a_process_that_dies_is_reported_and_none_is_left() -> None:
    with Workers(1, Counter, 0) as workers:
        pid = workers.submit("add", 0).result()[0]
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(RetryLater, match="ended early"):
            workers.submit("add", 0).result()
        assert not Path(f"/proc/{pid}").exists()
    with Workers(cores(), Counter, 0) as workers:
        pid = workers.submit("add", 0).result()[0]
    assert not Path(f"/proc/{pid}").exists()


def test_garbage_is_looked_for_rarely_during_large_work_alone() -> None:
    def fail() -> None:
        with few_collections():
            assert gc.get_threshold()[0] > before[0]
            raise KeyError

    before = gc.get_threshold()
    with pytest.raises(KeyError):
        fail()
    assert gc.get_threshold() == before
