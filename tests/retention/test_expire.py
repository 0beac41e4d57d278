"""Recovery points of a real cluster expire by its policy's rule, as planned, and not otherwise."""

import os
from pathlib import Path

import pytest

from restore_lib.catalog import audit, incidents
from restore_lib.drills.run import begin_drill
from restore_lib.errors import Refused
from restore_lib.integrity.loss_scan import scan_for_loss
from restore_lib.model.retention import Kept
from restore_lib.model.states import IncidentState
from restore_lib.restore.report import write_report
from restore_lib.restore.request import RestoreSpec, cancel_restore, plan_restore
from restore_lib.retention.expire import apply_retention, close_incident, plan_retention
from restore_lib.site import Site
from tests.retention.sites import DAY, build, days, expire, held, spoil, states, write
from tests.support.sites import ACTOR, back_up, digests, restore

DRILL = '[stores.scratch]\nkind = "local"\npath = "scratch"\n'
DRILL += '[drills.monthly]\npolicy = "live"\nscratch = "scratch"\n'


def reasons(site: Site) -> dict[int, Kept | None]:
    [planned] = plan_retention(site).policies
    return {each.point: each.kept for each in planned.decisions}


def actions(site: Site) -> list[str]:
    with site.catalog.read() as connection:
        return [event["action"] for event in audit.newest(connection, 1000)]


def test_a_plan_changes_nothing_and_what_it_shows_is_done(tmp_path: Path) -> None:
    site, clock = build(tmp_path)
    days(site, clock, *({b"a": b"%d" % n} for n in range(3)))
    clock.advance(27 * DAY)
    assert expire(site) == []
    clock.advance(DAY)
    plan = plan_retention(site)
    assert plan.policies[0].expiring == [1]
    assert not plan.is_empty
    assert set(states(site).values()) == {"committed"}
    done = apply_retention(site, plan, ACTOR)
    assert (done.points, done.incidents) == ({"live": [1]}, {"live": []})
    assert states(site) == {1: "expired", 2: "committed", 3: "committed"}
    assert actions(site).count("retention.apply") == 1
    assert apply_retention(site, plan, ACTOR).points == {"live": []}
    assert actions(site).count("retention.apply") == 1


def test_a_policy_without_retention_keeps_everything(tmp_path: Path) -> None:
    site, clock = build(tmp_path, rule="")
    days(site, clock, {b"a": b"1"}, {b"a": b"2"})
    clock.advance(9999 * DAY)
    plan = plan_retention(site, "live")
    assert plan.is_empty
    assert plan.policies[0].rule is None
    assert apply_retention(site, plan, ACTOR).points == {}
    with pytest.raises(Refused, match="no policy 'x'"):
        plan_retention(site, "x")


def test_a_flood_of_backups_pushes_nothing_out(tmp_path: Path) -> None:
    site, clock = build(tmp_path, blank=3)
    [first] = days(site, clock, {b"a": b"1"})
    clock.advance(29 * DAY)
    assert expire(site) == []
    write(site, {b"a": None})
    flood = [back_up(site).id for _ in range(40)]
    clock.advance(20 * DAY)
    assert expire(site) == []
    assert set(states(site)) == {first, *flood}
    restore(site, RestoreSpec(recovery_point=first, prefix=b"", target="out"))
    assert digests(tmp_path / "out").keys() == {b"a"}


def test_what_was_kept_since_the_plan_stays(tmp_path: Path) -> None:
    site, clock = build(tmp_path)
    days(site, clock, *({b"a": b"%d" % n, b"b": b"%d" % n} for n in range(3)))
    clock.advance(40 * DAY)
    plan = plan_retention(site)
    assert plan.policies[0].expiring == [1, 2]
    request = plan_restore(site, RestoreSpec(recovery_point=2, prefix=b"", target="out"), ACTOR)
    assert reasons(site)[2] is Kept.IN_USE
    assert apply_retention(site, plan, ACTOR).points == {"live": [1]}
    assert request.request_id is not None
    cancel_restore(site, request.request_id, ACTOR)
    assert expire(site) == [2]


def test_what_was_not_planned_does_not_go(tmp_path: Path) -> None:
    site, clock = build(tmp_path)
    days(site, clock, *({b"a": b"%d" % n} for n in range(4)))
    clock.advance(27 * DAY)
    plan = plan_retention(site)
    clock.advance(90 * DAY)
    assert apply_retention(site, plan, ACTOR).points == {"live": [1]}


