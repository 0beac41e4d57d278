import io

from rich.console import Console

from restore_lib.cli.progress import Board


class Clock:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def terminal() -> tuple[io.StringIO, Console]:
    stream = io.StringIO()
    return stream, Console(file=stream, force_terminal=True, width=160)


def test_stages_show_rate_and_time_left() -> None:
    stream, console = terminal()
    clock = Clock()
    with Board(console, clock) as board:
        stages = board.stages()
        stages.stage("listing")
        stages.advance(objects=7)
        stages.stage("reading", objects=10, size=4_000_000)
        for _ in range(3):
            clock.at += 1.0
            stages.advance(objects=1, size=1_000_000)
    text = stream.getvalue()
    assert "listing" in text
    assert "7/7 objects" in text
    assert "3.0 MB/4.0 MB" in text
    assert "1.0 MB/s" in text
    assert "0:00:01" in text
    assert "75%" in text


def test_shares_make_one_bar_and_count_anew_when_they_begin_again() -> None:
    stream, console = terminal()
    with Board(console) as board:
        total = board.total("restoring", 20)
        one, other = total.share(), total.share()
        one.stage("batch 1", 10, 0)
        one.advance(objects=6)
        other.advance(objects=3)
        one.stage("batch 1 again", 4, 0)
        one.advance(objects=4)
    assert "7/20 objects" in stream.getvalue()
    assert "batch" not in stream.getvalue()


def test_a_total_is_set_from_outside() -> None:
    stream, console = terminal()
    with Board(console) as board:
        board.total("backing up", 5, 2000).reach(1500)
    assert "1.5 kB/2.0 kB" in stream.getvalue()


def test_without_a_terminal_nothing_is_shown() -> None:
    stream = io.StringIO()
    with Board(Console(file=stream)) as board:
        stages = board.stages()
        stages.advance(objects=1)
        stages.stage("reading", objects=1)
        stages.advance(objects=1)
        board.total("all", 3).share().advance(objects=3)
    assert stream.getvalue() == ""
