"""What has expired is brought back whole, or refused."""

import os
from pathlib import Path

import pytest

from restore_lib.errors import InvalidTransition, Refused
from restore_lib.model.states import SetState
from restore_lib.restore.request import RestoreSpec, plan_restore
from restore_lib.retention.undo import Undone, undo_reclaim, undo_retention
from restore_lib.site import Site
from tests.retention.sites import DAY, build, days, empty, expire, reclaim, state_of, states
from tests.support.clock import ManualClock
from tests.support.sites import ACTOR, digests, restore

A, B, C = "live-00001", "live-00002", "live-00003"


def expired(root: Path) -> tuple[Site, ManualClock, dict[bytes, str]]:
    """Let two of three recovery points expire; the second one lies on two sets.

    Return what the second one holds, too.
    """
    site, clock = build(root)
    days(site, clock, {b"a": os.urandom(999), b"b": os.urandom(999)}, {b"b": os.urandom(999)})
    second = digests(root / "live")
    days(site, clock, {b"a": os.urandom(999), b"b": os.urandom(999)})
    clock.advance(40 * DAY)
    assert expire(site) == [1, 2]
    return site, clock, second


def check_second(site: Site, root: Path, expected: dict[bytes, str]) -> None:
    empty(root / "out")
    restore(site, RestoreSpec(recovery_point=2, prefix=b"", target="out"))
    assert digests(root / "out") == expected


def test_a_set_comes_back_with_its_points_and_with_their_other_sets(tmp_path: Path) -> None:
    site, clock, second = expired(tmp_path)
    assert reclaim(site).quarantined == [A, B]
    clock.advance(13 * DAY)
    assert undo_reclaim(site, B, ACTOR) == Undone((2,), (B, A))
    assert (state_of(site, A), state_of(site, B)) == (SetState.CLOSED, SetState.CLOSED)
    assert states(site) == {1: "expired", 2: "committed", 3: "committed"}
    check_second(site, tmp_path, second)


def test_it_stays_for_the_time_of_another_quarantine(tmp_path: Path) -> None:
    site, clock, _ = expired(tmp_path)
    reclaim(site)
    undo_reclaim(site, A, ACTOR)
    assert states(site) == {1: "committed", 2: "committed", 3: "committed"}
    clock.advance(14 * DAY - DAY / 24)
    assert expire(site) == []
    assert reclaim(site).quarantined == []
    clock.advance(DAY)
    assert expire(site) == [1, 2]
    assert reclaim(site).quarantined == [A, B]


def test_a_point_comes_back_with_the_sets_that_it_needs(tmp_path: Path) -> None:
    site, _, second = expired(tmp_path)
    reclaim(site)
    with pytest.raises(Refused, match="Recovery point 2 has expired"):
        plan_restore(site, RestoreSpec(recovery_point=2, prefix=b""), ACTOR)
    assert undo_retention(site, 2, ACTOR) == Undone((2,), (A, B))
    assert undo_retention(site, 2, ACTOR) == Undone((), ())
    check_second(site, tmp_path, second)


def test_a_point_comes_back_before_its_sets_are_in_quarantine(tmp_path: Path) -> None:
    site, _, second = expired(tmp_path)
    assert undo_retention(site, 2, ACTOR) == Undone((2,), ())
    check_second(site, tmp_path, second)


def test_what_is_reclaimed_in_part_is_gone(tmp_path: Path) -> None:
    site, clock, _ = expired(tmp_path)
    reclaim(site)
    clock.advance(14 * DAY)
    reclaim(site)
    assert states(site) == {1: "purged", 2: "purged", 3: "committed"}
    with pytest.raises(Refused, match="some of it is reclaimed"):
        undo_retention(site, 2, ACTOR)
    with pytest.raises(Refused, match="no longer on tape"):
        plan_restore(site, RestoreSpec(recovery_point=2, prefix=b""), ACTOR)
    with pytest.raises(InvalidTransition, match="is reclaimed, not quarantined"):
        undo_reclaim(site, A, ACTOR)


def test_what_is_not_in_quarantine_is_refused(tmp_path: Path) -> None:
    site, _, _ = expired(tmp_path)
    with pytest.raises(InvalidTransition, match="is closed, not quarantined"):
        undo_reclaim(site, A, ACTOR)
    with pytest.raises(Refused, match="no tape set 'x'"):
        undo_reclaim(site, "x", ACTOR)
    with pytest.raises(Refused, match="no recovery point 9"):
        undo_retention(site, 9, ACTOR)
    assert undo_retention(site, 3, ACTOR) == Undone((), ())