def test_the_last_good_copy_stays_when_tapes_are_lost(tmp_path: Path) -> None:
    site, clock = build(tmp_path)
    days(site, clock, {b"a": os.urandom(9000)}, {b"a": os.urandom(9000)}, {b"b": b"1"})
    clock.advance(40 * DAY)
    assert reasons(site) == {3: Kept.BEFORE_WINDOW, 2: None, 1: None}
    for barcode in held(site, "live-00002").barcodes:
        spoil(site, barcode)
    [planned] = plan_retention(site).policies
    decided = {each.point: each for each in planned.decisions}
    assert {n: (d.good, d.kept) for n, d in decided.items()} == {
        3: (False, Kept.BEFORE_WINDOW),
        2: (False, None),
        1: (True, Kept.MINIMUM),
    }


def test_a_refusal_names_the_object(tmp_path: Path) -> None:
    site, clock = build(tmp_path, blank=15)
    changes: list[dict[bytes, bytes | None]] = [
        {b"a": b"1"},
        {b"a": b"2"},
        {b"b": b"1"},
        {b"a": None},
        {b"a": b"3"},
    ]
    days(site, clock, *changes)
    clock.advance(40 * DAY)
    for barcode in held(site, "live-00004").barcodes:
        spoil(site, barcode)
    [planned] = plan_retention(site).policies
    decided = {each.point: each for each in planned.decisions}
    assert decided[4].kept is Kept.MINIMUM
    assert decided[3].why == "the last good copy of a"
    assert planned.expiring == [1, 2]


def test_an_expired_point_is_not_restored_from(tmp_path: Path) -> None:
    site, clock = build(tmp_path)
    days(site, clock, {b"a": b"1"}, {b"a": b"2"})
    clock.advance(40 * DAY)
    assert expire(site) == [1]
    with pytest.raises(Refused, match="Recovery point 1 has expired") as refused:
        plan_restore(site, RestoreSpec(recovery_point=1, prefix=b""), ACTOR)
    assert "tapeflow retention undo 1" in refused.value.remedy


def test_a_drill_keeps_its_point_until_it_ends(tmp_path: Path) -> None:
    site, clock = build(tmp_path, extra=DRILL)
    (tmp_path / "scratch").mkdir()
    days(site, clock, {b"a": b"1"})
    begin_drill(site, "monthly", ACTOR, 0)
    days(site, clock, {b"a": b"2"}, {b"a": b"3"})
    clock.advance(40 * DAY)
    assert reasons(site) == {3: Kept.BEFORE_WINDOW, 2: None, 1: Kept.IN_USE}


def test_incidents_that_are_restored_are_closed_in_time(tmp_path: Path) -> None:
    site, clock = build(tmp_path)
    days(site, clock, {b"a": b"1", b"b": b"1"})
    (tmp_path / "live" / "a").unlink()
    first = scan_for_loss(site, "live", actor=ACTOR).incident_id
    assert first is not None
    write_report(site, restore(site, RestoreSpec(incident=first)))
    (tmp_path / "live" / "b").unlink()
    second = scan_for_loss(site, "live", actor=ACTOR).incident_id
    assert second is not None
    clock.advance(29 * DAY)
    assert plan_retention(site).is_empty
    clock.advance(2 * DAY)
    plan = plan_retention(site)
    assert (plan.is_empty, plan.policies[0].incidents) == (False, (first,))
    assert apply_retention(site, plan, ACTOR).incidents == {"live": [first]}
    with site.catalog.read() as connection:
        assert incidents.incident(connection, first).state is IncidentState.CLOSED
        assert incidents.incident(connection, second).state is IncidentState.OPEN
    with pytest.raises(Refused, match=f"Incident {first} is closed"):
        plan_restore(site, RestoreSpec(incident=first), ACTOR)


def test_an_incident_is_closed_by_hand_unless_it_is_being_restored(tmp_path: Path) -> None:
    site, clock = build(tmp_path)
    days(site, clock, {b"a": b"1"})
    (tmp_path / "live" / "a").unlink()
    incident_id = scan_for_loss(site, "live", actor=ACTOR).incident_id
    assert incident_id is not None
    request = plan_restore(site, RestoreSpec(incident=incident_id), ACTOR)
    assert request.request_id is not None
    with pytest.raises(Refused, match=f"Restore request {request.request_id} of incident"):
        close_incident(site, incident_id, ACTOR)
    cancel_restore(site, request.request_id, ACTOR)
    close_incident(site, incident_id, ACTOR)
    close_incident(site, incident_id, ACTOR)
    assert actions(site).count("incident.close") == 1
    with pytest.raises(Refused, match="no incident 9"):
        close_incident(site, 9, ACTOR)
