import json
import random
from itertools import pairwise

import pytest

from benchmarks.order import Row, main, make_tape, measure, report
from restore_lib.library.lto import LTO9


def test_tapes_are_the_same_each_time_and_their_objects_do_not_overlap() -> None:
    tape = make_tape(500, 10**9, random.Random("a"))
    assert tape == make_tape(500, 10**9, random.Random("a"))
    laid = sorted(tape, key=lambda stretch: stretch.start)
    assert all(a.end <= b.start for a, b in pairwise(laid))
    assert laid[-1].end <= LTO9.capacity
    assert laid != tape


def test_a_cheaper_order_is_measured_as_such() -> None:
    row = measure(20, 3, 10**6, seed=1)
    assert row.ours <= row.shortest_first < row.sorted
    assert row.ours < row.random
    assert row.cpu_ms > 0
    assert f"{row.to_sorted:.3f}" in report([row])


@pytest.mark.parametrize(
    ("row", "missed"),
    [
        (Row(80, 1, 100.0, 100.0, 38.0, 35.0, 19.0, 50.0), []),
        (Row(80, 1, 100.0, 100.0, 38.0, 36.0, 19.0, 50.0), ["ours / sorted"]),
        (Row(80, 1, 100.0, 100.0, 35.0, 34.0, 21.0, 21.0), ["ours / shortest", "ms of ordering"]),
        (Row(500, 1, 100.0, 50.0, 41.0, 40.0, 999.0, 999.0), ["ours / shortest"]),
        (Row(10, 1, 100.0, 50.0, 41.0, 41.0, 999.0, 999.0), []),
    ],
)
def test_bars_that_are_missed_are_named(row: Row, missed: list[str]) -> None:
    found = row.misses()
    assert len(found) == len(missed)
    assert all(miss.startswith(name) for miss, name in zip(found, missed, strict=True))


def test_json_has_a_row_for_each_size(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--tapes", "1", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [row["objects"] for row in found["rows"]] == [10, 80, 500]
