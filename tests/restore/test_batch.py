import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from restore_lib.catalog import batches, requests, tables
from restore_lib.catalog.batches import Batch
from restore_lib.catalog.leases import CatalogLeases
from restore_lib.catalog.requests import Outcome
from restore_lib.catalog.volumes import volume
from restore_lib.errors import (
    DiskFull,
    DriveBusy,
    KeyUnusable,
    MediumError,
    StoreUnavailable,
    TapeflowError,
    VolumeAbsent,
)
from restore_lib.library.faults import Faults, write_faults
from restore_lib.library.simh import TapeImage
from restore_lib.model.states import BatchKind, BatchState, ItemState, Overwrite, Way
from restore_lib.model.volume import Health
from restore_lib.restore import batch as batch_module
from restore_lib.restore.batch import run_batch
from restore_lib.restore.claiming import claim
from restore_lib.restore.flow import advance
from restore_lib.restore.mount import Mounts
from restore_lib.restore.read import TapeReader
from restore_lib.restore.request import (
    RestoreSpec,
    cancel_restore,
    plan_restore,
    start_restore,
)
from restore_lib.site import Site
from restore_lib.stores.local import LocalStore
from restore_lib.stores.local_group import LocalGroup
from restore_lib.tape.age import load_identities, new_identity
from tests.support.clock import ManualClock
from tests.support.kills import killed_before
from tests.support.sites import (
    ACTOR,
    back_up,
    digests,
    finish,
    image,
    make_site,
    open_site,
    write_files,
)

CONTENTS = {b"%02d" % n: os.urandom(2000 + n) for n in range(24)}
ONE_VOLUME = 'k = 1\nm = 1\nblock_size = "4KiB"\nsegment_size = "256KiB"'


def build(tmp_path: Path, policy: str = ONE_VOLUME, **values: Any) -> Site:
    site = make_site(tmp_path, policy=policy, **values)
    write_files(tmp_path / "live", CONTENTS)
    back_up(site)
    return site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = build(tmp_path)
    yield made
    made.close()


def ask(site: Site, **values: Any) -> tuple[int, list[Batch]]:
    """Plan and start a restore of everything; return its id and its batches."""
    spec = RestoreSpec(**({"store": "live", "prefix": b"", "target": "out"} | values))
    request_id = plan_restore(site, spec, ACTOR).request_id or 0
    start_restore(site, request_id, ACTOR)
    with site.catalog.read() as connection:
        return request_id, batches.batches_of(connection, request_id=request_id)


def items(site: Site, request_id: int) -> dict[bytes, Any]:
    query = select(tables.items).where(tables.items.c.request_id == request_id)
    with site.catalog.read() as connection:
        return {bytes(row.key): row for row in connection.execute(query)}


def state_of(site: Site, batch_id: int) -> BatchState:
    with site.catalog.read() as connection:
        return batches.batch(connection, batch_id).state


def health(site: Site, barcode: str) -> Health:
    with site.catalog.read() as connection:
        return volume(connection, barcode).health


def test_a_batch_brings_its_objects_back_and_ends(site: Site, tmp_path: Path) -> None:
    request_id, [batch] = ask(site)
    result = run_batch(site, batch.id, ACTOR)
    assert (result.state, result.restored, result.others) == (BatchState.DONE, 24, 0)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")
    assert {(row.state, row.way) for row in items(site, request_id).values()} == {
        (ItemState.RESTORED, Way.TAPE)
    }
    again = run_batch(site, batch.id, ACTOR)
    assert (again.state, again.restored) == (BatchState.DONE, 0)
    assert list((tmp_path / "staging" / "restore").iterdir()) == []


def test_a_cut_object_on_one_volume_is_read_there(tmp_path: Path) -> None:
    site = make_site(tmp_path, policy=ONE_VOLUME.replace("m = 1", "m = 0"))
    write_files(tmp_path / "live", {b"big": os.urandom(700_000), b"small": b"1"})
    back_up(site)
    _, [batch] = ask(site)
    assert batch.kind is BatchKind.READ
    assert run_batch(site, batch.id, ACTOR).restored == 2
    assert digests(tmp_path / "out") == digests(tmp_path / "live")
    site.close()


