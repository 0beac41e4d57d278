"""Repacking end to end: objects come back byte for byte, before and after, whatever is broken."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from restore_lib.catalog import audit, repacks, tape_sets
from restore_lib.catalog.volumes import volumes
from restore_lib.errors import DiskFull, LeaseLost, Refused
from restore_lib.integrity import repack_read
from restore_lib.integrity.repack import RepackResult, run_repack
from restore_lib.library.faults import Faults, write_faults
from restore_lib.library.virtual_drive import VirtualDrive
from restore_lib.model.states import SetState
from restore_lib.model.volume import Content, Health
from restore_lib.restore.request import RestoreSpec, plan_restore, start_restore
from restore_lib.site import Site
from restore_lib.tape.age import new_identity
from tests.integrity.repairs import check_restore, known, lose, verify
from tests.support.repacks import (
    KEPT,
    NEW,
    OLD,
    POLICY,
    K,
    M,
    build,
    copied,
    known_rows,
    live_extents_of,
    sets_in,
    staging_is_empty,
)
from tests.support.sites import (
    ACTOR,
    back_up,
    digests,
    finish,
    image,
    open_site,
    write_files,
)
from tests.support.spoil import joined, parts


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mostly-expired")
    build(root).close()
    return root


@pytest.fixture
def site(origin: Path, tmp_path: Path) -> Iterator[Site]:
    """A site of three sets' volumes: ``OLD`` is mostly expired, ``NEXT`` is live."""
    opened = open_site(copied(origin, tmp_path / "site"))
    yield opened
    opened.close()


def members(site: Site, tape_set: str) -> tuple[str, ...]:
    with site.catalog.read() as connection:
        return tape_sets.tape_set(connection, tape_set).barcodes


def moved(result: RepackResult) -> int:
    return sum(one.moved for one in result.sets)


def test_live_payloads_move_and_nothing_else_changes(site: Site) -> None:
    live, before = live_extents_of(site), known_rows(site)
    (site.config.keys.identity_file or Path()).rename(site.staging.parent / "key.away")
    result = run_repack(site, ACTOR)
    [done] = result.sets
    assert (done.tape_set, done.moved, done.empty) == (OLD, live, True)
    assert (result.new_sets, result.waiting, result.unreadable) == ([NEW], [], {})
    assert known_rows(site) == before
    assert live_extents_of(site) == 0
    assert live_extents_of(site, NEW) == live
    with site.catalog.read() as connection:
        assert {v.content for v in volumes(connection, members(site, NEW))} == {Content.FULL}
        actions = {event["action"] for event in audit.newest(connection, 9)}
        assert audit.verify(connection).ok
    assert {"repack.begin", "repack.close_set", "repack.done"} <= actions
    assert staging_is_empty(site)
    (site.staging.parent / "key.away").rename(site.config.keys.identity_file or Path())
    assert verify(site, *members(site, NEW)) == "passed"
    for barcode in [*members(site, OLD), *members(site, NEW)[:M]]:
        lose(site, barcode)
    check_restore(site)


def test_what_is_done_is_not_done_again(site: Site) -> None:
    run_repack(site, ACTOR)
    again = run_repack(site, ACTOR)
    assert (again.sets, again.new_sets) == ([], [])
    named = run_repack(site, ACTOR, sets=[OLD])
    assert moved(named) == 0
    assert sets_in(site, SetState.OPEN) == []


def test_a_lost_volume_and_bad_blocks_are_made_good_from_parity(site: Site) -> None:
    lost, *others = members(site, OLD)
    lose(site, lost)
    for number, barcode in enumerate(others):
        bad = tuple((1, row, row) for row in range(number, 15, K + M))
        write_faults(image(site, barcode), Faults(unreadable_blocks=bad))
    result = run_repack(site, ACTOR)
    assert result.unreadable == {}
    assert known(site, lost).health is Health.LOST
    assert live_extents_of(site) == 0
    for barcode in others:
        lose(site, barcode)
    check_restore(site)


def test_a_volume_that_gives_wrong_bytes_is_found_out(site: Site) -> None:
    spoiled = members(site, OLD)[0]
    path = image(site, spoiled)
    draw = random.Random(3)
    records = [
        record if n < 2 or not record else bytes([record[0] ^ 1]) + draw.randbytes(len(record) - 1)
        for n, record in enumerate(parts(path.read_bytes()))
    ]
    path.write_bytes(joined(records))
    result = run_repack(site, ACTOR)
    assert result.unreadable == {}
    assert known(site, spoiled).health is Health.SUSPECT
    assert live_extents_of(site) == 0
    for barcode in members(site, OLD):
        lose(site, barcode)
    check_restore(site)


def test_what_can_not_be_read_is_named_and_left_where_it_is(site: Site) -> None:
    live = live_extents_of(site)
    for barcode in members(site, OLD)[1:]:
        lose(site, barcode)
    result = run_repack(site, ACTOR)
    [done] = result.sets
    assert done.moved
    assert done.unreadable == live - done.moved > 0
    assert set(result.unreadable) <= {key.decode() for key in KEPT}
    assert "can't be read" in next(iter(result.unreadable.values()))
    assert not done.empty
    assert live_extents_of(site) == done.unreadable
    with pytest.raises(Refused, match="payloads are lost"):
        run_repack(site, ACTOR, sets=[OLD])


def test_a_volume_that_fails_while_it_is_written_is_set_aside(site: Site) -> None:
    new = f"TF{2 * (K + M):04}L9"
    write_faults(image(site, new), Faults(unreadable_blocks=((1, 0, 0),)))
    result = run_repack(site, ACTOR)
    assert known(site, new).health is Health.SUSPECT
    assert new not in members(site, result.new_sets[0])
    assert live_extents_of(site) == 0
    assert verify(site, *members(site, result.new_sets[0])) == "passed"
    check_restore(site)


