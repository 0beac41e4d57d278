import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from restore_lib.cli.output import (
    as_text,
    console,
    count_text,
    duration_text,
    facts,
    print_error,
    print_json,
    print_json_list,
    size_text,
    table,
)
from restore_lib.errors import DriveBusy, TapeflowError

AT = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (18e12, "18.0 TB"), (5e18, "5,000.0 PB")],
)
def test_sizes(size: float, text: str) -> None:
    assert size_text(size) == text


def test_counts() -> None:
    found = [count_text(number, "recovery point") for number in (0, 1, 2000)]
    assert found == ["0 recovery points", "1 recovery point", "2,000 recovery points"]


def test_durations() -> None:
    assert duration_text(0.26) == "0.3 s"
    assert duration_text(93784) == "1 day, 2:03:04"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ("", "-"),
        (AT, "2030-01-02 03:04:05"),
        (1234567, "1,234,567"),
        (2.25, "2.2"),
        (True, "yes"),
        (frozenset({"b", "a"}), "a, b"),
        ((), "-"),
        ("text", "text"),
    ],
)
def test_values_as_people_read_them(value: object, text: str) -> None:
    assert as_text(value) == text


def test_cells_are_neither_markup_nor_cut(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 400
    console().print(table(("a", "b"), [("[red]name[/red] :smile:", long)]))
    console().print(facts({"[b]what[/b]": "[i]value[/i]"}))
    shown = capsys.readouterr().out
    assert "[red]name[/red] :smile:" in shown
    assert "[b]what[/b]" in shown
    assert "[i]value[/i]" in shown
    assert shown.count("x") == 400


def test_json_holds_times_paths_and_sets(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"at": AT, "path": Path("/a"), "set": {2, 1}, "time": timedelta(seconds=5)})
    assert json.loads(capsys.readouterr().out) == {
        "at": "2030-01-02T03:04:05+00:00",
        "path": "/a",
        "set": [1, 2],
        "time": 5.0,
    }
    with pytest.raises(TypeError):
        print_json({"odd": object()})


@pytest.mark.parametrize("head", [{}, {"a": AT}])
@pytest.mark.parametrize("rows", [[], [1], [{"x": "\n"}, {"y": 2}]])
def test_a_streamed_list_is_json(
    head: dict[str, datetime], rows: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    print_json_list(head, "rows", iter(rows))
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == rows
    assert found.keys() == {*head, "rows"}


def test_errors_go_to_stderr_with_their_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(DriveBusy("All drives are busy.", remedy="wait", volume="A1"), as_json=False)
    print_error(DriveBusy("All drives are busy.", remedy="wait", volume="A1"), as_json=True)
    print_error(TapeflowError("Odd."), as_json=False)
    shown = capsys.readouterr()
    assert shown.out == ""
    message, remedy, line, odd = shown.err.splitlines()
    assert (message, remedy) == ("error: All drives are busy.", "remedy: wait")
    assert json.loads(line) == {
        "code": "drive_busy",
        "message": "All drives are busy.",
        "remedy": "wait",
        "context": {"volume": "A1"},
        "retryable": True,
    }
    assert odd == "error: Odd."
