import os
import signal
from pathlib import Path

import pytest

from restore_lib.errors import DiskFull, RetryLater
from restore_lib.workers import Workers, cores


class Counter:
    """What the processes of these tests hold."""

    def __init__(self, start: int) -> None:
        self.count = start

    def add(self, number: int) -> tuple[int, int]:
        self.count += number
        return os.getpid(), self.count

    def fail(self, path: Path) -> None:
        raise DiskFull(f"There is no room for {path}.", path=path)

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


def test_a_process_that_dies_is_reported_and_none_is_left() -> None:
    with Workers(1, Counter, 0) as workers:
        pid = workers.submit("add", 0).result()[0]
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(RetryLater, match="ended early"):
            workers.submit("add", 0).result()
    with Workers(cores(), Counter, 0) as workers:
        pid = workers.submit("add", 0).result()[0]
    assert not Path(f"/proc/{pid}").exists()