def test_a_small_staging_disk_takes_one_load_after_the_other(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(site.staging)
    pages: list[int] = []
    read_page = repack_read.read_page

    def counted(source: Any, wanted: Any, *rest: Any) -> Any:
        pages.append(len(wanted))
        return read_page(source, wanted, *rest)

    monkeypatch.setattr("restore_lib.integrity.repack.read_page", counted)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.raises(DiskFull, match="has room for 0 bytes"):
        run_repack(site, ACTOR)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_500_000))
    result = run_repack(site, ACTOR)
    assert len(pages) > 1
    assert sum(pages) == moved(result)
    assert result.new_sets == [NEW]
    assert live_extents_of(site) == 0
    monkeypatch.undo()
    check_restore(site)


def test_several_sets_go_to_one_and_a_full_one_is_followed_by_another(tmp_path: Path) -> None:
    policy = 'k = 2\nm = 1\nblock_size = "4KiB"\nsegment_size = "64KiB"'
    site = build(tmp_path, policy=policy, capacity="140KB", blank=60)
    closed = sets_in(site, SetState.CLOSED)
    result = run_repack(site, ACTOR, sets=closed)
    assert 1 < len(result.new_sets) < len(closed) - 2
    assert all(live_extents_of(site, name) == 0 for name in closed)
    assert set(result.new_sets) <= set(sets_in(site, SetState.CLOSED))
    check_restore(site)
    site.close()


def test_sets_that_backups_may_append_to_are_left_open(tmp_path: Path) -> None:
    site = build(tmp_path, policy=POLICY + "\nkeep_open = true", capacity="260KB")
    assert OLD in sets_in(site, SetState.CLOSED)
    [new] = run_repack(site, ACTOR, sets=[OLD]).new_sets
    assert new in sets_in(site, SetState.OPEN)
    with site.catalog.read() as connection:
        assert tape_sets.is_idle(connection, new)
    write_files(tmp_path / "live", {b"later": b"1"})
    back_up(site)
    check_restore(site)
    site.close()


def test_payloads_keep_their_recipients(site: Site) -> None:
    root = site.config.library.path.parent
    before = site.recipients.names
    config = root / "tapeflow.toml"
    _, other = new_identity()
    config.write_text(config.read_text().replace(before[0], other))
    changed = open_site(root)
    [new] = run_repack(changed, ACTOR).new_sets
    with changed.catalog.read() as connection:
        assert tape_sets.tape_set(connection, new).recipients == before
    for barcode in members(changed, OLD):
        lose(changed, barcode)
    check_restore(changed)
    changed.close()


def test_what_an_unfinished_restore_reads_is_left_for_later(site: Site) -> None:
    plan = plan_restore(site, RestoreSpec(store="live", prefix=b"cut", target="out"), ACTOR)
    assert plan.request_id is not None
    start_restore(site, plan.request_id, ACTOR)
    [first] = run_repack(site, ACTOR).sets
    assert first.in_use == live_extents_of(site) > 0
    assert not first.empty
    finish(site, plan.request_id)
    out = site.config.library.path.parent / "out"
    assert digests(out)[b"cut"] == digests(out.parent / "live")[b"cut"]
    [second] = run_repack(site, ACTOR, sets=[OLD]).sets
    assert (second.moved, second.in_use, second.empty) == (first.in_use, 0, True)
    check_restore(site)


@pytest.mark.parametrize("lost", [False, True])
def test_a_restore_that_was_planned_before_the_move_is_planned_anew(
    site: Site, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    if lost:
        barcode = members(site, OLD)[0]
        lose(site, barcode)
        verify(site, barcode)
    planned: list[int] = []

    def then_plan(*args: Any) -> Any:
        page = repack_read.read_page(*args)
        plan = plan_restore(site, RestoreSpec(store="live", prefix=b"", target="out"), ACTOR)
        assert plan.request_id is not None
        start_restore(site, plan.request_id, ACTOR)
        planned.append(plan.request_id)
        return page

    monkeypatch.setattr("restore_lib.integrity.repack.read_page", then_plan)
    [done] = run_repack(site, ACTOR).sets
    assert done.empty
    monkeypatch.undo()
    finish(site, planned[0])
    root = site.config.library.path.parent
    assert digests(root / "out") == digests(root / "live")
    with site.catalog.read() as connection:
        assert not [v for v in volumes(connection) if v.health is Health.SUSPECT]


def test_of_two_runs_the_later_one_writes(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    results: list[RepackResult] = []
    write = VirtualDrive.write

    def overtaken(self: VirtualDrive, block: bytes) -> None:
        if not results:
            results.append(RepackResult())
            with site.catalog.write() as connection:
                repacks.begin_run(connection, "live", site.recipients.names, site.clock.now())
        write(self, block)

    monkeypatch.setattr(VirtualDrive, "write", overtaken)
    live = live_extents_of(site)
    with pytest.raises(LeaseLost, match="Another run"):
        run_repack(site, ACTOR)
    assert live_extents_of(site) == live
    result = run_repack(site, ACTOR)
    assert result.new_sets == [NEW]
    assert live_extents_of(site) == 0
    check_restore(site)


def test_on_each_database(tmp_path: Path, catalog_url: str) -> None:
    site = build(tmp_path, url=catalog_url)
    before = known_rows(site)
    assert run_repack(site, ACTOR).sets[0].empty
    assert known_rows(site) == before
    check_restore(site)
    site.close()
