import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from restore_lib.catalog import batches, incidents, requests, tables
from restore_lib.catalog.incidents import Loss
from restore_lib.errors import KeyUnusable, Refused
from restore_lib.model.states import BatchState, ItemState, LossClass, RequestState
from restore_lib.model.volume import Custody
from restore_lib.restore.request import (
    RestoreSpec,
    cancel_restore,
    plan_restore,
    start_restore,
)
from restore_lib.site import Site
from restore_lib.tape.age import new_identity
from tests.support.sites import (
    ACTOR,
    back_up,
    begin,
    make_site,
    open_site,
    restore,
    write_files,
)

CONTENTS = {b"d/%02d" % n: os.urandom(n * 10_000) for n in range(10)} | {b"e": b"e"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = make_site(tmp_path)
    write_files(tmp_path / "live", CONTENTS)
    back_up(made)
    yield made
    made.close()


def everything(**values: object) -> RestoreSpec:
    return RestoreSpec(**({"store": "live", "prefix": b"", "target": "out"} | values))  # type: ignore[arg-type]  # a test's shorthand


def rows(site: Site) -> dict[str, int]:
    with site.catalog.read() as connection:
        return {
            name: int(connection.execute(select(func.count()).select_from(table)).scalar_one())
            for name, table in tables.metadata.tables.items()
        }


def test_a_plan_tells_what_is_needed_and_is_kept_with_its_request(site: Site) -> None:
    plan = plan_restore(site, everything(prefix=b"d/"), ACTOR)
    shown = plan.as_dict()
    assert shown["counts"] == {
        "asked": 10,
        "on_tape": 10,
        "changed_after_backup": 0,
        "never_backed_up": 0,
        "unrestorable": 0,
    }
    assert {row["barcode"] for row in shown["volumes"]} == {"TF0000L9", "TF0001L9"}
    assert sum(row["objects"] for row in shown["volumes"]) == 10
    assert shown["estimate"]["seconds"] > 0
    assert shown["estimate"]["p95_seconds"] >= shown["estimate"]["seconds"]
    assert shown["estimate"]["stages"]["recall"]["p95_seconds"] == 0
    assert shown["estimate"]["stages"]["read"]["seconds"] > 0
    assert json.loads(json.dumps(shown)) == shown
    with site.catalog.read() as connection:
        request = requests.request(connection, plan.request_id or 0)
    assert request.state is RequestState.PLANNED
    assert dict(request.plan or {}) == dict(plan.detail)
    assert request.source == {"prefix": "d/", "recovery_point": 1}


def test_a_dry_run_shows_the_same_plan_and_leaves_no_rows(site: Site) -> None:
    before = rows(site)
    tried = plan_restore(site, everything(), ACTOR, dry_run=True)
    assert rows(site) == before
    assert tried.request_id is None
    assert tried.detail == plan_restore(site, everything(), ACTOR).detail


def test_names_of_a_list_are_planned_and_unknown_ones_named(site: Site) -> None:
    names = [b"d/03", b"never\n\xff", b"e", b"d/03"]
    plan = plan_restore(site, everything(prefix=None, keys=names), ACTOR)
    assert plan.detail["counts"]["asked"] == 3
    assert plan.detail["counts"]["never_backed_up"] == 1
    assert plan.detail["unrestorable"] == [r"never\n\xff"]


def test_volumes_in_a_vault_cost_their_way(site: Site) -> None:
    with site.catalog.write() as connection:
        connection.execute(
            tables.volumes.update()
            .where(tables.volumes.c.barcode.in_(["TF0001L9", "TF0002L9"]))
            .values(custody=Custody.VAULT, place="vault:north")
        )
    plan = plan_restore(site, everything(), ACTOR)
    recall = plan.detail["estimate"]["stages"]["recall"]
    assert recall["seconds"] == pytest.approx(1.0, rel=0.2)
    assert recall["p95_seconds"] > recall["seconds"]
    assert plan.detail["estimate"]["seconds"] > recall["seconds"]
    places = {row["barcode"]: row["place"] for row in plan.detail["volumes"]}
    assert places == {"TF0000L9": "library", "TF0001L9": "vault:north"}


def test_an_incident_without_tapes_needs_no_key(site: Site, tmp_path: Path) -> None:
    (tmp_path / "operating.txt").unlink()
    names = [b"never"]
    plan = plan_restore(site, everything(prefix=None, keys=names), ACTOR)
    assert plan.detail["counts"]["unrestorable"] == 1


@pytest.mark.parametrize("key", ["missing", "wrong", "none"])
def test_without_the_right_key_nothing_is_planned(site: Site, tmp_path: Path, key: str) -> None:
    if key == "wrong":
        (tmp_path / "operating.txt").write_text(new_identity()[0])
    elif key == "missing":
        (tmp_path / "operating.txt").unlink()
    else:
        text = (tmp_path / "tapeflow.toml").read_text()
        without = text.replace('identity_file = "operating.txt"', "")
        (tmp_path / "tapeflow.toml").write_text(without)
    before = rows(site)
    other = open_site(tmp_path)
    for dry_run in (True, False):
        with pytest.raises(KeyUnusable):
            plan_restore(other, everything(), ACTOR, dry_run=dry_run)
    assert rows(site) == before
    other.close()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prefix": None}, "of an incident, of a prefix, or of a list"),
        ({"keys": [b"a"]}, "of an incident, of a prefix, or of a list"),
        ({"prefix": b"nothing/"}, "No object of live"),
        ({"prefix": None, "keys": []}, "No object of live"),
        ({"store": "nowhere"}, "no store 'nowhere'"),
        ({"target": "nowhere"}, "no store 'nowhere'"),
        ({"store": None}, "not named"),
        ({"store": "out"}, "no recovery point of out"),
        ({"recovery_point": 99}, "no recovery point 99"),
        ({"recovery_point": 1, "store": "out"}, "is of live, not of out"),
        ({"prefix": None, "incident": 99}, "no incident 99"),
    ],
)
def test_what_can_not_be_meant_is_refused(
    site: Site, values: dict[str, object], message: str
) -> None:
    before = rows(site)
    with pytest.raises(Refused, match=message):
        plan_restore(site, everything(**values), ACTOR)
    assert rows(site) == before


