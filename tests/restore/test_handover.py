import threading

import pytest

from restore_lib.restore import handover
from restore_lib.restore.handover import handed_over
from restore_lib.tape.streams import Writable


def count() -> int:
    return sum(thread.name == "handed-over" for thread in threading.enumerate())


def numbers(sink: Writable, end: int = 100) -> None:
    for number in range(end):
        sink.write(b"%d" % number)


def test_what_is_written_is_read_in_order() -> None:
    assert list(handed_over(numbers)) == [b"%d" % number for number in range(100)]
    assert list(handed_over(lambda _: None)) == []
    assert count() == 0


def test_the_writer_is_only_so_far_ahead() -> None:
    written: list[int] = []

    def fill(sink: Writable) -> None:
        for number in range(100):
            written.append(number)
            sink.write(b"x")

    chunks = handed_over(fill)
    for taken in range(1, 101):
        next(chunks)
        assert len(written) <= taken + handover.AHEAD + 1
    assert list(chunks) == []


def test_what_the_writer_raises_comes_behind_what_it_wrote() -> None:
    def fill(sink: Writable) -> None:
        numbers(sink, 10)
        raise ValueError("no more")

    chunks = handed_over(fill)
    assert [next(chunks) for _ in range(10)] == [b"%d" % number for number in range(10)]
    with pytest.raises(ValueError, match="no more"):
        next(chunks)
    assert count() == 0


def test_a_reader_that_leaves_ends_the_writer() -> None:
    ended = threading.Event()

    def fill(sink: Writable) -> None:
        try:
            while True:
                sink.write(b"x")
        finally:
            ended.set()

    chunks = handed_over(fill)
    next(chunks)
    chunks.close()
    assert ended.is_set()
    assert count() == 0


def test_a_writer_that_is_slow_to_notice_is_waited_for() -> None:
    go_on = threading.Event()

    def fill(sink: Writable) -> None:
        sink.write(b"x")
        assert go_on.wait(30)

    chunks = handed_over(fill)
    next(chunks)
    threading.Timer(0.1, go_on.set).start()
    chunks.close()
    assert go_on.is_set()
    assert count() == 0
