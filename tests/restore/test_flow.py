import json
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from demo.vendor import open_vendors
from restore_lib.backup.run import commit_backup, job_ids, run_job
from restore_lib.catalog import batches, requests, tables, waves
from restore_lib.catalog.volumes import change, volume, volumes
from restore_lib.catalog.waves import Wave
from restore_lib.errors import DriveBusy, GoElsewhere
from restore_lib.library.faults import DriveDies, Faults, write_faults
from restore_lib.model.states import BatchState, ItemState, RequestState, WaveState, Way
from restore_lib.model.volume import Custody, Flag, Health
from restore_lib.restore import flow
from restore_lib.restore.batch import run_batch
from restore_lib.restore.claiming import abandoned_waves, claim, settle, settle_wave
from restore_lib.restore.request import RestoreSpec, cancel_restore, plan_restore, start_restore
from restore_lib.site import Site
from restore_lib.vault.outbound import plan_vault_out, send_out
from restore_lib.vault.receiving import receive
from tests.support.clock import ManualClock
from tests.support.sites import (
    ACTOR,
    back_up,
    begin,
    digests,
    finish,
    image,
    make_site,
    open_site,
    restore,
    run_wave,
    write_files,
)

WIDE = 'k = 4\nm = 2\nblock_size = "4KiB"\nsegment_size = "64KiB"'
CONTENTS = {b"%03d" % n: os.urandom(n * 150) for n in range(60)}
EVERYTHING = RestoreSpec(store="live", prefix=b"", target="out")


