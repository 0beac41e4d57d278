"""A catalog that is lost, and made whole again from tapes."""

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from restore_lib.catalog.findings import Findings
from restore_lib.catalog.leases import CatalogLeases
from restore_lib.catalog.recovery_points import recovery_points_of
from restore_lib.catalog.tables import extents
from restore_lib.catalog.tape_sets import idle_open_sets
from restore_lib.catalog.volumes import history, volumes
from restore_lib.errors import KeyUnusable, Refused
from restore_lib.integrity import rebuild, rebuild_parity, rebuild_read
from restore_lib.integrity.rebuild import rebuild_folder
from restore_lib.library.faults import Faults, write_faults
from restore_lib.library.mounting import mounted
from restore_lib.model.volume import Content, Flag, Health, fold
from restore_lib.restore.request import RestoreSpec
from restore_lib.site import Site
from restore_lib.tape.age import new_identity
from restore_lib.tape.mounted import blocks
from tests.support.clock import ManualClock
from tests.support.kills import killed_before
from tests.support.rebuilds import compared, lose_catalog, rebuilt, sha256s
from tests.support.sites import (
    add_volumes,
    back_up,
    digests,
    image,
    make_site,
    open_site,
    restore,
    write_files,
)

CLOSED = 'k = 2\nm = 1\nblock_size = "4KiB"\nsegment_size = "64KiB"'
OPEN = CLOSED + "\nkeep_open = true"


def contents(count: int) -> dict[bytes, bytes]:
    return {
        f"d{number % 7}/file-{number:04}".encode(): os.urandom(300 + number % 50)
        for number in range(count)
    }


def ahead() -> ManualClock:
    """Return a clock by which the lease of a killed process has run out."""
    return ManualClock(datetime.now(UTC) + timedelta(hours=1))


def switch(root: Path, before: str, after: str) -> Site:
    config = root / "tapeflow.toml"
    config.write_text(config.read_text().replace(before, after))
    return open_site(root)


@pytest.fixture(scope="module")
def _thousand(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[bytes, bytes]]:
    """1,000 objects on four sets of 2+1, of which the last three volumes were never closed."""
    root = tmp_path_factory.mktemp("thousand") / "cluster"
    site = make_site(root, policy=CLOSED, blank=12)
    files = contents(1000)
    keys = sorted(files)
    for number in range(3):
        write_files(root / "live", {key: files[key] for key in keys[number * 250 :][:250]})
        back_up(site)
    site.close()
    site = switch(root, CLOSED, OPEN)
    write_files(root / "live", {key: files[key] for key in keys[750:]})
    files |= {keys[3]: b"changed", b"cut": os.urandom(150_000)}
    write_files(root / "live", {keys[3]: b"changed", b"cut": files[b"cut"]})
    back_up(site)
    site.close()
    return root, files


@pytest.fixture
def thousand(
    _thousand: tuple[Path, dict[bytes, bytes]], tmp_path: Path
) -> tuple[Path, dict[bytes, bytes]]:
    root, files = _thousand
    shutil.copytree(root, tmp_path / "cluster")
    return tmp_path / "cluster", files


@pytest.mark.parametrize("unreadable", [("TF0000L9", "TF0009L9"), ("TF0005L9", "TF0011L9")])
def test_a_thousand_objects_on_twelve_volumes(
    thousand: tuple[Path, dict[bytes, bytes]], unreadable: tuple[str, ...]
) -> None:
    root, files = thousand
    lost = lose_catalog(root)
    site = open_site(root)
    for barcode in unreadable:
        write_faults(image(site, barcode), Faults(unreadable=True))
    report = rebuilt(site, backwards=True)
    assert report.complete
    assert report.written
    assert (report.sets, report.objects, report.versions) == (4, 1001, 1002)
    assert bool(report.by_parity) == ("TF0000L9" in unreadable)
    assert compared(site, lost) == []
    with site.catalog.read() as connection:
        known = {volume.barcode: volume for volume in volumes(connection)}
        assert len(known) == 12
        assert {b for b, v in known.items() if v.health is Health.BROKEN} == set(unreadable)
        assert [v.barcode for v in known.values() if v.content is Content.APPENDABLE] == [
            f"TF{n:04}L9" for n in (9, 10, 11)
        ]
        for barcode, volume in known.items():
            stands = fold(history(connection, barcode))
            assert (stands.content, stands.health) == (volume.content, volume.health)
        newest = recovery_points_of(connection, "live")[0]
        assert newest.summary["objects"] == len(files)
    restore(site, RestoreSpec(recovery_point=newest.id, prefix=b"", target="out"))
    assert digests(root / "out") == sha256s(files)
    assert back_up(site).summary["backed_up"] == 0
    site.close()


