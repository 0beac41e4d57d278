"""The timeline: every recall, wave and batch has its place, however many there are."""

import re
from datetime import timedelta
from typing import Any

import pytest

from restore_lib.restore.report_chart import Bar, Scale, packed
from restore_lib.restore.report_timeline import timeline
from tests.support.reports import Page, batch, report, shipment, wave
from tests.support.restores import at


def drawn(**changes: Any) -> Page:
    return Page(timeline(report(**changes)))


def bar(began: float, ended: float, look: str = "read") -> Bar:
    return Bar(at(began), at(ended), look, "")


@pytest.mark.parametrize("ended", [None, at(60).isoformat()])
def test_where_nothing_has_begun_there_is_no_chart(ended: str | None) -> None:
    page = drawn(batches=[batch(1, started_at=None, ended_at=ended, state="cancelled")])
    assert not page.all("svg")
    assert "Nothing has begun" in page.text()


def test_a_few_batches_are_drawn_one_by_one_by_volume() -> None:
    page = drawn(
        batches=[
            batch(1, volumes=["VA"]),
            batch(2, volumes=["VA", "VB"], kind="gather"),
            batch(3, volumes=["VB"], state="failed", error="torn"),
            batch(4, volumes=[], kind="alternate"),
            batch(5, started_at=None, ended_at=None, volumes=["VC"]),
        ],
        waves=[wave()],
        shipments=[shipment()],
    )
    looks = [attrs["class"] for attrs in page.all("rect")]
    assert sorted(map(str, looks)) == [
        "alternate",
        "failed",
        "gather",
        "gather",
        "read",
        "recall",
        "wave",
    ]
    assert [t for t in ("VA", "VB", "VC", "alternate stores") if t in page.text("text")] == [
        "VA",
        "VB",
        "alternate stores",
    ]
    assert len(page.all("path", "recall")) == 1
    assert "Batch 3: read, failed, VB, 10 of 10 objects restored, 1.0 kB, 5 min: torn" in page.text(
        "title"
    )


@pytest.mark.parametrize("count", [1, 3, 100, 3000, 20000])
def test_the_chart_stays_of_a_size_that_can_be_read(count: int) -> None:
    page = drawn(batches=[batch(n) for n in range(count)], waves=[wave()], shipments=[shipment()])
    _, _, width, height = map(float, str(page.all("svg")[0]["viewbox"]).split())
    assert width == 1040
    assert height < 640
    assert len(page.elements) < 2500
    for attrs in page.all("rect"):
        assert float(str(attrs["x"])) >= 132
        assert float(str(attrs["x"])) + float(str(attrs["width"])) <= 1040
        assert float(str(attrs["y"])) + float(str(attrs["height"])) <= height


def test_many_batches_are_counted_over_time_with_failures_apart() -> None:
    many = [batch(n, state="failed" if n % 10 == 0 else "done") for n in range(3000)]
    page = drawn(batches=many)
    looks = {attrs["class"] for attrs in page.all("rect")}
    assert looks == {"work", "failed"}
    assert re.search(r"up to \d+", page.text("text"))
    assert "Batch" not in page.text("title")


@pytest.mark.parametrize(("count", "look"), [(400, "read"), (401, "work")])
def test_many_batches_of_few_volumes_are_counted_too(count: int, look: str) -> None:
    page = drawn(batches=[batch(n, volumes=["VA"]) for n in range(count)])
    assert {attrs["class"] for attrs in page.all("rect")} == {look}


def test_many_volumes_share_rows_by_time() -> None:
    page = drawn(batches=[batch(n * 400) for n in range(7)] + [batch(n) for n in range(1, 20)])
    assert "V400" not in page.text("text")
    assert len(page.all("rect", "read")) == 26


def test_a_batch_that_has_not_ended_reaches_to_the_last_thing_known() -> None:
    page = drawn(batches=[batch(0, ended_at=None, state="running")], waves=[wave()])
    running, settled = page.all("rect", "read")[0], page.all("rect", "wave")[0]
    ends = [float(str(a["x"])) + float(str(a["width"])) for a in (running, settled)]
    assert ends[0] == pytest.approx(ends[1], abs=0.2)


def test_a_recall_that_has_not_arrived_has_no_mark() -> None:
    page = drawn(shipments=[shipment(arrived_at=None, state="pick_listed")], waves=[wave()])
    assert page.all("rect", "recall")
    assert not page.all("path")


@pytest.mark.parametrize("seconds", [0, 1, 59, 3600, 86400, 5 * 86400, 90 * 86400, 400 * 86400])
def test_the_axis_has_a_few_round_times_at_any_span(seconds: int) -> None:
    began = at(0)
    ended = (began + timedelta(seconds=seconds)).isoformat()
    one = batch(1, started_at=began.isoformat(), ended_at=ended)
    page = drawn(batches=[one])
    assert 1 <= len(page.all("line", "grid")) <= 10


def test_dates_are_written_where_a_day_begins() -> None:
    one = batch(1, started_at="2030-01-01T21:00:00Z", ended_at="2030-01-02T03:00:00Z")
    page = drawn(batches=[one])
    ticks = [text for tag, text in page.texts if tag == "text" and ":" in text]
    assert ticks == ["21:00", "22:00", "23:00", "2 Jan 00:00", "01:00", "02:00", "03:00"]


def test_packing_uses_as_few_lanes_as_overlap() -> None:
    lanes = packed([bar(0, 10), bar(10, 20), bar(5, 15), bar(15, 16), bar(30, 31)])
    assert [[(b.start, b.end) for b in lane.bars] for lane in lanes] == [
        [(at(0), at(10)), (at(10), at(20)), (at(30), at(31))],
        [(at(5), at(15)), (at(15), at(16))],
    ]


def test_a_scale_has_room_for_something_that_took_no_time() -> None:
    scale = Scale.of([bar(3, 3)])
    assert (scale.start, scale.end) == (at(3), at(4))
