import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from restore_lib.catalog import audit, drills
from restore_lib.catalog import requests as catalog_requests
from restore_lib.drills.run import begin_drill, finish_drill, is_over, plan_drill
from restore_lib.errors import CatalogUnavailable, KeyUnusable, Refused
from restore_lib.model.states import DrillState, RequestState
from restore_lib.model.verdict import Verdict
from restore_lib.model.volume import Reason
from restore_lib.restore.request import RestorePlan, cancel_restore, plan_restore
from restore_lib.site import Site
from tests.support.clock import ManualClock
from tests.support.sites import back_up, digests, finish, make_site, write_files

FILES = {f"d{number % 3}/f{number:02}".encode(): bytes([number]) * 500 for number in range(30)}
DRILLS = """
[drills.monthly]
policy = "live"
scratch = "out"
sample = 4
prefix = "d1/"
[drills.plain]
policy = "live"
scratch = "out"
sample = 1000
"""
POLICY = 'k = 2\nm = 1\nblock_size = "4KiB"\nsegment_size = "64KiB"\nrto = "1h"\nrpo = "2h"'


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def site(tmp_path: Path, clock: ManualClock) -> Iterator[Site]:
    opened = make_site(tmp_path, policy=POLICY, extra=DRILLS, blank=3, clock=clock)
    write_files(tmp_path / "live", FILES)
    back_up(opened)
    clock.advance(timedelta(minutes=30))
    yield opened
    opened.close()


def out(site: Site) -> dict[bytes, str]:
    return digests(site.config.staging.path.parent / "out")


def run_restores(site: Site, drill_id: int) -> None:
    with site.catalog.read() as connection:
        for request_id in drills.drill(connection, drill_id).requests:
            finish(site, request_id)


def test_the_sample_is_set_by_the_seed_and_can_be_checked(site: Site) -> None:
    plan = plan_drill(site, "monthly", 42)
    assert plan == plan_drill(site, "monthly", 42)
    ordered = sorted(FILES, key=lambda key: hashlib.sha256(b"42:" + key).digest())
    names = b"".join(key + b"\0" for key in sorted(ordered[:4]))
    assert plan.names_sha256 == hashlib.sha256(names).hexdigest()
    assert len({plan_drill(site, "monthly", seed).names_sha256 for seed in range(5)}) == 5
    json.dumps(plan.as_dict())


def test_a_plan_has_both_restores_and_the_objectives(site: Site) -> None:
    plan = plan_drill(site, "monthly")
    assert {part: one["counts"]["asked"] for part, one in plan.restores.items()} == {
        "sample": 4,
        "prefix": 10,
    }
    assert (plan.age, plan.rpo, plan.rto) == (1800.0, 7200.0, 3600.0)
    assert plan_drill(site, "plain").restores["sample"]["counts"]["asked"] == len(FILES)
    with site.catalog.read() as connection:
        assert catalog_requests.requests(connection) == []


def test_a_drill_restores_measures_cleans_and_keeps_evidence(
    site: Site, clock: ManualClock
) -> None:
    drill_id = begin_drill(site, "monthly", "ann", 7)
    assert not is_over(site, drill_id)
    with pytest.raises(Refused, match="have not ended"):
        finish_drill(site, drill_id, "ann")
    clock.advance(timedelta(minutes=20))
    run_restores(site, drill_id)
    assert is_over(site, drill_id)
    restored = out(site)
    assert {key for key in FILES if key.startswith(b"d1/")} <= restored.keys()
    clock.advance(timedelta(hours=5))
    ended = finish_drill(site, drill_id, "ann")
    assert ended.verdict is Verdict.PASSED
    assert ended.evidence["measures"]["rto_seconds"] == 1200.0
    assert ended.evidence["measures"]["rpo_seconds"] == 1800.0
    assert ended.evidence["objects"] == {"asked": 14, "verified": 14}
    assert ended.evidence["volumes"]
    assert out(site) == {}
    kept = json.loads((site.config.restore.reports / f"drill-{drill_id}.json").read_text())
    assert kept == ended.evidence
    for request in kept["requests"]:
        assert json.loads(Path(request["report"]).read_text())["verdict"] == "passed"
    with site.catalog.read() as connection:
        found = catalog_requests.requests(connection)
        actions = [event["action"] for event in audit.newest(connection, 100)]
    assert {request.reason for request in found} == {Reason.DRILL}
    assert {"drill.begin", "drill.finish"} <= set(actions)


def test_everything_may_be_done_twice(site: Site) -> None:
    drill_id = begin_drill(site, "monthly", "ann", 7)
    assert begin_drill(site, "monthly", "bob", 8) == drill_id
    run_restores(site, drill_id)
    first = finish_drill(site, drill_id, "ann")
    assert finish_drill(site, drill_id, "bob") == first
    assert first.evidence["seed"] == 7
    with site.catalog.read() as connection:
        assert len(catalog_requests.requests(connection)) == 2
        assert len(drills.drills_of(connection)) == 1


