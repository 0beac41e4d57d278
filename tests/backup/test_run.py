import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from restore_lib.backup import ahead, stage
from restore_lib.backup.load import Load, Writer
from restore_lib.backup.run import (
    begin_backup,
    commit_backup,
    job_ids,
    plan_backup,
    run_job,
)
from restore_lib.catalog import bulk, recovery_points, tables, tape_sets
from restore_lib.catalog.tape_sets import TapeSet
from restore_lib.catalog.volumes import change, volume, volumes
from restore_lib.errors import (
    DiskFull,
    ForeignTape,
    NoScratchVolume,
    Refused,
    TapeLostData,
    VolumeFull,
)
from restore_lib.library.faults import DriveDies, Faults, write_faults
from restore_lib.library.simh import TapeImage
from restore_lib.model.states import SetState
from restore_lib.model.volume import Content, Flag, Health
from restore_lib.restore.request import RestoreSpec
from restore_lib.site import Site
from restore_lib.stores.local import LocalStore
from restore_lib.tape.streams import BlockReader
from restore_lib.tape.volume_index import decode_stripe_table, read_volume_index
from tests.integrity.repairs import verify
from tests.support.sites import (
    ACTOR,
    add_volumes,
    back_up,
    digests,
    image,
    make_site,
    open_site,
    restore,
    write_files,
)

KEEP_OPEN = 'k = 2\nm = 1\nblock_size = "4KiB"\nsegment_size = "256KiB"\nkeep_open = true'
SMALL = {b"d%d/%03d" % (n % 3, n): os.urandom(n * 20) for n in range(40)}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = make_site(tmp_path)
    write_files(tmp_path / "live", SMALL)
    yield made
    made.close()


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[Site]:
    made = make_site(tmp_path, policy=KEEP_OPEN)
    write_files(tmp_path / "live", SMALL)
    yield made
    made.close()


def all_sets(site: Site) -> list[TapeSet]:
    with site.catalog.read() as connection:
        names = connection.execute(select(tables.tape_sets.c.id).order_by(tables.tape_sets.c.id))
        return [tape_sets.tape_set(connection, name) for name in names.scalars()]


def rows(site: Site, table: str) -> int:
    counted = select(func.count()).select_from(tables.metadata.tables[table])
    with site.catalog.read() as connection:
        return int(connection.execute(counted).scalar_one())


def assert_restorable(
    site: Site, folder: Path, expected: dict[bytes, str], rp_id: int | None = None
) -> None:
    """Restore all of a recovery point to an empty store, and compare."""
    shutil.rmtree(folder / "out")
    (folder / "out").mkdir()
    restore(site, RestoreSpec(store="live", prefix=b"", target="out", recovery_point=rp_id))
    assert digests(folder / "out") == expected


def read_tape_file(site: Site, barcode: str, number: int) -> BlockReader:
    def blocks() -> Iterator[bytes]:
        with TapeImage(image(site, barcode)) as tape:
            tape.locate(number)
            while (block := tape.read()) is not None:
                yield block

    return BlockReader(blocks())


def test_all_that_is_backed_up_is_restorable(site: Site, tmp_path: Path) -> None:
    point = back_up(site)
    assert point.summary["backed_up"] == point.summary["objects"] == len(SMALL)
    assert point.summary["bytes"] == sum(map(len, SMALL.values()))
    [held] = all_sets(site)
    assert point.summary["tape_sets"] == [held.id]
    assert held.state is SetState.CLOSED
    with site.catalog.read() as connection:
        members = volumes(connection, held.barcodes)
    assert {member.content for member in members} == {Content.FULL}
    assert {member.files for member in members} == {held.stripes}
    assert_restorable(site, tmp_path, digests(tmp_path / "live"))


def test_a_plan_says_what_a_backup_then_does_and_writes_nothing(site: Site) -> None:
    plan = plan_backup(site, "live")
    assert plan.counts == {"new": len(SMALL), "changed": 0, "same": 0, "gone": 0}
    assert (plan.size, plan.since, plan.tape_sets, plan.volumes) == (
        sum(map(len, SMALL.values())),
        None,
        1,
        3,
    )
    assert rows(site, "recovery_points") == 0
    assert back_up(site).summary["bytes_backed_up"] == plan.size
    assert plan_backup(site, "live").counts == {"new": 0, "changed": 0, "same": 40, "gone": 0}