def test_a_recovery_point_that_is_still_open_is_refused(site: Site, tmp_path: Path) -> None:
    write_files(tmp_path / "live", {b"new": b"1"})
    point = begin(site)
    with pytest.raises(Refused, match="not committed"):
        plan_restore(site, everything(recovery_point=point.id), ACTOR)
    plan = plan_restore(site, everything(), ACTOR)
    assert plan.detail["counts"]["asked"] == len(CONTENTS)


def test_an_incident_is_planned_by_the_classes_of_its_losses(site: Site) -> None:
    with site.catalog.write() as connection:
        held = {v.key: v for v in incidents.versions_at(connection, "live", 1)}
        lost = [
            Loss(b"e", LossClass.ON_TAPE, held[b"e"].version_id, None, None),
            Loss(b"d/01", LossClass.CHANGED_AFTER_BACKUP, held[b"d/01"].version_id, 5, None),
            Loss(b"new", LossClass.NEVER_BACKED_UP, None, 5, None),
        ]
        incident_id = incidents.add_incident(
            connection,
            store="live",
            reference="r",
            rp_id=1,
            at=site.clock.now(),
            counts={},
            lost=lost,
        )
    spec = RestoreSpec(incident=incident_id, target="out")
    plan = plan_restore(site, spec, ACTOR)
    assert plan.detail["counts"] == {
        "asked": 3,
        "on_tape": 2,
        "changed_after_backup": 1,
        "never_backed_up": 1,
        "unrestorable": 1,
    }
    assert plan.detail["unrestorable"] == ["new"]


def test_a_request_is_released_once(site: Site) -> None:
    request_id = plan_restore(site, everything(), ACTOR).request_id or 0
    assert start_restore(site, request_id, ACTOR).state is RequestState.ACTIVE
    assert start_restore(site, request_id, ACTOR).state is RequestState.ACTIVE


def test_a_cancelled_request_gives_its_planned_batches_up(site: Site) -> None:
    request_id = plan_restore(site, everything(), ACTOR).request_id or 0
    start_restore(site, request_id, ACTOR)
    cancelled = cancel_restore(site, request_id, ACTOR)
    assert cancelled.state is RequestState.CANCELLED
    assert cancel_restore(site, request_id, "another") == cancelled
    with site.catalog.read() as connection:
        held = batches.batches_of(connection, request_id=request_id)
        counts = requests.count_items(connection, request_id)
    assert {batch.state for batch in held} == {BatchState.CANCELLED}
    assert counts[ItemState.PENDING] == len(CONTENTS)
    assert start_restore(site, request_id, ACTOR).state is RequestState.CANCELLED


def test_a_request_that_has_ended_is_not_cancelled(site: Site) -> None:
    request_id = restore(site, everything())
    with pytest.raises(Refused, match="has ended"):
        cancel_restore(site, request_id, ACTOR)
    with site.catalog.read() as connection:
        assert requests.request(connection, request_id).state is RequestState.ENDED
