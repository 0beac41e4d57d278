"""What a restore came to, as sets of rows on both databases."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection

from restore_lib.catalog.engine import Catalog
from restore_lib.catalog.reporting import (
    batch_rows,
    last_end,
    notable_items,
    shipment_rows,
    tallies,
    volume_marks,
    wave_rows,
)
from restore_lib.model.states import BatchKind, BatchState, ItemState, LossClass, Way
from tests.support.restores import BEGAN, History, at


@pytest.fixture
def connection(catalog: Catalog) -> Iterator[Connection]:
    with catalog.write() as opened:
        yield opened


@pytest.fixture
def history(connection: Connection) -> History:
    other = History(connection)
    other.item(b"of another request", "failed", ended_at=at(9999))
    other.batch([], 1, 2)
    other.wave(1)
    other.volume("OTHER")
    other.shipment(1, 2, {"OTHER": "omitted"})
    return History(connection)


def test_items_are_counted_by_how_they_fared(connection: Connection, history: History) -> None:
    history.item(b"a", "restored", size=3)
    history.item(b"b", "restored", size=4)
    history.item(b"c", "restored", way="alternate", sha256=None, size=None)
    history.item(b"d", "failed", error_code="medium_error", loss_class="changed_after_backup")
    found = {
        (t.state, t.way, t.loss_class, t.error_code, t.proven): t
        for t in tallies(connection, history.id)
    }
    assert len(found) == 3
    tape = found[ItemState.RESTORED, Way.TAPE, LossClass.ON_TAPE, None, True]
    assert (tape.objects, tape.size) == (2, 7)
    unproven = found[ItemState.RESTORED, Way.ALTERNATE, LossClass.ON_TAPE, None, False]
    assert (unproven.objects, unproven.size) == (1, 0)
    assert (
        found[ItemState.FAILED, None, LossClass.CHANGED_AFTER_BACKUP, "medium_error", True].objects
        == 1
    )


def test_an_object_from_tape_needs_no_digest_of_the_whole(
    connection: Connection, history: History
) -> None:
    history.item(b"of several parts", "restored", way="parity", sha256=None)
    assert [tally.proven for tally in tallies(connection, history.id)] == [True]


def test_waves_sum_up_their_batches(connection: Connection, history: History) -> None:
    first = history.wave(1, 20)
    history.wave(30)
    batch = history.batch(["V1"], 2, 9, wave_id=first, objects=5, bytes=50)
    history.batch(["V2"], 2, 19, wave_id=first, objects=7, bytes=70, state="failed")
    for key in (b"a", b"b"):
        history.item(key, "restored", batch_id=batch)
    history.item(b"c", "failed", batch_id=batch)
    rows = wave_rows(connection, history.id)
    assert [(r.number, r.batches, r.objects, r.restored, r.size) for r in rows] == [
        (1, 2, 12, 2, 120),
        (2, 0, 0, 0, 0),
    ]
    assert (rows[0].opened_at, rows[0].settled_at, rows[1].settled_at) == (at(1), at(20), None)


def test_batches_come_in_the_order_in_which_they_began(
    connection: Connection, history: History
) -> None:
    wave = history.wave(1)
    waits = history.batch(["V3"])
    late = history.batch(["V1", "V2"], 8, 9, wave_id=wave, kind="gather")
    early = history.batch(["V1"], 3, 4, wave_id=wave, state="failed", error="torn")
    rows = batch_rows(connection, history.id)
    assert [row.id for row in rows] == [early, late, waits]
    assert rows[0].error == "torn"
    assert (rows[1].kind, rows[1].volumes, rows[1].wave) == (BatchKind.GATHER, ("V1", "V2"), 1)
    assert (rows[2].wave, rows[2].started_at, rows[2].state) == (None, None, BatchState.PLANNED)


def test_recalls_tell_what_was_left_out(connection: Connection, history: History) -> None:
    history.volume("V1", "V2", "V3")
    first = history.shipment(1, 5, {"V1": "loaded", "V2": "omitted", "V3": "extra"})
    history.shipment(6, None, {"V2": "requested"}, follows=first, round=1)
    history.shipment(7, 8, {"V1": "received"}, direction="out")
    rows = shipment_rows(connection, history.id)
    assert [(r.volumes, r.omitted, r.follows, r.round) for r in rows] == [
        (2, 1, None, 0),
        (1, 0, first, 1),
    ]
    assert (rows[0].arrived_at, rows[1].arrived_at) == (at(5), None)


def test_volumes_are_marked_by_their_lines(connection: Connection, history: History) -> None:
    history.volume("V1", "V2", "V3", "V4")
    first = history.shipment(1, 5, {"V1": "loaded", "V2": "received", "V3": "extra"})
    history.shipment(6, 8, {"V2": "loaded"}, follows=first)
    history.shipment(9, None, {"V4": "omitted"}, state="cancelled")
    marks = volume_marks(connection, history.id, [], BEGAN, None)
    assert marks.recalled == {"V1", "V2", "V4"}
    assert marks.omitted == {"V2", "V4"}
    assert marks.unexpected == {"V3"}


def test_volumes_are_marked_by_their_custody_events(
    connection: Connection, history: History
) -> None:
    history.volume("V1", "V2", "V3", "V4", "V5", "V6", "V7")
    history.event(5, "V1", "health", "ok", "suspect")
    history.event(6, "V1", "health", "suspect", "broken")
    history.event(5, "V2", "health", "ok", "lost")
    history.event(5, "V3", "health", "ok", "lost")
    history.event(6, "V3", "health", "lost", "ok")
    history.event(5, "V4", "flag", "", "missing")
    history.event(5, "V5", "flag", "", "missing")
    history.event(6, "V5", "flag", "missing", "")
    history.event(5, "V6", "flag", "", "unexpected")
    history.event(5, "V7", "health", "ok", "broken")
    read = ["V1", "V2", "V3", "V4", "V5", "V6"]
    marks = volume_marks(connection, history.id, read, BEGAN, None)
    assert (marks.suspect, marks.broken) == ({"V1"}, {"V1"})
    assert (marks.lost, marks.missing, marks.unexpected) == ({"V2"}, {"V4"}, {"V6"})


def test_events_before_and_after_the_request_do_not_count(
    connection: Connection, history: History
) -> None:
    history.volume("V1")
    history.event(-1, "V1", "health", "ok", "suspect")
    history.event(11, "V1", "health", "suspect", "broken")
    marks = volume_marks(connection, history.id, ["V1"], BEGAN, at(10))
    assert not marks.suspect
    assert not marks.broken
    assert volume_marks(connection, history.id, ["V1"], BEGAN, at(11)).broken == {"V1"}


def test_only_items_that_need_a_look_are_named_in_order_of_their_bytes(
    connection: Connection, history: History
) -> None:
    history.item(b"plain", "restored")
    history.item(b"plain too", "restored", way="alternate")
    history.item(b"present", "restored", way="present")
    history.item(b"\xff", "failed", error_code="drive_busy", error="busy")
    history.item(b"Z", "kept")
    history.item(b"a", "unrestorable", loss_class="never_backed_up")
    history.item(b"b", "restored", loss_class="changed_after_backup")
    history.item(b"c", "restored", way="alternate", sha256=None)
    history.item(b"d", "pending")
    found = list(notable_items(connection, history.id))
    assert [item.key for item in found] == [b"Z", b"a", b"b", b"c", b"d", b"\xff"]
    assert (found[-1].error_code, found[-1].error) == ("drive_busy", "busy")
    assert [item.proven for item in found] == [True, True, True, False, True, True]


def test_the_last_end_is_that_of_an_item_or_of_a_batch(
    connection: Connection, history: History
) -> None:
    assert last_end(connection, history.id) is None
    history.item(b"a", "restored", ended_at=at(7))
    assert last_end(connection, history.id) == at(7)
    history.batch(["V1"], 2, 9)
    assert last_end(connection, history.id) == at(9)