def test_what_other_batches_wait_for_is_gathered_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = 'k = 2\nm = 0\nblock_size = "4KiB"\nsegment_size = "256KiB"'
    site = make_site(tmp_path, policy=policy)
    write_files(tmp_path / "live", {b"big": os.urandom(400_000)})
    write_files(tmp_path / "live", {b"small/%d" % n: bytes(5000) for n in range(12)})
    back_up(site)
    _, planned = ask(site)
    assert sorted(claim(site, "one")) == [batch.id for batch in planned]
    [gather] = [batch for batch in planned if batch.kind is BatchKind.GATHER]
    first, second = gather.volumes
    [done] = [batch for batch in planned if batch.volumes == (first,)]
    run_batch(site, done.id, ACTOR, runner="one")
    mounted: list[str] = []
    reader = Mounts.reader

    def recorded(self: Mounts, barcode: str) -> AbstractContextManager[TapeReader]:
        mounted.append(barcode)
        return reader(self, barcode)

    monkeypatch.setattr(Mounts, "reader", recorded)
    assert run_batch(site, gather.id, ACTOR, runner="one").restored == 1
    assert mounted == [second, first]
    site.close()


def test_bad_blocks_send_only_their_objects_elsewhere(site: Site, tmp_path: Path) -> None:
    write_faults(image(site, "TF0000L9"), Faults(unreadable_blocks=((1, 3, 3),)))
    request_id, [batch] = ask(site)
    with pytest.raises(MediumError, match="planned again"):
        run_batch(site, batch.id, ACTOR)
    found = items(site, request_id)
    pending = {key for key, row in found.items() if row.state == ItemState.PENDING}
    assert 1 <= len(pending) <= 4
    assert {found[key].attempts for key in pending} == {1}
    assert {row.state for key, row in found.items() if key not in pending} == {"restored"}
    assert health(site, "TF0000L9") is Health.SUSPECT
    assert state_of(site, batch.id) is BatchState.FAILED
    finish(site, request_id)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")
    assert {items(site, request_id)[key].way for key in pending} == {Way.PARITY}


def test_after_some_bad_blocks_the_rest_is_left_to_parity(site: Site, tmp_path: Path) -> None:
    write_faults(image(site, "TF0000L9"), Faults(unreadable_blocks=((1, 1, 8),)))
    request_id, [batch] = ask(site)
    with pytest.raises(MediumError):
        run_batch(site, batch.id, ACTOR)
    assert sum(row.state == ItemState.RESTORED for row in items(site, request_id).values()) < 10
    assert health(site, "TF0000L9") is Health.SUSPECT
    finish(site, request_id)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")


def test_without_parity_every_readable_object_is_restored(tmp_path: Path) -> None:
    site = build(tmp_path, ONE_VOLUME.replace("m = 1", "m = 0"))
    write_faults(image(site, "TF0000L9"), Faults(unreadable_blocks=((1, 1, 6),)))
    request_id, _ = ask(site)
    finish(site, request_id)
    found = items(site, request_id)
    failed = {key for key, row in found.items() if row.state == ItemState.FAILED}
    assert 1 < len(failed) < 20
    assert {found[key].error_code for key in failed} == {"medium_error"}
    expected = {k: v for k, v in digests(tmp_path / "live").items() if k not in failed}
    assert digests(tmp_path / "out") == expected
    site.close()


def flip(site: Site, barcode: str, file: int, *blocks: int) -> None:
    """Change a byte of some blocks of a tape file without the drive noticing."""
    path = image(site, barcode)
    with TapeImage(path) as tape, path.open("r+b") as raw:
        for block in blocks:
            tape.locate(file, block)
            raw.seek(tape.offset + 1000)
            [byte] = raw.read(1)
            raw.seek(tape.offset + 1000)
            raw.write(bytes([byte ^ 0xFF]))


def test_wrong_bytes_on_a_tape_are_found_and_rebuilt(site: Site, tmp_path: Path) -> None:
    flip(site, "TF0000L9", 1, 4)
    request_id, _ = ask(site)
    finish(site, request_id)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")
    assert health(site, "TF0000L9") is Health.SUSPECT
    assert [row.way for row in items(site, request_id).values()].count(Way.PARITY) == 1