@pytest.fixture(scope="module")
def backed_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a site whose one set of 4+2 holds everything, to be copied."""
    root = tmp_path_factory.mktemp("backed-up")
    site = make_site(root, policy=WIDE, clock=ManualClock())
    write_files(root / "live", CONTENTS)
    back_up(site)
    site.close()
    return root


@pytest.fixture
def site(backed_up: Path, tmp_path: Path) -> Iterator[Site]:
    shutil.copytree(backed_up, tmp_path, dirs_exist_ok=True)
    opened = open_site(tmp_path, ManualClock())
    yield opened
    opened.close()


def advanced(site: Site, by: timedelta) -> None:
    assert isinstance(site.clock, ManualClock)
    site.clock.advance(by)


def ask(site: Site, spec: RestoreSpec = EVERYTHING) -> int:
    request_id = plan_restore(site, spec, ACTOR).request_id or 0
    start_restore(site, request_id, ACTOR)
    return request_id


def items(site: Site, request_id: int) -> dict[bytes, Any]:
    query = select(tables.items).where(tables.items.c.request_id == request_id)
    with site.catalog.read() as connection:
        return {bytes(row.key): row for row in connection.execute(query)}


def states(site: Site, request_id: int) -> set[str]:
    return {row.state for row in items(site, request_id).values()}


def holders(site: Site) -> dict[bytes, str]:
    """Return the volume on which each object lies."""
    query = (
        select(tables.objects.c.key, tables.tape_files.c.barcode)
        .join(tables.versions, tables.versions.c.object_id == tables.objects.c.id)
        .join(tables.extents, tables.extents.c.version_id == tables.versions.c.id)
        .join(
            tables.tape_files,
            (tables.tape_files.c.stripe_id == tables.extents.c.stripe_id)
            & (tables.tape_files.c.position == tables.extents.c.position),
        )
    )
    with site.catalog.read() as connection:
        return {bytes(key): barcode for key, barcode in connection.execute(query)}


def held_by(site: Site, runner: str) -> list[Wave]:
    with site.catalog.read() as connection:
        return waves.open_waves(connection, runner)


def name(position: int) -> str:
    return f"TF{position:04}L9"


def lose(site: Site, *positions: int) -> None:
    for position in positions:
        path = image(site, name(position))
        path.rename(path.with_suffix(".lost"))


def test_everything_comes_back_byte_for_byte(site: Site, tmp_path: Path) -> None:
    request_id = restore(site, EVERYTHING)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")
    assert {row.way for row in items(site, request_id).values()} == {Way.TAPE}
    with site.catalog.read() as connection:
        request = requests.request(connection, request_id)
    assert (request.state, request.finished_at) == (RequestState.ENDED, site.clock.now())
    assert len(set(holders(site).values())) == 4


@pytest.mark.parametrize("position", range(6))
def test_with_one_volume_removed_everything_comes_back(
    site: Site, tmp_path: Path, position: int
) -> None:
    lose(site, position)
    request_id = restore(site, EVERYTHING)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")
    rebuilt = {k for k, row in items(site, request_id).items() if row.way == Way.PARITY}
    assert rebuilt == {key for key, barcode in holders(site).items() if barcode == name(position)}


def test_with_three_of_six_removed_exactly_their_objects_are_named(
    site: Site, tmp_path: Path
) -> None:
    lose(site, 0, 2, 5)
    request_id = restore(site, EVERYTHING)
    hopeless = {key for key, barcode in holders(site).items() if barcode in {name(0), name(2)}}
    found = items(site, request_id)
    named = {key for key, row in found.items() if row.state == ItemState.UNRESTORABLE}
    assert named == hopeless != set()
    assert {found[key].error_code for key in named} == {"too_many_losses"}
    live = digests(tmp_path / "live")
    assert digests(tmp_path / "out") == {k: v for k, v in live.items() if k not in hopeless}
    with site.catalog.read() as connection:
        assert requests.request(connection, request_id).state is RequestState.ENDED


def test_an_unreadable_volume_and_bad_blocks_are_gone_around(site: Site, tmp_path: Path) -> None:
    write_faults(image(site, name(0)), Faults(unreadable=True))
    write_faults(image(site, name(1)), Faults(unreadable_blocks=((1, 4, 5), (2, 7, 7))))
    restore(site, EVERYTHING)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")
    with site.catalog.read() as connection:
        found = {v.barcode: v.health for v in volumes(connection)}
    assert [found[name(p)] for p in (0, 1)] == [Health.BROKEN, Health.SUSPECT]


def test_a_drive_that_dies_holding_a_tape_is_gone_around(site: Site, tmp_path: Path) -> None:
    write_faults(image(site, name(3)), Faults(drive_dies=DriveDies(after_blocks=6)))
    request_id = restore(site, EVERYTHING)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")
    with site.catalog.read() as connection:
        assert volume(connection, name(3)).health is Health.DISABLED
    assert {row.way for row in items(site, request_id).values()} == {Way.TAPE, Way.PARITY}


def test_swapped_tapes_are_flagged_and_gone_around(site: Site, tmp_path: Path) -> None:
    one, other = image(site, name(1)), image(site, name(2))
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    restore(site, EVERYTHING)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")
    with site.catalog.read() as connection:
        flags = {volume(connection, name(p)).flags for p in (1, 2)}
    assert flags == {frozenset({Flag.LABEL_MISMATCH})}


def test_rounds_are_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise GoElsewhere("never works")

    monkeypatch.setattr("restore_lib.restore.batch._BatchRun.run", failing)
    request_id = ask(site)
    finish(site, request_id, rounds=site.config.restore.rounds + 1)
    found = items(site, request_id)
    assert {row.state for row in found.values()} == {ItemState.FAILED}
    assert {row.attempts for row in found.values()} == {site.config.restore.rounds}
    assert {row.error for row in found.values()} == {"never works"}


def test_a_wave_takes_no_more_than_its_bound(backed_up: Path, tmp_path: Path) -> None:
    shutil.copytree(backed_up, tmp_path, dirs_exist_ok=True)
    config = tmp_path / "tapeflow.toml"
    config.write_text(config.read_text() + "[restore]\nwave_batches = 3\nbatch_objects = 8\n")
    site = open_site(tmp_path)
    request_id = ask(site)
    sizes = []
    while claimed := claim(site, "runner"):
        sizes.append(len(claimed))
        for batch_id in claimed:
            run_batch(site, batch_id, ACTOR)
        settle(site, "runner")
    assert set(sizes[:-1]) == {3}
    assert len(sizes) >= 3
    assert states(site, request_id) == {ItemState.RESTORED}
    site.close()


def test_batches_that_run_side_by_side_want_different_volumes(
    backed_up: Path, tmp_path: Path
) -> None:
    shutil.copytree(backed_up, tmp_path, dirs_exist_ok=True)
    config = tmp_path / "tapeflow.toml"
    config.write_text(config.read_text() + "[restore]\nbatch_objects = 4\n")
    site = open_site(tmp_path)
    ask(site)
    claimed = claim(site, "runner")
    with site.catalog.read() as connection:
        of = {b.id: b for b in batches.batches_of(connection)}
    begun = [of[batch_id] for batch_id in claimed]
    order = [batch.volumes for batch in begun]
    assert len(order) > len(set(order)) > 1
    assert len(set(order[: len(set(order))])) == len(set(order))
    sizes = [batch.size for batch in begun[: len(set(order))]]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) > 1
    site.close()


def test_a_killed_runner_gets_its_wave_again_and_others_do_not(site: Site) -> None:
    ask(site)
    first, *rest = claim(site, "one")
    assert claim(site, "two") == []
    assert claim(site, "one") == [first, *rest]
    run_batch(site, first, ACTOR)
    assert claim(site, "one") == rest


def test_settling_a_wave_gives_back_what_its_killed_tasks_left(site: Site, tmp_path: Path) -> None:
    request_id = ask(site)
    first, second, *_ = claim(site, "one")
    [wave] = held_by(site, "one")
    run_batch(site, first, ACTOR)
    with site.catalog.write() as connection:
        batches.begin_batch(connection, second, site.clock.now())
    assert settle_wave(site, wave.id) == {BatchState.DONE: 1, BatchState.FAILED: 3}
    assert settle_wave(site, wave.id) == {BatchState.DONE: 1, BatchState.FAILED: 3}
    found = items(site, request_id)
    assert {row.attempts for row in found.values() if row.state == ItemState.PENDING} == {1}
    finish(site, request_id)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")


def test_an_abandoned_wave_is_taken_over(site: Site, tmp_path: Path) -> None:
    request_id = ask(site)
    assert claim(site, "dead")
    [wave] = held_by(site, "dead")
    advanced(site, timedelta(minutes=14))
    assert not flow.open_work(site)
    flow.advance(site, ACTOR)
    assert claim(site, "two") == []
    advanced(site, timedelta(minutes=2))
    assert flow.open_work(site)
    flow.advance(site, ACTOR)
    with site.catalog.read() as connection:
        assert waves.wave(connection, wave.id).state is WaveState.SETTLED
    finish(site, request_id)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")


def test_waiting_for_a_drive_is_no_try(site: Site, tmp_path: Path) -> None:
    request_id = ask(site)
    for _ in range(site.config.restore.rounds + 1):
        assert claim(site, "queued")
        advanced(site, timedelta(minutes=16))
        flow.advance(site, ACTOR)
    assert {row.attempts for row in items(site, request_id).values()} == {0}
    begun, *_ = claim(site, "queued")
    with site.catalog.write() as connection:
        batches.begin_batch(connection, begun, site.clock.now())
    advanced(site, timedelta(minutes=16))
    flow.advance(site, ACTOR)
    assert {row.attempts for row in items(site, request_id).values()} == {0, 1}
    finish(site, request_id)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")


def test_a_courier_that_is_away_keeps_nothing_waiting_that_is_here(
    site: Site, tmp_path: Path
) -> None:
    (tmp_path / "van").rename(tmp_path / "gone")
    (tmp_path / "van").write_text("not a folder")
    request_id = ask(site)
    assert any(work.startswith("batch ") for work in flow.open_work(site))
    done = flow.advance(site, ACTOR)
    assert [problem.code for problem in done.problems] == ["courier_unavailable"]
    assert "van" in done.as_dict()["problems"][0]
    finish(site, request_id)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")


def test_a_vault_that_left_the_config_keeps_no_other_restore(site: Site, tmp_path: Path) -> None:
    ask(site)
    with site.catalog.write() as connection:
        how: dict[str, Any] = {"actor": ACTOR, "reason": "test", "at": site.clock.now()}
        way = [Custody.MOUNTABLE, Custody.NOTMOUNTABLE, Custody.COURIER, Custody.VAULT]
        for before, after in pairwise(way):
            change(connection, [name(0)], "custody", before, after, place="vault:old", **how)
    other = ask(site, RestoreSpec(store="live", keys=[_not_on(site, 0)], target="out"))
    assert [problem.code for problem in flow.advance(site, ACTOR).problems] == ["refused"]
    finish(site, other)
    assert flow.is_ended(site, other)


def _not_on(site: Site, position: int) -> bytes:
    return next(key for key, barcode in holders(site).items() if barcode != name(position))


def test_a_wave_at_work_is_not_abandoned(site: Site) -> None:
    ask(site)
    for batch_id in claim(site, "slow"):
        advanced(site, timedelta(minutes=10))
        run_batch(site, batch_id, ACTOR)
        assert abandoned_waves(site) == []


def test_there_is_work_as_long_as_something_can_be_done(site: Site) -> None:
    assert not flow.open_work(site)
    plan_restore(site, EVERYTHING, ACTOR)
    assert not flow.open_work(site)
    request_id = ask(site)
    assert flow.open_work(site)
    assert claim(site, "one")
    assert not flow.open_work(site)
    settle(site, "one")
    assert flow.open_work(site)
    flow.advance(site, ACTOR)
    run_wave(site)
    assert states(site, request_id) == {ItemState.RESTORED}
    assert flow.open_work(site)
    assert flow.advance(site, ACTOR).ended == [request_id]
    assert not flow.open_work(site)


def test_a_batch_whose_volume_is_given_up_is_planned_anew(site: Site, tmp_path: Path) -> None:
    request_id = ask(site)
    lose(site, 1)
    how = {"actor": ACTOR, "reason": "verified", "at": site.clock.now()}
    with site.catalog.write() as connection:
        change(connection, [name(1)], "health", Health.OK, Health.LOST, **how)  # type: ignore[arg-type]  # a test's shorthand
    assert flow.open_work(site)
    flow.advance(site, ACTOR)
    with site.catalog.read() as connection:
        planned = batches.unclaimed(connection, request_id)
    assert all(name(1) not in batch.volumes for batch in planned)
    assert {row.attempts for row in items(site, request_id).values()} == {0}
    finish(site, request_id)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")


def test_a_cancelled_request_is_left_alone(site: Site, tmp_path: Path) -> None:
    request_id = ask(site)
    first, *rest = claim(site, "one")
    run_batch(site, first, ACTOR)
    cancel_restore(site, request_id, ACTOR)
    kept = digests(tmp_path / "out")
    assert {run_batch(site, batch_id, ACTOR).state for batch_id in rest} == {BatchState.CANCELLED}
    settle(site, "one")
    assert flow.is_ended(site, request_id)
    assert not flow.open_work(site)
    flow.advance(site, ACTOR)
    assert claim(site, "one") == []
    assert digests(tmp_path / "out") == kept != {}


def test_two_requests_at_once(site: Site, tmp_path: Path) -> None:
    (tmp_path / "live2").mkdir()
    first = ask(site, RestoreSpec(store="live", prefix=b"00", target="out"))
    names = [key for key in CONTENTS if not key.startswith(b"00")]
    second = ask(site, RestoreSpec(store="live", keys=names, target="out"))
    failures: list[BaseException] = []

    def work(runner: str) -> None:
        own = open_site(tmp_path, site.clock)
        try:
            while claimed := claim(own, runner):
                for batch_id in claimed:
                    run_until_free(own, batch_id)
                settle(own, runner)
        except BaseException as error:  # noqa: BLE001  told by the assertion below
            failures.append(error)
        finally:
            own.close()

    threads = [threading.Thread(target=work, args=(runner,)) for runner in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    flow.advance(site, ACTOR)
    assert flow.is_ended(site, first)
    assert flow.is_ended(site, second)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")


def run_until_free(site: Site, batch_id: int) -> None:
    for _ in range(2000):
        try:
            run_batch(site, batch_id, ACTOR)
        except DriveBusy:
            threading.Event().wait(0.005)
        else:
            return
    raise AssertionError("the volume is never free")


def vendor(site: Site) -> None:
    for one in open_vendors(site.config):
        one.work()


def test_volumes_in_a_vault_are_recalled_and_an_omitted_one_again(
    site: Site, tmp_path: Path
) -> None:
    send_out(site, plan_vault_out(site), ACTOR)
    for _ in range(4):
        vendor(site)
        receive(site, ACTOR)
    with site.catalog.read() as connection:
        out = {v.barcode for v in volumes(connection, custody=[Custody.VAULT])}
    assert out >= {name(position) for position in range(4)}
    omitted = {"barcodes": [name(2)], "at": "shipment"}
    (tmp_path / "van" / "omit.json").write_text(json.dumps(omitted))
    request_id = ask(site)
    assert flow.open_work(site)
    assert claim(site, "one") == []
    done = flow.advance(site, ACTOR)
    assert done.recalls
    assert json.loads(json.dumps(done.as_dict()))["recalls"] == done.recalls
    assert not flow.open_work(site)
    assert flow.advance(site, ACTOR).recalls == []
    for _ in range(12):
        vendor(site)
        if flow.open_work(site):
            flow.advance(site, ACTOR)
            run_wave(site)
            flow.advance(site, ACTOR)
    assert flow.is_ended(site, request_id)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")
    with site.catalog.read() as connection:
        assert volume(connection, name(2)).custody is Custody.MOUNTABLE


def test_what_a_truck_left_on_the_dock_is_taken_back_for_a_restore(
    site: Site, tmp_path: Path
) -> None:
    send_out(site, plan_vault_out(site), ACTOR)
    dock = tmp_path / "tapes" / "dock"
    for position in (0, 1):
        (dock / f"{name(position)}.tap").rename(dock.parent / f"hidden{position}")
    for _ in range(4):
        vendor(site)
        receive(site, ACTOR)
    (dock.parent / "hidden0").rename(dock / f"{name(0)}.tap")
    request_id = ask(site)
    assert f"volume {name(0)} of request {request_id}" in flow.open_work(site)
    assert flow.advance(site, ACTOR).problems == []
    with site.catalog.read() as connection:
        assert volume(connection, name(0)).custody is Custody.MOUNTABLE
        assert Flag.MISSING in volume(connection, name(1)).flags
    for _ in range(12):
        vendor(site)
        flow.advance(site, ACTOR)
        run_wave(site)
    assert flow.is_ended(site, request_id)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")


def test_the_whole_line_on_each_database(catalog_url: str, tmp_path: Path) -> None:
    policy = WIDE + "\nkeep_open = true"
    site = make_site(tmp_path, policy=policy, url=catalog_url, drives=3, blank=40, capacity="400KB")
    write_files(tmp_path / "live", {b"%03d" % n: os.urandom(20_000) for n in range(80)})
    for _ in range(2):
        point = begin(site)
        jobs = job_ids(site, point.id)
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda job_id: run_job(site, job_id, ACTOR), jobs))
        commit_backup(site, point.id, ACTOR)
        write_files(tmp_path / "live", {b"003": b"changed", b"new": b""})
        (tmp_path / "live" / "005").unlink(missing_ok=True)
    back_up(site)
    lose(site, 0, 7)
    write_faults(image(site, name(1)), Faults(unreadable_blocks=((1, 2, 2),)))
    request_id = restore(site, EVERYTHING)
    assert states(site, request_id) == {ItemState.RESTORED}
    assert digests(tmp_path / "out") == digests(tmp_path / "live")
    site.close()


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_whatever_is_lost_up_to_m_volumes_a_set_everything_comes_back(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    k, m = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 2))
    block = data.draw(st.sampled_from(["512", "1KiB", "4KiB"]))
    sizes = data.draw(st.lists(st.integers(0, 90_000), min_size=1, max_size=12))
    root = tmp_path_factory.mktemp("any")
    policy = f'k = {k}\nm = {m}\nblock_size = "{block}"\nsegment_size = "64KiB"'
    site = make_site(root, policy=policy, capacity="300KB", blank=(k + m) * 8)
    keys = data.draw(
        st.lists(
            st.binary(min_size=1, max_size=12).filter(
                lambda key: not {0, 0x2F} & set(key) and key not in {b".", b".."}
            ),
            min_size=len(sizes),
            max_size=len(sizes),
            unique=True,
        )
    )
    write_files(root / "live", {key: os.urandom(n) for key, n in zip(keys, sizes, strict=True)})
    back_up(site)
    with site.catalog.read() as connection:
        members: dict[str, list[str]] = {}
        for held in volumes(connection):
            if held.tape_set:
                members.setdefault(held.tape_set, []).append(held.barcode)
    for barcodes in members.values():
        for barcode in data.draw(st.lists(st.sampled_from(barcodes), max_size=m, unique=True)):
            path = image(site, barcode)
            if data.draw(st.booleans()):
                path.rename(path.with_suffix(".lost"))
            else:
                write_faults(path, Faults(unreadable=True))
    request_id = restore(site, EVERYTHING, rounds=60)
    assert states(site, request_id) == {ItemState.RESTORED}
    assert digests(root / "out") == digests(root / "live")
    site.close()
    shutil.rmtree(root)