def test_backups_are_incremental_for_ever(site: Site, tmp_path: Path) -> None:
    live = tmp_path / "live"
    first, before = back_up(site), digests(live)
    (live / "d0/000").unlink()
    (live / "d1/001").write_bytes(b"another content")
    write_files(live, {b"new": b"new"})
    second, after = back_up(site), digests(live)
    assert (second.summary["backed_up"], second.summary["gone"]) == (2, 1)
    assert second.summary["objects"] == len(SMALL)
    assert_restorable(site, tmp_path, before, first.id)
    assert_restorable(site, tmp_path, after, second.id)
    assert_restorable(site, tmp_path, after)


def test_with_nothing_changed_nothing_is_written(site: Site, tmp_path: Path) -> None:
    back_up(site)
    sets = all_sets(site)
    second = back_up(site)
    assert (second.summary["backed_up"], second.summary["tape_sets"]) == (0, [])
    assert all_sets(site) == sets
    assert_restorable(site, tmp_path, digests(tmp_path / "live"), second.id)


def test_with_only_deletions_no_tape_is_written(site: Site, tmp_path: Path) -> None:
    first, before = back_up(site), digests(tmp_path / "live")
    for name in ("d0/000", "d1/001"):
        (tmp_path / "live" / name).unlink()
    second = back_up(site)
    assert (second.summary["gone"], second.summary["backed_up"]) == (2, 0)
    assert len(all_sets(site)) == 1
    assert_restorable(site, tmp_path, digests(tmp_path / "live"), second.id)
    assert_restorable(site, tmp_path, before, first.id)


def test_deletions_are_counted_whole_also_by_a_run_that_is_killed_among_them(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, before = back_up(site), digests(tmp_path / "live")
    shutil.rmtree(tmp_path / "live" / "d0")
    mark, calls = recovery_points.mark_gone, iter(range(100))

    def killed(*args: Any) -> None:
        if next(calls) == 2:
            raise KeyboardInterrupt
        mark(*args)

    monkeypatch.setattr(bulk, "CHUNK", 4)
    monkeypatch.setattr(recovery_points, "mark_gone", killed)
    with pytest.raises(KeyboardInterrupt):
        back_up(site)
    assert_restorable(site, tmp_path, before)
    second = back_up(site)
    assert second.summary["gone"] == len(SMALL) - second.summary["objects"] == 14
    assert_restorable(site, tmp_path, digests(tmp_path / "live"), second.id)
    assert_restorable(site, tmp_path, before, first.id)


def test_a_large_object_goes_over_segments_stripes_and_sets(tmp_path: Path) -> None:
    site = make_site(
        tmp_path,
        policy='k = 2\nm = 1\nblock_size = "4KiB"\nsegment_size = "128KiB"',
        capacity="600KB",
        blank=18,
    )
    write_files(tmp_path / "live", {b"a": b"1", b"big": os.urandom(3_000_000), b"z": b""})
    point = back_up(site)
    assert point.summary["objects"] == 3
    assert len(all_sets(site)) >= 3
    assert_restorable(site, tmp_path, digests(tmp_path / "live"))
    site.close()


def test_hostile_names_come_back_byte_for_byte(site: Site, tmp_path: Path) -> None:
    hostile = [
        b"new\nline",
        b"quo'te\"s",
        b" leading and trailing ",
        b"not \xff\xfe utf-8",
        b"\xc3\xa9\xcc\x81/\xf0\x9f\x92\xbe",
        b"-rf *",
        b"x" * 255 + b"/" + b"y" * 255,
        b"$(reboot);`id`",
    ]
    write_files(tmp_path / "live", {key: key for key in hostile})
    back_up(site)
    assert_restorable(site, tmp_path, digests(tmp_path / "live"))
    assert {os.fsencode(key) for key in hostile} <= set(digests(tmp_path / "out"))


@contextmanager
def failing_reads(monkeypatch: pytest.MonkeyPatch, *broken: bytes) -> Iterator[None]:
    opened = LocalStore.open

    def reopen(self: LocalStore, key: bytes, *, version: str | None = None) -> object:
        if key in broken:
            return opened(self, key + b" is not there")
        return opened(self, key, version=version)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "open", reopen)
        yield