def test_wrong_bytes_among_the_survivors_are_gone_around(tmp_path: Path) -> None:
    policy = 'k = 2\nm = 2\nblock_size = "4KiB"\nsegment_size = "256KiB"'
    site = make_site(tmp_path, policy=policy, extra="[restore]\nrounds = 8\n")
    write_files(tmp_path / "live", {b"%02d" % n: os.urandom(30_000) for n in range(16)})
    back_up(site)
    image(site, "TF0000L9").rename(tmp_path / "lost.tap")
    flip(site, "TF0001L9", 1, *range(20))
    flip(site, "TF0002L9", 1, *range(30, 50))
    request_id, _ = ask(site)
    finish(site, request_id)
    assert {row.state for row in items(site, request_id).values()} == {ItemState.RESTORED}
    assert digests(tmp_path / "out") == digests(tmp_path / "live")
    site.close()


def test_a_volume_that_is_not_there_gives_all_items_back(site: Site, tmp_path: Path) -> None:
    image(site, "TF0000L9").rename(tmp_path / "lost.tap")
    request_id, [batch] = ask(site)
    with pytest.raises(VolumeAbsent):
        run_batch(site, batch.id, ACTOR)
    assert {row.state for row in items(site, request_id).values()} == {ItemState.PENDING}
    assert health(site, "TF0000L9") is Health.LOST
    finish(site, request_id)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")
    assert {row.way for row in items(site, request_id).values()} == {Way.PARITY}


