from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.vendor import open_vendors
from restore_lib.catalog import audit, batches, requests
from restore_lib.errors import Refused
from restore_lib.model.states import BatchState, RequestState
from restore_lib.restore import flow
from restore_lib.restore.batch import run_batch
from restore_lib.restore.claiming import claim, settle
from restore_lib.restore.pausing import pause_restore, resume_restore
from restore_lib.restore.request import RestoreSpec, cancel_restore, plan_restore, start_restore
from restore_lib.site import Site
from restore_lib.vault.outbound import plan_vault_out, send_out
from restore_lib.vault.receiving import receive
from tests.support.sites import (
    ACTOR,
    back_up,
    digests,
    finish,
    make_site,
    open_site,
    write_files,
)

EVERYTHING = RestoreSpec(store="live", prefix=b"", target="out")
POLICY = 'k = 4\nm = 2\nblock_size = "4KiB"\nsegment_size = "64KiB"'


@pytest.fixture
def site(tmp_path: Path, catalog_url: str) -> Iterator[Site]:
    """A site with a backup on one set of 4+2, once on each database."""
    opened = make_site(tmp_path, policy=POLICY, url=catalog_url)
    write_files(tmp_path / "live", {b"%03d" % n: b"%d" % n * 1500 for n in range(40)})
    back_up(opened)
    yield opened
    opened.close()


def ask(site: Site) -> int:
    request_id = plan_restore(site, EVERYTHING, ACTOR).request_id or 0
    start_restore(site, request_id, ACTOR)
    return request_id


def state_of(site: Site, batch_id: int) -> BatchState:
    with site.catalog.read() as connection:
        return batches.batch(connection, batch_id).state


def test_no_batch_begins_while_it_is_paused_and_then_all_do(site: Site, tmp_path: Path) -> None:
    request_id = ask(site)
    first, *rest = claim(site, "one")
    run_batch(site, first, ACTOR, runner="one")
    assert rest
    assert pause_restore(site, request_id, ACTOR).state is RequestState.PAUSED
    kept = digests(tmp_path / "out")
    for batch_id in rest:
        assert run_batch(site, batch_id, ACTOR, runner="one").state is BatchState.PLANNED
    assert settle(site, "one") == {BatchState.DONE: 1}
    assert claim(site, "one") == []
    assert not flow.open_work(site)
    flow.advance(site, ACTOR)
    assert not flow.is_ended(site, request_id)
    assert digests(tmp_path / "out") == kept != {}

    with open_site(tmp_path).catalog.read() as connection:
        assert requests.request(connection, request_id).state is RequestState.PAUSED
    assert resume_restore(site, request_id, ACTOR).state is RequestState.ACTIVE
    assert flow.open_work(site)
    finish(site, request_id)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")
    with site.catalog.read() as connection:
        assert {b.attempts for b in batches.batches_of(connection, request_id=request_id)} == {1}


def test_a_task_of_a_former_wave_leaves_its_batch_to_the_new_one(site: Site) -> None:
    request_id = ask(site)
    batch_id, *_ = claim(site, "one")
    pause_restore(site, request_id, ACTOR)
    resume_restore(site, request_id, ACTOR)
    assert batch_id in claim(site, "two")
    assert run_batch(site, batch_id, ACTOR, runner="one").restored == 0
    assert state_of(site, batch_id) is BatchState.PLANNED
    assert run_batch(site, batch_id, ACTOR, runner="two").state is BatchState.DONE


def test_a_batch_that_runs_is_not_kept_from_its_end(site: Site) -> None:
    request_id = ask(site)
    running, *_ = claim(site, "one")
    with site.catalog.write() as connection:
        batches.begin_batch(connection, running, site.clock.now())
    pause_restore(site, request_id, ACTOR)
    assert state_of(site, running) is BatchState.RUNNING
    assert run_batch(site, running, ACTOR, runner="one").state is BatchState.PLANNED


def test_a_paused_restore_recalls_nothing(site: Site, tmp_path: Path) -> None:
    send_out(site, plan_vault_out(site), ACTOR)
    for _ in range(4):
        for vendor in open_vendors(site.config):
            vendor.work()
        receive(site, ACTOR)
    request_id = ask(site)
    pause_restore(site, request_id, ACTOR)
    assert not flow.open_work(site)
    assert flow.advance(site, ACTOR).recalls == []
    resume_restore(site, request_id, ACTOR)
    assert flow.advance(site, ACTOR).recalls


def test_who_paused_and_resumed_is_in_the_audit_trail(site: Site) -> None:
    request_id = ask(site)
    claimed = claim(site, "one")
    assert len(claimed) > 1
    for _ in range(2):
        pause_restore(site, request_id, "ann")
    for _ in range(2):
        resume_restore(site, request_id, "bob")
    with site.catalog.read() as connection:
        trail = audit.newest(connection, 2)
    assert sorted((event["actor"], event["action"], event["detail"]) for event in trail) == [
        ("ann", "restore.pause", {"given_back": len(claimed)}),
        ("bob", "restore.resume", {}),
    ]


def test_only_what_is_under_way_can_be_paused(site: Site) -> None:
    planned = plan_restore(site, EVERYTHING, ACTOR).request_id or 0
    with pytest.raises(Refused, match="is planned"):
        pause_restore(site, planned, ACTOR)
    assert resume_restore(site, planned, ACTOR).state is RequestState.ACTIVE
    pause_restore(site, planned, ACTOR)
    assert cancel_restore(site, planned, ACTOR).state is RequestState.CANCELLED
    with pytest.raises(Refused, match="is cancelled"):
        pause_restore(site, planned, ACTOR)
    assert resume_restore(site, planned, ACTOR).state is RequestState.CANCELLED
