from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from restore_lib.catalog.findings import Findings
from restore_lib.catalog.numbering import Numbering
from tests.support.found import AT, member, note_set


def numbered(findings: Findings) -> Numbering:
    kept = [(one.id, len(findings.indexed(one.id)), one.created_at) for one in findings.sets()]
    return Numbering(findings.database, kept)


def lives(numbering: Numbering) -> dict[bytes, list[tuple[Any, ...]]]:
    """Return (first, gone, whole, hour) of each version by key, oldest id first."""
    keys = {id_: key for id_, _, key in numbering.objects()}
    found: dict[bytes, list[tuple[Any, ...]]] = {}
    for row in numbering.versions():
        found.setdefault(keys[row[1]], []).append(
            (row[2], row[3], row[7] is not None, row[8][11:13])
        )
    return found


def test_the_nth_version_is_in_the_nth_recovery_point(tmp_path: Path) -> None:
    path = tmp_path / "findings.db"
    note_set(path, [[member(0, b"a"), member(1, b"b")], [member(0, b"a", hour=2)]]).close()
    findings = note_set(path, [[member(0, b"a", hour=1)]], "live-00002", day=3)
    numbering = numbered(findings)
    assert lives(numbering) == {
        b"a": [(1, 2, True, "00"), (3, None, True, "02"), (2, 3, True, "01")],
        b"b": [(1, None, True, "00")],
    }
    assert [(p.id, p.store, p.at) for p in numbering.points()] == [
        (1, "live", AT),
        (2, "live", AT + timedelta(days=3)),
        (3, "live", AT + timedelta(days=3)),
    ]
    assert numbering.stripe_bases() == {"live-00001": 0, "live-00002": 2}
    assert numbering.stripe_points() == {1: 1, 2: 3, 3: 2}
    assert len(list(numbering.extents())) == 4
    findings.close()


def test_equal_times_of_change_are_told_apart_by_the_order_of_writing(tmp_path: Path) -> None:
    findings = note_set(tmp_path / "findings.db", [[member(0, b"a")], [member(0, b"a")]])
    numbering = numbered(findings)
    assert lives(numbering) == {b"a": [(1, 2, True, "00"), (2, None, True, "00")]}
    findings.close()


def test_parts_that_a_crash_left_are_a_version_of_their_own(tmp_path: Path) -> None:
    begun = [member(n, b"big", part=n + 1, parts=3) for n in range(2)]
    whole = [member(n, b"big", part=n + 1, parts=3) for n in range(3)]
    findings = note_set(tmp_path / "findings.db", [begun, whole[:2], whole[2:]])
    numbering = numbered(findings)
    assert lives(numbering) == {b"big": [(1, None, False, "00"), (1, None, True, "00")]}
    assert sorted((row[0], row[1], row[2]) for row in numbering.extents()) == [
        (1, 1, 1),
        (1, 2, 1),
        (2, 1, 2),
        (2, 2, 2),
        (2, 3, 3),
    ]
    findings.close()


def test_stripes_that_do_not_count_are_left_out(tmp_path: Path) -> None:
    findings = note_set(tmp_path / "findings.db", [[member(0, b"a")], [member(0, b"b")]])
    numbering = Numbering(findings.database, [("live-00001", 1, AT)])
    assert lives(numbering).keys() == {b"a"}
    findings.close()


def test_a_payload_on_two_sets_is_one_version_and_lies_on_the_newer_one(tmp_path: Path) -> None:
    path = tmp_path / "findings.db"
    older, newer = member(0, b"a"), member(1, b"a")
    note_set(path, [[older, newer, member(2, b"b")]]).close()
    findings = note_set(path, [[replace(older, ordinal=5)]], "live-00002", day=3)
    numbering = numbered(findings)
    assert lives(numbering) == {
        b"a": [(1, 2, True, "00"), (2, None, True, "00")],
        b"b": [(1, None, True, "00")],
    }
    assert {p.at for p in numbering.points()} == {AT}
    assert sorted((row[0], row[2], row[4]) for row in numbering.extents()) == [
        (1, 2, "objects/00000005.age"),
        (2, 1, "objects/00000001.age"),
        (3, 1, "objects/00000002.age"),
    ]
    assert numbering.stripe_points() == {1: 2, 2: 1}
    findings.close()


@pytest.mark.parametrize("original", [True, False])
def test_parts_that_were_moved_belong_to_their_object(tmp_path: Path, original: bool) -> None:
    path = tmp_path / "findings.db"
    parts = [member(n, b"big", part=n + 1, parts=3) for n in range(3)]
    note_set(path, [parts if original else parts[1:]]).close()
    findings = note_set(path, [parts[:1]], "live-00002", day=3)
    numbering = numbered(findings)
    assert lives(numbering) == {b"big": [(1, None, True, "00")]}
    assert sorted((row[1], row[2]) for row in numbering.extents()) == [(1, 2), (2, 1), (3, 1)]
    findings.close()