def test_backups_go_on_in_the_set_that_is_open(
    thousand: tuple[Path, dict[bytes, bytes]],
) -> None:
    root, files = thousand
    lost = lose_catalog(root)
    site = open_site(root)
    assert rebuilt(site).complete
    assert compared(site, lost) == []
    write_files(root / "live", {b"new": b"new"})
    summary = back_up(site).summary
    assert (summary["backed_up"], summary["objects"]) == (1, len(files) + 1)
    assert summary["tape_sets"] == ["live-00004"]
    site.close()


@pytest.fixture(scope="module")
def _small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[bytes, bytes]]:
    """One closed set of 2+2 with an older version, a cut object and a blank volume beside it."""
    root = tmp_path_factory.mktemp("small") / "cluster"
    site = make_site(root, policy=CLOSED.replace("m = 1", "m = 2") + "\nkeep_open = true", blank=5)
    files = {b"a": b"old", b"gone": b"gone", b"cut": os.urandom(200_000), b"not-utf8-\xff": b""}
    write_files(root / "live", files)
    back_up(site)
    write_files(root / "live", {b"a": b"newer"})
    (root / "live" / "gone").unlink()
    back_up(site)
    site.close()
    site = switch(root, "keep_open = true", "keep_open = false")
    write_files(root / "live", {b"b": b"b"})
    back_up(site)
    site.close()
    return root, files | {b"a": b"newer", b"b": b"b"}


@pytest.fixture
def small(
    _small: tuple[Path, dict[bytes, bytes]], tmp_path: Path
) -> tuple[Path, dict[bytes, bytes]]:
    root, files = _small
    shutil.copytree(root, tmp_path / "cluster")
    return tmp_path / "cluster", files


def test_older_versions_are_in_an_earlier_recovery_point(
    small: tuple[Path, dict[bytes, bytes]],
) -> None:
    root, files = small
    lost = lose_catalog(root)
    site = open_site(root)
    assert rebuilt(site).complete
    assert compared(site, lost) == []
    with site.catalog.read() as connection:
        newest, older = recovery_points_of(connection, "live")
    assert newest.summary["objects"] == len(files)
    restore(site, RestoreSpec(recovery_point=older.id, prefix=b"", target="out"))
    expected = sha256s(files | {b"a": b"old"})
    assert digests(root / "out") == expected
    site.close()


def test_a_rebuild_that_is_killed_goes_on(small: tuple[Path, dict[bytes, bytes]]) -> None:
    root, _ = small
    lost = lose_catalog(root)
    write_faults(image(open_site(root), "TF0001L9"), Faults(unreadable=True))
    begun = root.parent / "begun"

    def work() -> None:
        rebuilt(open_site(begun))

    steps = [
        (rebuild_read, "read_label"),
        (rebuild_parity, "find_index"),
        (rebuild, "_fill"),
        (rebuild, "_count_objects"),
        *((Findings, name) for name in ("note_volume", "note_segment", "note_hearsay")),
    ]
    for step in range(1, 60, 4):
        shutil.copytree(root, begun)
        killed = killed_before(step, steps, work)
        site = open_site(begun, ahead())
        assert not killed or rebuilt(site).complete
        assert compared(site, lost) == []
        site.close()
        shutil.rmtree(begun)
        if not killed:
            break
    assert step > 20
    assert not killed


def test_a_catalog_with_anything_in_it_is_left_alone(
    small: tuple[Path, dict[bytes, bytes]],
) -> None:
    site = open_site(small[0])
    with pytest.raises(Refused, match="not empty"):
        rebuilt(site)
    site.close()


