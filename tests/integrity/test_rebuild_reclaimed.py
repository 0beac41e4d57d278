"""Catalogs that are rebuilt from, and compared with, tapes of sets that were reclaimed."""

import os
from pathlib import Path

import pytest

from restore_lib.catalog.volumes import volumes
from restore_lib.integrity.rebuild import (
    RebuildReport,
    compare_rebuild,
    plan_rebuild,
    read_into,
    rebuild_folder,
)
from restore_lib.integrity.rebuild_diff import Difference
from restore_lib.model.volume import Content
from restore_lib.restore.request import RestoreSpec
from restore_lib.site import Site
from tests.retention.sites import DAY, build, days, expire, held, reclaim, write
from tests.support.clock import ManualClock
from tests.support.rebuilds import lose_catalog, rebuilt
from tests.support.sites import ACTOR, back_up, digests, open_site, restore

FIRST = "live-00001"


@pytest.fixture
def expired(tmp_path: Path) -> tuple[Site, ManualClock]:
    """Two sets, of which nothing needs the first any more."""
    site, clock = build(tmp_path / "cluster", blank=8)
    days(site, clock, {b"a": os.urandom(9_000), b"b": b"1"}, {b"a": os.urandom(900), b"b": b"2"})
    clock.advance(40 * DAY)
    assert expire(site) == [1]
    return site, clock


def compare(site: Site) -> tuple[RebuildReport, list[Difference]]:
    with rebuild_folder(site, compare=True) as folder:
        for barcode in plan_rebuild(site, compare=True).to_read:
            read_into(site, folder, barcode)
        report, count, first = compare_rebuild(site, folder, ACTOR)
    assert count == len(first)
    return report, first


def through(site: Site, clock: ManualClock) -> None:
    reclaim(site)
    clock.advance(14 * DAY)
    assert list(reclaim(site).reclaimed) == [FIRST]


def test_a_set_in_quarantine_is_on_its_tapes(expired: tuple[Site, ManualClock]) -> None:
    site, _ = expired
    assert reclaim(site).quarantined == [FIRST]
    report, differences = compare(site)
    assert (report.complete, report.reclaimed, differences) == (True, [], [])


def test_what_is_left_of_a_reclaimed_set_is_no_difference(
    expired: tuple[Site, ManualClock],
) -> None:
    site, clock = expired
    through(site, clock)
    report, differences = compare(site)
    assert (report.complete, report.reclaimed, differences) == (True, [FIRST], [])
    write(site, {b"c": os.urandom(2_000)})
    back_up(site)
    assert held(site, "live-00003").barcodes == ("TF0006L9", "TF0007L9", "TF0000L9")
    report, differences = compare(site)
    assert (report.complete, report.reclaimed, differences) == (True, [FIRST], [])


def test_a_rebuild_leaves_out_what_a_later_set_is_written_over(
    expired: tuple[Site, ManualClock], tmp_path: Path
) -> None:
    site, clock = expired
    root = tmp_path / "cluster"
    through(site, clock)
    write(site, {b"c": os.urandom(2_000)})
    back_up(site)
    site.close()
    lose_catalog(root)
    site = open_site(root)
    report = rebuilt(site)
    assert (report.complete, report.reclaimed, report.sets) == (True, [FIRST], 2)
    with site.catalog.read() as connection:
        left = volumes(connection, content=[Content.RETIRED])
    assert [volume.barcode for volume in left] == ["TF0001L9", "TF0002L9"]
    restore(site, RestoreSpec(store="live", prefix=b"", target="out"))
    assert digests(root / "out") == digests(root / "live")
    site.close()