def test_a_begin_that_was_cut_short_is_continued(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []

    def cut(*arguments: Any, **others: Any) -> RestorePlan:
        calls.append(arguments)
        if len(calls) == 4:
            raise CatalogUnavailable("It is gone.")
        return plan_restore(*arguments, **others)

    monkeypatch.setattr("restore_lib.drills.run.plan_restore", cut)
    with pytest.raises(CatalogUnavailable):
        begin_drill(site, "monthly", "ann", 7)
    monkeypatch.undo()
    drill_id = begin_drill(site, "monthly", "ann", 99)
    with site.catalog.read() as connection:
        made = [request.id for request in catalog_requests.requests(connection)]
        assert drills.drill(connection, drill_id).requests == tuple(made)
        assert len(made) == 2
    run_restores(site, drill_id)
    assert finish_drill(site, drill_id, "ann").verdict is Verdict.PASSED


def test_two_begins_at_once_are_one_drill(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def overtaken(*arguments: Any, **others: Any) -> RestorePlan:
        if not others:
            monkeypatch.undo()
            begin_drill(site, "monthly", "bob", 7)
        return plan_restore(*arguments, **others)

    monkeypatch.setattr("restore_lib.drills.run.plan_restore", overtaken)
    drill_id = begin_drill(site, "monthly", "ann", 7)
    with site.catalog.read() as connection:
        made = catalog_requests.requests(connection)
        kept = drills.drill(connection, drill_id).requests
    assert sorted(request.state for request in made) == ["active"] * 2 + ["cancelled"] * 2
    assert set(kept) == {one.id for one in made if one.state is RequestState.ACTIVE}
    run_restores(site, drill_id)
    assert finish_drill(site, drill_id, "ann").verdict is Verdict.PASSED


def test_a_finish_that_was_cut_short_comes_to_the_same(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    drill_id = begin_drill(site, "monthly", "ann", 7)
    run_restores(site, drill_id)

    def cut(*_: object) -> None:
        raise CatalogUnavailable("It is gone.")

    monkeypatch.setattr(drills, "end_drill", cut)
    with pytest.raises(CatalogUnavailable):
        finish_drill(site, drill_id, "ann")
    monkeypatch.undo()
    assert out(site) == {}
    ended = finish_drill(site, drill_id, "ann")
    assert (ended.state, ended.verdict) == (DrillState.ENDED, Verdict.PASSED)


def test_too_slow_a_drill_fails(site: Site, clock: ManualClock) -> None:
    drill_id = begin_drill(site, "plain", "ann", 7)
    clock.advance(timedelta(hours=1, seconds=1))
    run_restores(site, drill_id)
    ended = finish_drill(site, drill_id, "ann")
    assert ended.verdict is Verdict.FAILED
    assert ended.evidence["measures"]["rto_met"] is False
    assert ended.evidence["measures"]["rpo_met"] is True


def test_too_old_a_recovery_point_fails(site: Site, clock: ManualClock) -> None:
    clock.advance(timedelta(hours=2))
    drill_id = begin_drill(site, "plain", "ann", 7)
    run_restores(site, drill_id)
    ended = finish_drill(site, drill_id, "ann")
    assert ended.verdict is Verdict.FAILED
    assert ended.evidence["measures"]["rpo_met"] is False


def test_a_cancelled_drill_fails_and_is_cleaned(site: Site) -> None:
    drill_id = begin_drill(site, "monthly", "ann", 7)
    with site.catalog.read() as connection:
        first, other = drills.drill(connection, drill_id).requests
    cancel_restore(site, other, "ann")
    finish(site, first)
    assert out(site)
    assert finish_drill(site, drill_id, "ann").verdict is Verdict.FAILED
    assert out(site) == {}


def test_what_was_not_the_drills_stays_in_the_scratch_store(site: Site) -> None:
    drill_id = begin_drill(site, "monthly", "ann", 7)
    run_restores(site, drill_id)
    store = site.store("out")
    store.put(b"mine", [b"x"], size=1, sha256=hashlib.sha256(b"x").hexdigest())
    finish_drill(site, drill_id, "ann")
    assert out(site).keys() == {b"mine"}
    with pytest.raises(Refused, match="not empty"):
        begin_drill(site, "monthly", "ann", 8)


def test_a_drill_without_a_key_or_a_backup_begins_nothing(site: Site, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no drill 'nope'"):
        plan_drill(site, "nope")
    (tmp_path / "operating.txt").unlink()
    with pytest.raises(KeyUnusable):
        begin_drill(site, "monthly", "ann", 7)
    empty = make_site(tmp_path / "empty", extra=DRILLS, blank=0)
    with pytest.raises(Refused, match="no recovery point"):
        begin_drill(empty, "monthly", "ann", 7)
    for one in (site, empty):
        with one.catalog.read() as connection:
            assert drills.drills_of(connection) == []
