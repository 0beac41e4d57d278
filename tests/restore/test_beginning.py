from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, select, update

from restore_lib.catalog import batches, tables, waves
from restore_lib.catalog.batches import Batch, BatchItem
from restore_lib.catalog.leases import CatalogLeases
from restore_lib.errors import DriveBusy, MediumError, StoreUnavailable
from restore_lib.library.faults import Faults, write_faults
from restore_lib.library.virtual import VirtualLibrary
from restore_lib.model.states import BatchKind, BatchState
from restore_lib.restore.batch import run_batch
from restore_lib.restore.beginning import Begun, begin, next_here
from restore_lib.restore.claiming import claim
from restore_lib.restore.pausing import pause_restore
from restore_lib.restore.request import RestoreSpec, cancel_restore, plan_restore, start_restore
from restore_lib.site import Site
from restore_lib.stores.local_group import LocalGroup
from tests.support.clock import ManualClock
from tests.support.restores import History
from tests.support.sites import ACTOR, back_up, digests, finish, image, make_site, write_files


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site with a backup whose objects lie on one volume."""
    policy = 'k = 1\nm = 1\nblock_size = "4KiB"\nsegment_size = "256KiB"'
    opened = make_site(tmp_path, policy=policy, clock=ManualClock())
    write_files(tmp_path / "live", {b"%d/%d" % (n % 3, n): b"%d" % n * 900 for n in range(30)})
    back_up(opened)
    yield opened
    opened.close()


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The volumes that were mounted, in order."""
    found: list[str] = []
    load = VirtualLibrary.load

    def counting(self: VirtualLibrary, barcode: str, drive: int, token: int) -> object:
        found.append(barcode)
        return load(self, barcode, drive, token)

    monkeypatch.setattr(VirtualLibrary, "load", counting)
    return found


def ask(site: Site, prefix: bytes = b"") -> int:
    spec = RestoreSpec(store="live", prefix=prefix, target="out")
    request_id = plan_restore(site, spec, ACTOR).request_id or 0
    start_restore(site, request_id, ACTOR)
    return request_id


def states(site: Site) -> list[BatchState]:
    with site.catalog.read() as connection:
        return [batch.state for batch in batches.batches_of(connection)]


def state_after(site: Site, batch_id: int, runner: str | None = None) -> BatchState:
    found = begin(site, batch_id, runner)
    return found.batch.state if isinstance(found, Begun) else found.state


def test_a_batch_begins_with_all_that_it_needs(site: Site) -> None:
    request_id = ask(site)
    [batch_id] = claim(site, "one")
    begun = begin(site, batch_id, "one")
    assert isinstance(begun, Begun)
    assert (begun.batch.state, begun.batch.attempts) == (BatchState.RUNNING, 1)
    assert begun.request.id == request_id
    assert len(begun.items) == 30