def test_a_store_that_goes_away_leaves_the_batch_to_be_run_again(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_id, [batch] = ask(site)
    add, left = LocalGroup.add, 10

    def failing(self: LocalGroup, key: bytes, *args: Any, **kwargs: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise StoreUnavailable("gone")
        add(self, key, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(LocalGroup, "add", failing)
        with pytest.raises(StoreUnavailable):
            run_batch(site, batch.id, ACTOR)
    assert state_of(site, batch.id) is BatchState.PLANNED
    restored = [row for row in items(site, request_id).values() if row.state == "restored"]
    assert len(restored) == 10
    result = run_batch(site, batch.id, ACTOR)
    assert (result.state, result.restored) == (BatchState.DONE, 14)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")


def test_a_busy_drive_leaves_the_batch_as_it_is(site: Site) -> None:
    _, [batch] = ask(site)
    leases = CatalogLeases(site.catalog, site.clock)
    ttl = timedelta(minutes=5)
    held = leases.acquire([0, 1], "another", "TF0000L9", ttl)
    assert held is not None
    with pytest.raises(DriveBusy):
        run_batch(site, batch.id, ACTOR)
    assert state_of(site, batch.id) is BatchState.PLANNED
    leases.release(held)
    assert run_batch(site, batch.id, ACTOR).state is BatchState.DONE


def test_a_full_staging_disk_leaves_the_batch_as_it_is(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, [batch] = ask(site)
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
        with pytest.raises(DiskFull, match="staging"):
            run_batch(site, batch.id, ACTOR)
    assert run_batch(site, batch.id, ACTOR).state is BatchState.DONE


def test_a_key_that_is_gone_meanwhile_leaves_the_batch_as_it_is(site: Site, tmp_path: Path) -> None:
    _, [batch] = ask(site)
    (tmp_path / "other.txt").write_text(new_identity()[0])
    other = open_site(tmp_path)
    other.__dict__["identities"] = load_identities(tmp_path / "other.txt")
    with pytest.raises(KeyUnusable):
        run_batch(other, batch.id, ACTOR)
    other.close()
    assert digests(tmp_path / "out") == {}
    assert health(site, "TF0000L9") is Health.OK
    with site.catalog.read() as connection:
        assert "identity" in (batches.batch(connection, batch.id).error or "")
    assert run_batch(site, batch.id, ACTOR).state is BatchState.DONE
    with site.catalog.read() as connection:
        assert batches.batch(connection, batch.id).error is None


def test_a_batch_of_a_cancelled_request_is_not_begun(site: Site, tmp_path: Path) -> None:
    request_id, [batch] = ask(site)
    cancel_restore(site, request_id, ACTOR)
    assert run_batch(site, batch.id, ACTOR).state is BatchState.CANCELLED
    assert digests(tmp_path / "out") == {}


@pytest.mark.parametrize(
    ("overwrite", "restored", "other"),
    [
        (Overwrite.NEVER, 23, b"other"),
        (Overwrite.IF_DIFFERENT, 24, None),
        (Overwrite.ALWAYS, 24, None),
    ],
)
def test_overwrite_policies(
    site: Site, tmp_path: Path, overwrite: Overwrite, restored: int, other: bytes | None
) -> None:
    write_files(tmp_path / "out", {b"03": b"other", b"04": CONTENTS[b"04"]})
    request_id, [batch] = ask(site, overwrite=overwrite)
    result = run_batch(site, batch.id, ACTOR)
    assert (result.restored, result.others) == (restored, 24 - restored)
    assert (tmp_path / "out" / "03").read_bytes() == (other or CONTENTS[b"03"])
    found = items(site, request_id)
    assert found[b"03"].state == (ItemState.KEPT if other else ItemState.RESTORED)
    always = overwrite is Overwrite.ALWAYS
    assert found[b"04"].way == (Way.TAPE if always else Way.PRESENT)


@pytest.mark.parametrize("standing", [True, False])
def test_what_stands_already_is_made_safe_before_it_counts(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, standing: bool
) -> None:
    request_id, [batch, *_] = ask(site, prefix=b"0", overwrite=Overwrite.IF_DIFFERENT)
    if standing:
        shutil.copytree(tmp_path / "live", tmp_path / "out", dirs_exist_ok=True)
    settled: list[int] = []
    monkeypatch.setattr(
        LocalStore,
        "secure",
        lambda _: settled.append(
            sum(row.state == ItemState.RESTORED for row in items(site, request_id).values())
        ),
    )
    run_batch(site, batch.id, ACTOR)
    assert settled == ([0] if standing else [])


def test_an_object_in_the_way_of_a_folder_fails_by_name(tmp_path: Path) -> None:
    site = make_site(tmp_path, policy=ONE_VOLUME)
    write_files(tmp_path / "live", {b"a/b": b"1", b"c": b"2"})
    back_up(site)
    write_files(tmp_path / "out", {b"a": b"a file where a folder is wanted"})
    request_id, [batch] = ask(site)
    run_batch(site, batch.id, ACTOR)
    found = items(site, request_id)
    assert (found[b"a/b"].state, found[b"c"].state) == (ItemState.FAILED, ItemState.RESTORED)
    assert (found[b"a/b"].error_code, "a/b" in found[b"a/b"].error) == ("object_name_refused", True)
    site.close()


ALTERNATES = ONE_VOLUME + '\nalternates = ["shop", "archive"]'
STORES = """
[stores.shop]
kind = "local"
path = "shop"
[stores.archive]
kind = "local"
path = "archive"
"""


def test_alternate_stores_are_tried_in_order_for_what_no_backup_holds(tmp_path: Path) -> None:
    for name in ("shop", "archive"):
        (tmp_path / name).mkdir(parents=True)
    site = build(tmp_path, ALTERNATES, extra=STORES)
    write_files(tmp_path / "shop", {b"in both": b"shop"})
    write_files(tmp_path / "archive", {b"in both": b"archive", b"old": b"old"})
    names = [b"in both", b"old", b"nowhere", b"03"]
    request_id, planned = ask(site, prefix=None, keys=names)
    assert {batch.kind for batch in planned} == {BatchKind.READ, BatchKind.ALTERNATE}
    for batch in planned:
        run_batch(site, batch.id, ACTOR)
    found = items(site, request_id)
    assert (tmp_path / "out" / "in both").read_bytes() == b"shop"
    assert (tmp_path / "out" / "old").read_bytes() == b"old"
    assert {found[key].way for key in (b"in both", b"old")} == {Way.ALTERNATE}
    nowhere = found[b"nowhere"]
    assert (nowhere.state, nowhere.error_code) == (ItemState.UNRESTORABLE, "never_backed_up")
    site.close()


def test_a_late_runner_changes_nothing_of_what_another_batch_does(site: Site) -> None:
    request_id, [batch] = ask(site)
    with site.catalog.write() as connection:
        batches.begin_batch(connection, batch.id, site.clock.now())
        late = batches.batch_items(connection, batch.id)
        at = site.clock.now()
        batches.end_batch(connection, batch.id, BatchState.FAILED, at, "abandoned")
    advance(site, ACTOR)
    with site.catalog.write() as connection:
        outcomes = [Outcome(item.id, ItemState.PENDING) for item in late]
        requests.settle_items(connection, batch.id, outcomes, site.clock.now())
    rows = items(site, request_id).values()
    assert {row.state for row in rows} == {ItemState.BATCHED}
    assert {row.attempts for row in rows} == {1}


BOUNDARIES: Sequence[tuple[Any, str]] = [
    (LocalGroup, "add"),
    (LocalGroup, "finish"),
    (LocalGroup, "_name"),
    (LocalStore, "head"),
    (requests, "settle_items"),
]


def killed_everywhere(
    origin: Path, boundaries: Sequence[tuple[Any, str]], batch_id: int, request_id: int
) -> int:
    """Kill a batch at each boundary, on a copy of a site, and run it again; return how many."""
    whole = digests(origin / "live")
    for step in range(1, 100):
        root = origin.with_name(str(step))
        shutil.copytree(origin, root)

        def work(root: Path = root) -> None:
            run_batch(open_site(root, ManualClock()), batch_id, ACTOR)

        killed = killed_before(step, boundaries, work)
        assert digests(root / "out").items() <= whole.items()
        later = ManualClock()
        later.advance(timedelta(hours=1))
        again = open_site(root, later)
        assert run_batch(again, batch_id, ACTOR).state is BatchState.DONE
        found = items(again, request_id)
        again.close()
        assert {row.state for row in found.values()} == {ItemState.RESTORED}
        assert {row.attempts for row in found.values()} == {0}
        assert digests(root / "out") == whole
        shutil.rmtree(root)
        if not killed:
            break
    return step


@pytest.mark.parametrize("overwrite", [Overwrite.NEVER, Overwrite.ALWAYS])
@pytest.mark.parametrize("damage", [None, "lost"])
def test_killed_anywhere_a_batch_restores_each_object_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: Overwrite, damage: str | None
) -> None:
    monkeypatch.setattr(batch_module, "_FLUSH", 2)
    monkeypatch.setattr("os.fsync", lambda _: None)
    origin = tmp_path / "origin"
    site = make_site(origin, policy=ONE_VOLUME, clock=ManualClock(), blank=2)
    write_files(origin / "live", dict(list(CONTENTS.items())[:5]))
    back_up(site)
    if damage == "lost":
        with site.catalog.write() as connection:
            connection.execute(
                tables.volumes.update()
                .where(tables.volumes.c.barcode == "TF0000L9")
                .values(health=Health.LOST)
            )
    request_id, [batch] = ask(site, overwrite=overwrite)
    site.close()
    step = killed_everywhere(origin, BOUNDARIES, batch.id, request_id)
    assert 15 < step < 99


def at_once(site: Site, request_id: int) -> int | None:
    with site.catalog.read() as connection:
        return requests.request(connection, request_id).at_once


@pytest.mark.parametrize("error", [StoreUnavailable("gone"), DiskFull("no room")])
def test_a_target_that_can_take_no_more_slows_the_request_down(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: TapeflowError
) -> None:
    config = tmp_path / "tapeflow.toml"
    config.write_text(config.read_text() + "[restore]\nbatch_objects = 12\n")
    site = open_site(tmp_path, site.clock)
    request_id, [first, second] = ask(site)

    def failing(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(LocalGroup, "add", failing)
        with pytest.raises(type(error)):
            run_batch(site, first.id, ACTOR)
    assert at_once(site, request_id) == 1
    with site.catalog.write() as connection:
        batches.begin_batch(connection, second.id, site.clock.now())
    assert run_batch(site, first.id, ACTOR).state is BatchState.PLANNED
    run_batch(site, second.id, ACTOR)
    assert at_once(site, request_id) == 2
    assert run_batch(site, first.id, ACTOR).state is BatchState.DONE
    assert at_once(site, request_id) is None
    site.close()