def test_another_key_opens_nothing(small: tuple[Path, dict[bytes, bytes]]) -> None:
    root, _ = small
    lose_catalog(root)
    (root / "operating.txt").write_text(new_identity()[0])
    site = open_site(root)
    with pytest.raises(KeyUnusable):
        rebuilt(site)
    site.close()


def test_volumes_of_others_are_named_and_left_out(
    small: tuple[Path, dict[bytes, bytes]],
) -> None:
    root, _ = small
    lose_catalog(root)
    site = switch(root, 'id = "test"', 'id = "other"')
    report = rebuilt(site)
    assert (report.sets, len(report.problems)) == (0, 4)
    with site.catalog.read() as connection:
        assert [volume.barcode for volume in volumes(connection)] == ["TF0004L9"]
    site.close()


def test_what_is_missing_is_waited_for(small: tuple[Path, dict[bytes, bytes]]) -> None:
    """Three of four volumes are away: no index of the other data volume can be had."""
    root, files = small
    lost = lose_catalog(root)
    site = open_site(root)
    away = [image(site, f"TF000{n}L9") for n in (0, 2, 3)]
    for path in away:
        path.rename(root / path.name)
    report = rebuilt(site)
    assert not report.written
    assert not report.complete
    with site.catalog.read() as connection:
        assert not volumes(connection)
    for path in away[1:]:
        (root / path.name).rename(path)
    report = rebuilt(site)
    assert report.complete
    assert report.away == ["TF0000L9"]
    assert report.by_parity > 0
    assert compared(site, lost) == []
    with site.catalog.read() as connection:
        [missing] = [v for v in volumes(connection) if v.health is not Health.OK]
        assert (missing.barcode, missing.health) == ("TF0000L9", Health.LOST)
        assert missing.flags == {Flag.MISSING}
    restore(site, RestoreSpec(store="live", prefix=b"", target="out"))
    restored = digests(root / "out")
    assert restored.pop(b"gone")
    assert restored == sha256s({key: data for key, data in files.items() if key != b"gone"})
    site.close()


def test_a_rebuild_can_go_without_what_is_lost(small: tuple[Path, dict[bytes, bytes]]) -> None:
    root, files = small
    lose_catalog(root)
    site = open_site(root)
    for number in (1, 2, 3):
        write_faults(image(site, f"TF000{number}L9"), Faults(unreadable=True))
    report = rebuilt(site, incomplete=True)
    assert report.written
    assert report.missing
    with site.catalog.read() as connection:
        held = set(connection.execute(select(extents.c.position).distinct()).scalars())
        assert held == {0}
        assert len(volumes(connection)) == 5
    restore(site, RestoreSpec(store="live", prefix=b"", target="out"))
    found = digests(root / "out")
    assert found
    assert found.items() <= sha256s(files | {b"gone": b"gone"}).items()
    site.close()


def test_two_rebuilds_at_once_are_refused(small: tuple[Path, dict[bytes, bytes]]) -> None:
    root, _ = small
    lose_catalog(root)
    site = open_site(root)
    with rebuild_folder(site), pytest.raises(Refused, match="Another rebuild"):
        rebuilt(site)
    site.close()


def test_a_backup_that_a_crash_cut_off_is_told_apart(
    small: tuple[Path, dict[bytes, bytes]],
) -> None:
    """A whole tape file on one volume alone was never committed."""
    root, _ = small
    site = switch(root, "keep_open = false", "keep_open = true")
    add_volumes(site, [f"TG000{n}L9" for n in range(3)])
    write_files(root / "live", {b"late": b"late"})
    back_up(site)
    leases = CatalogLeases(site.catalog, site.clock)
    with site.catalog.read() as connection:
        [first, *_] = idle_open_sets(connection, "live")
    with mounted(site.library, leases, first.barcodes[0], "test") as drive:
        drive.locate(1)
        copied = list(blocks(drive))
        for block in copied:
            drive.write(block)
        drive.write_filemark()
    lost = lose_catalog(root)
    report = rebuilt(site := open_site(root))
    assert report.complete
    assert report.left_out == [f"{first.id}, stripe 2"]
    assert compared(site, lost) == []
    site.close()