def test_what_is_moved_to_another_set_while_a_batch_begins_is_not_read_from_the_old_one(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(site)
    [batch_id] = claim(site, "one")
    look = batches.batch_items

    def moving(connection: Connection, batch_id: int) -> list[BatchItem]:
        rows = connection.execute(select(tables.tape_sets)).mappings().all()
        if len(rows) == 1:
            connection.execute(insert(tables.tape_sets).values({**rows[0], "id": "OTHER"}))
            connection.execute(update(tables.stripes).values(tape_set="OTHER"))
        return look(connection, batch_id)

    monkeypatch.setattr(batches, "batch_items", moving)
    begun = begin(site, batch_id, "one")
    assert isinstance(begun, Begun)
    assert begun.items == []


def test_what_is_not_to_be_run_does_not_begin(site: Site) -> None:
    first, second, third = (ask(site, prefix) for prefix in (b"0/", b"1/", b"2/"))
    claimed = claim(site, "one")
    assert all(isinstance(begin(site, batch_id, "two"), Batch) for batch_id in claimed)
    with site.catalog.read() as connection:
        of = {b.request_id: b.id for b in batches.batches_of(connection)}
    cancel_restore(site, first, ACTOR)
    pause_restore(site, second, ACTOR)
    assert state_after(site, of[first]) is BatchState.CANCELLED
    assert state_after(site, of[second]) is BatchState.PLANNED
    assert state_after(site, of[third], "one") is BatchState.RUNNING
    with site.catalog.write() as connection:
        batches.end_batch(connection, of[third], BatchState.DONE, site.clock.now(), None)
    assert state_after(site, of[third], "one") is BatchState.DONE


def test_a_request_begins_no_more_than_it_may_have_at_once(site: Site) -> None:
    with site.catalog.write() as connection:
        history = History(connection, at_once=1)
        ids = [history.batch(["TF0000L9"], barcode="TF0000L9") for _ in range(2)]
        waves.open_wave(connection, history.id, ids, "one", site.clock.now())
    assert state_after(site, ids[0], "one") is BatchState.RUNNING
    assert state_after(site, ids[1], "one") is BatchState.PLANNED
    with site.catalog.read() as connection:
        assert [batch.id for batch in batches.unclaimed(connection, history.id)] == [ids[1]]
    assert state_after(site, ids[0], "one") is BatchState.RUNNING


def test_what_is_being_read_does_not_begin_again(site: Site) -> None:
    ask(site)
    [batch_id] = claim(site, "one")
    begin(site, batch_id, "one")
    leases = CatalogLeases(site.catalog, site.clock)
    held = leases.acquire([0], "another", "TF0000L9", site.config.library.lease)
    assert held is not None
    with pytest.raises(DriveBusy, match="in use"):
        begin(site, batch_id, "one")
    leases.release(held)
    assert run_batch(site, batch_id, ACTOR, runner="one").state is BatchState.DONE


def test_what_waits_for_its_volume_is_not_begun_but_by_who_has_it(site: Site) -> None:
    ask(site)
    [batch_id] = claim(site, "one")
    leases = CatalogLeases(site.catalog, site.clock)
    held = leases.acquire([0], "another", "TF0000L9", site.config.library.lease)
    assert held is not None
    with pytest.raises(DriveBusy, match="waits for TF0000L9"):
        begin(site, batch_id, "one")
    with site.catalog.read() as connection:
        assert batches.batch(connection, batch_id).state is BatchState.PLANNED
    assert isinstance(begin(site, batch_id, "one", mounted=True), Begun)


def test_only_what_the_runner_has_claimed_is_next_in_a_mount(site: Site) -> None:
    ask(site, b"0/")
    [first] = claim(site, "one")
    ask(site, b"1/")
    [second] = claim(site, "two")
    with site.catalog.read() as connection:
        batch = batches.batch(connection, first)
    assert batch.kind is BatchKind.READ
    assert [next_here(site, batch, runner) for runner in ("one", "two")] == [first, second]
    begin(site, second)
    assert next_here(site, batch, "two") is None


def test_one_mount_serves_all_requests(site: Site, tmp_path: Path, loads: list[str]) -> None:
    for prefix in (b"0/", b"1/", b"2/"):
        ask(site, prefix)
    first, *others = claim(site, "one")
    assert run_batch(site, first, ACTOR, runner="one").restored == 10
    assert states(site) == [BatchState.DONE] * 3
    assert digests(tmp_path / "out") == digests(tmp_path / "live")
    for batch_id in others:
        assert run_batch(site, batch_id, ACTOR, runner="one").state is BatchState.DONE
    assert loads == ["TF0000L9"]


def test_a_volume_that_fails_in_the_mount_of_another_is_gone_around(
    site: Site, tmp_path: Path, loads: list[str]
) -> None:
    first, second = ask(site, b"0/"), ask(site, b"1/")
    write_faults(image(site, "TF0000L9"), Faults(unreadable_blocks=((1, 4, 4),)))
    problems = []
    for batch_id in claim(site, "one"):
        try:
            run_batch(site, batch_id, ACTOR, runner="one")
        except MediumError as error:
            problems.append(error)
    assert len(problems) == states(site).count(BatchState.FAILED) > 0
    assert loads == ["TF0000L9"]
    for request_id in (first, second):
        finish(site, request_id)
    live = digests(tmp_path / "live")
    wanted = {key: found for key, found in live.items() if key[:2] in {b"0/", b"1/"}}
    assert digests(tmp_path / "out") == wanted


def test_a_store_that_goes_away_in_the_mount_of_another_ends_only_that(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(site, b"0/")
    ask(site, b"1/")
    first, second = claim(site, "one")
    add, left = LocalGroup.add, 12

    def failing(self: LocalGroup, *args: object, **kwargs: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise StoreUnavailable("gone")
        add(self, *args, **kwargs)  # type: ignore[arg-type]  # passed on as they are

    with monkeypatch.context() as patch:
        patch.setattr(LocalGroup, "add", failing)
        assert run_batch(site, first, ACTOR, runner="one").state is BatchState.DONE
    with site.catalog.read() as connection:
        other = batches.batch(connection, second)
    assert (other.state, other.attempts, other.error) == (BatchState.PLANNED, 1, "gone")
    assert run_batch(site, second, ACTOR, runner="one").restored == 8