def test_an_unreadable_object_is_named_and_its_old_version_stays(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = tmp_path / "live"
    back_up(site)
    before = digests(live)
    write_files(live, {b"d0/003": b"changed", b"d1/004": b"changed too", b"new": b"1"})
    with failing_reads(monkeypatch, b"d0/003", b"new"):
        point = back_up(site)
    assert set(point.summary["unreadable"]) == {"d0/003", "new"}
    assert point.summary["unreadable_objects"] == 2
    assert point.summary["backed_up"] == 1
    expected = digests(live) | {b"d0/003": before[b"d0/003"]}
    del expected[b"new"]
    assert_restorable(site, tmp_path, expected, point.id)
    later = back_up(site)
    assert later.summary["unreadable"] == {}
    assert_restorable(site, tmp_path, digests(live), later.id)


def test_a_name_too_long_for_the_catalog_s_database_is_named(
    tmp_path: Path, postgres_url: str
) -> None:
    site = make_site(tmp_path, url=postgres_url)
    folders = [os.urandom(125).hex().encode() for _ in range(11)]
    edge = b"/".join(folders)[:2599] + b"x"
    hostile = {b"/".join(folders): b"1", edge: b"2", b"short": b"3"}
    write_files(tmp_path / "live", hostile)
    point = back_up(site)
    assert set(point.summary["unreadable"]) == {b"/".join(folders).decode()}
    assert point.summary["objects"] == 2
    expected = digests(tmp_path / "live")
    del expected[b"/".join(folders)]
    assert_restorable(site, tmp_path, expected)
    site.close()


@pytest.mark.parametrize(
    ("faults", "health"),
    [
        (Faults(unreadable=True), Health.SUSPECT),
        (Faults(drive_dies=DriveDies(after_blocks=0)), Health.DISABLED),
        (Faults(drive_dies=DriveDies(after_blocks=5)), Health.DISABLED),
    ],
)
def test_a_volume_that_is_unreadable_or_stuck_in_a_dead_drive_is_replaced(
    site: Site, tmp_path: Path, faults: Faults, health: Health
) -> None:
    write_faults(image(site, "TF0001L9"), faults)
    back_up(site)
    [held] = all_sets(site)
    assert held.barcodes == ("TF0000L9", "TF0003L9", "TF0002L9")
    with site.catalog.read() as connection:
        spoiled = volume(connection, "TF0001L9")
    assert (spoiled.health, spoiled.tape_set) == (health, None)
    assert_restorable(site, tmp_path, digests(tmp_path / "live"))


@pytest.mark.parametrize("file", [0, 1, 2])
def test_a_volume_that_does_not_read_back_is_replaced(
    site: Site, tmp_path: Path, file: int
) -> None:
    write_faults(image(site, "TF0002L9"), Faults(unreadable_blocks=((file, 1, 1),)))
    back_up(site)
    [held] = all_sets(site)
    assert "TF0002L9" not in held.barcodes
    assert_restorable(site, tmp_path, digests(tmp_path / "live"))


def test_without_read_back_only_the_label_is_read_again(site: Site, tmp_path: Path) -> None:
    write_faults(image(site, "TF0002L9"), Faults(unreadable_blocks=((1, 1, 1), (2, 0, 0))))
    config = (tmp_path / "tapeflow.toml").read_text()
    (tmp_path / "tapeflow.toml").write_text(config.replace("k = 2", "k = 2\nread_back = false"))
    trusting = open_site(tmp_path)
    back_up(trusting)
    [held] = all_sets(trusting)
    assert "TF0002L9" in held.barcodes
    assert_restorable(trusting, tmp_path, digests(tmp_path / "live"))
    trusting.close()


def test_an_absent_volume_is_replaced(site: Site, tmp_path: Path) -> None:
    image(site, "TF0000L9").rename(tmp_path / "gone.tap")
    back_up(site)
    [held] = all_sets(site)
    assert held.barcodes[0] == "TF0003L9"
    with site.catalog.read() as connection:
        absent = volume(connection, "TF0000L9")
    assert (absent.health, absent.flags) == (Health.LOST, frozenset({Flag.MISSING}))
    assert_restorable(site, tmp_path, digests(tmp_path / "live"))


def test_a_set_with_data_whose_volume_fails_is_closed_and_another_takes_over(
    keeping: Site, tmp_path: Path
) -> None:
    first, before = back_up(keeping), digests(tmp_path / "live")
    write_faults(image(keeping, "TF0002L9"), Faults(unreadable_blocks=((2, 0, 0),)))
    write_files(tmp_path / "live", {b"new": os.urandom(5000)})
    point = back_up(keeping)
    old, new = all_sets(keeping)
    assert (old.state, new.state) == (SetState.CLOSED, SetState.OPEN)
    assert "TF0002L9" in old.barcodes
    assert point.summary["tape_sets"] == [new.id]
    assert [verify(keeping, barcode) for barcode in old.barcodes] == ["passed", "passed", "failed"]
    assert_restorable(keeping, tmp_path, before, first.id)
    assert_restorable(keeping, tmp_path, digests(tmp_path / "live"), point.id)


def test_a_set_whose_volume_fails_as_it_is_closed_is_closed_as_committed(
    keeping: Site, tmp_path: Path
) -> None:
    back_up(keeping)
    before = digests(tmp_path / "live")
    text = (tmp_path / "tapeflow.toml").read_text().replace("keep_open = true", "")
    (tmp_path / "tapeflow.toml").write_text(text)
    closing = open_site(tmp_path)
    write_faults(image(closing, "TF0001L9"), Faults(unreadable_blocks=((0, 0, 0),)))
    write_files(tmp_path / "live", {b"new": b"1"})
    [job_id] = job_ids(closing, begin_backup(closing, "live", ACTOR).id)
    with closing.catalog.write() as connection:  # as a run does that is killed then
        tape_sets.claim_set(connection, all_sets(closing)[0].id, job_id)
    (tmp_path / "live/new").unlink()
    point = back_up(closing)
    [held] = all_sets(closing)
    assert held.state is SetState.CLOSED
    with closing.catalog.read() as connection:
        assert volume(connection, "TF0001L9").health is Health.SUSPECT
    assert_restorable(closing, tmp_path, before, point.id)
    closing.close()


def test_no_more_than_a_few_spoiled_sets_are_tried(site: Site) -> None:
    for number in range(12):
        write_faults(image(site, f"TF{number:04}L9"), Faults(unreadable=True))
    point = begin_backup(site, "live", ACTOR)
    [job_id] = job_ids(site, point.id)
    with pytest.raises(Exception, match="can't be read at all"):
        run_job(site, job_id, ACTOR)
    with site.catalog.read() as connection:
        assert len(volumes(connection, health=[Health.SUSPECT])) == 3


def test_what_does_not_fit_a_short_volume_goes_to_the_next_set(
    tmp_path: Path,
) -> None:
    site = make_site(tmp_path)
    write_files(tmp_path / "live", {b"%03d" % n: os.urandom(50_000) for n in range(60)})
    write_faults(image(site, "TF0001L9"), Faults(capacity_bytes=600_000))
    back_up(site)
    first, second = all_sets(site)
    assert 1 <= first.stripes < second.stripes
    with site.catalog.read() as connection:
        assert volumes(connection, health=[Health.SUSPECT]) == []
    assert_restorable(site, tmp_path, digests(tmp_path / "live"))
    site.close()


def test_a_blank_volume_too_short_for_anything_is_replaced(site: Site, tmp_path: Path) -> None:
    write_files(tmp_path / "live", {b"big": os.urandom(400_000)})
    write_faults(image(site, "TF0001L9"), Faults(capacity_bytes=100_000))
    back_up(site)
    with site.catalog.read() as connection:
        assert volume(connection, "TF0001L9").health is Health.SUSPECT
    assert_restorable(site, tmp_path, digests(tmp_path / "live"))


def test_a_blank_volume_too_small_for_one_segment_is_an_error(site: Site, tmp_path: Path) -> None:
    write_files(tmp_path / "live", {b"big": os.urandom(400_000)})
    for number in range(3):
        write_faults(image(site, f"TF{number:04}L9"), Faults(capacity_bytes=100_000))
    point = begin_backup(site, "live", ACTOR)
    [job_id] = job_ids(site, point.id)
    with pytest.raises(VolumeFull, match="no room for one segment"):
        run_job(site, job_id, ACTOR)
    assert rows(site, "extents") == 0


def test_without_blank_volumes_a_backup_waits_for_some(tmp_path: Path) -> None:
    site = make_site(tmp_path, blank=2)
    write_files(tmp_path / "live", SMALL)
    point = begin_backup(site, "live", ACTOR)
    [job_id] = job_ids(site, point.id)
    with pytest.raises(NoScratchVolume):
        run_job(site, job_id, ACTOR)
    with pytest.raises(Refused, match="not done"):
        commit_backup(site, point.id, ACTOR)
    add_volumes(site, ["TF0900L9"])
    assert back_up(site).id == point.id
    assert_restorable(site, tmp_path, digests(tmp_path / "live"))
    site.close()


def test_a_foreign_tape_is_never_written(site: Site, tmp_path: Path) -> None:
    foreign = image(site, "TF0001L9")
    with TapeImage(foreign, writable=True) as tape:
        tape.write(b"somebody else's".ljust(512))
        tape.write_filemark()
    content = foreign.read_bytes()
    with pytest.raises(ForeignTape, match="TF0001L9"):
        back_up(site)
    assert image(site, "TF0001L9").read_bytes() == content
    assert rows(site, "extents") == 0
    image(site, "TF0001L9").rename(tmp_path / "theirs.tap")
    back_up(site)
    assert_restorable(site, tmp_path, digests(tmp_path / "live"))


@pytest.mark.parametrize("blank", [True, False])
def test_a_tape_that_has_lost_data_is_not_written(
    keeping: Site, tmp_path: Path, blank: bool
) -> None:
    back_up(keeping)
    path = image(keeping, "TF0001L9")
    with TapeImage(path, writable=True) as tape:
        tape.locate(0 if blank else 1)
        end = tape.offset
    os.truncate(path, end)
    write_files(tmp_path / "live", {b"new": b"1"})
    with pytest.raises(TapeLostData, match="TF0001L9"):
        back_up(keeping)
    assert image(keeping, "TF0001L9").stat().st_size == end
    how = {"actor": ACTOR, "reason": "verified", "at": keeping.clock.now()}
    with keeping.catalog.write() as connection:
        change(connection, ["TF0001L9"], "health", Health.OK, Health.BROKEN, **how)  # type: ignore[arg-type]  # a test's shorthand
    back_up(keeping)
    assert_restorable(keeping, tmp_path, digests(tmp_path / "live"))


def test_a_full_staging_disk_loses_nothing(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_500_000))
        with pytest.raises(DiskFull, match="staging"):
            back_up(site)
    assert back_up(site).id == 1
    assert_restorable(site, tmp_path, digests(tmp_path / "live"))


def test_a_small_staging_disk_only_means_more_loads(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path / "live", {b"big": os.urandom(2_000_000)})
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2_000_000))
        back_up(site)
    [held] = all_sets(site)
    assert held.stripes > 3
    assert_restorable(site, tmp_path, digests(tmp_path / "live"))


def test_very_many_small_objects_only_mean_more_loads(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[int] = []
    commit = Writer.commit

    def counting(
        self: Writer, load: Load, rp_id: int, store: str, started: dict[bytes, int]
    ) -> None:
        loads.append(sum(len(stripe.extents) for stripe in load.staged))
        commit(self, load, rp_id, store, started)

    monkeypatch.setattr(stage, "MOST_PIECES", 6)
    monkeypatch.setattr(ahead, "MOST_PIECES", 6)
    monkeypatch.setattr(Writer, "commit", counting)
    back_up(site)
    assert sum(loads) == len(SMALL)
    assert max(loads) <= 2 * 6
    assert_restorable(site, tmp_path, digests(tmp_path / "live"))


def test_an_open_set_takes_the_next_backup_and_its_index_covers_both(
    keeping: Site, tmp_path: Path
) -> None:
    back_up(keeping)
    [held] = all_sets(keeping)
    assert held.state is SetState.OPEN
    write_files(tmp_path / "live", {b"e%d" % n: os.urandom(900) for n in range(10)})
    back_up(keeping)
    [appended] = all_sets(keeping)
    assert appended.stripes > held.stripes
    data = (tmp_path / "tapeflow.toml").read_text().replace("keep_open = true", "")
    (tmp_path / "tapeflow.toml").write_text(data)
    closing = open_site(tmp_path)
    write_files(tmp_path / "live", {b"f": b"1"})
    back_up(closing)
    [closed] = all_sets(closing)
    assert closed.state is SetState.CLOSED
    last = closed.stripes + 1
    index, sealed = read_volume_index(read_tape_file(closing, closed.barcodes[0], last))
    assert [file.file for file in index.files] == list(range(1, last))
    assert [number for number, _ in sealed] == list(range(1, last))
    table = decode_stripe_table(read_tape_file(closing, closed.barcodes[2], last))
    assert [stripe.stripe for stripe in table.stripes] == list(range(1, last))
    assert_restorable(closing, tmp_path, digests(tmp_path / "live"))
    closing.close()


def test_a_set_of_another_geometry_or_for_other_keys_is_not_appended_to(
    keeping: Site, tmp_path: Path
) -> None:
    back_up(keeping)
    text = (tmp_path / "tapeflow.toml").read_text().replace("k = 2", "k = 3")
    (tmp_path / "tapeflow.toml").write_text(text)
    write_files(tmp_path / "live", {b"new": b"1"})
    changed = open_site(tmp_path)
    back_up(changed)
    old, new = all_sets(changed)
    assert (old.state, old.k, new.state, new.k) == (SetState.CLOSED, 2, SetState.OPEN, 3)
    assert_restorable(changed, tmp_path, digests(tmp_path / "live"))
    changed.close()


def test_jobs_run_in_parallel(tmp_path: Path) -> None:
    site = make_site(
        tmp_path,
        policy='k = 2\nm = 1\nblock_size = "4KiB"\nsegment_size = "128KiB"',
        capacity="600KB",
        blank=24,
        drives=3,
    )
    write_files(tmp_path / "live", {b"%03d" % n: os.urandom(20_000) for n in range(90)})
    point = begin_backup(site, "live", ACTOR)
    jobs = job_ids(site, point.id)
    assert len(jobs) >= 2
    failures: list[BaseException] = []

    def work(mine: list[int]) -> None:
        own = open_site(tmp_path)
        try:
            for job_id in mine:
                run_job(own, job_id, ACTOR)
        except BaseException as error:  # noqa: BLE001  told by the assertion below
            failures.append(error)
        finally:
            own.close()

    threads = [threading.Thread(target=work, args=(jobs[n::3],)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert commit_backup(site, point.id, ACTOR).summary["backed_up"] == 90
    held = [barcode for tape_set in all_sets(site) for barcode in tape_set.barcodes]
    assert len(held) == len(set(held))
    assert_restorable(site, tmp_path, digests(tmp_path / "live"))
    site.close()


def test_a_backup_left_open_is_gone_on_with(site: Site) -> None:
    first = begin_backup(site, "live", ACTOR)
    assert begin_backup(site, "live", ACTOR) == first
    [job_id] = job_ids(site, first.id)
    summary = run_job(site, job_id, ACTOR)
    assert run_job(site, job_id, ACTOR) == summary
    committed = commit_backup(site, first.id, ACTOR)
    assert commit_backup(site, first.id, ACTOR) == committed
    assert begin_backup(site, "live", ACTOR).id != first.id
    with site.catalog.read() as connection:
        newest = recovery_points.newest_committed(connection, "live")
    assert newest == committed


def test_an_empty_store_has_an_empty_recovery_point(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    assert back_up(site).summary["objects"] == 0
    site.close()


def test_an_unknown_policy_is_refused(site: Site) -> None:
    with pytest.raises(Refused, match="no policy 'nothing'"):
        plan_backup(site, "nothing")


def test_a_large_share_is_sealed_by_processes_and_written_over_all_drives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restore_lib.backup.job._SMALL_SHARE", 0)
    site = make_site(tmp_path, drives=3)
    write_files(tmp_path / "live", {b"%03d" % n: os.urandom(n * 1000) for n in range(60)})
    write_files(tmp_path / "live", {b"020-big": os.urandom(400_000)})
    point = begin_backup(site, "live", ACTOR)
    for job_id in job_ids(site, point.id):
        run_job(site, job_id, ACTOR, drives=3)
    assert commit_backup(site, point.id, ACTOR).summary["backed_up"] == 61
    assert_restorable(site, tmp_path, digests(tmp_path / "live"))
    site.close()
