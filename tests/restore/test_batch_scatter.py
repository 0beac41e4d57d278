"""Bad blocks scattered over all volumes of a set: what comes back, and what is named."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from restore_lib.catalog import tables
from restore_lib.library.faults import Faults, write_faults
from restore_lib.restore import assembly
from restore_lib.restore.request import RestoreSpec
from restore_lib.site import Site
from tests.support.clock import ManualClock
from tests.support.sites import back_up, digests, image, make_site, open_site, restore, write_files

K, M, BLOCK = 3, 2, 4096
POLICY = f'k = {K}\nm = {M}\nblock_size = "4KiB"\nsegment_size = "128KiB"'
CONTENTS = {b"%02d" % n: os.urandom(1 + 5000 * n) for n in range(10)} | {
    b"cut": os.urandom(160_000)
}
Block = tuple[int, int, int]
"""Stripe, position, row."""


class Cluster:
    """A backup of ``CONTENTS`` on one set, to be copied, harmed and restored."""

    def __init__(self, root: Path) -> None:
        self.root = root
        site = make_site(root, policy=POLICY, blank=K + M)
        write_files(root / "live", CONTENTS)
        back_up(site)
        files, stripes, extents = tables.tape_files, tables.stripes, tables.extents
        with site.catalog.read() as connection:
            query = select(stripes.c.number, files.c.position, files.c.barcode, files.c.blocks)
            self.files = {
                (row.number, row.position): (row.barcode, row.blocks)
                for row in connection.execute(query.join(files))
            }
            held = (
                select(tables.objects.c.key, stripes.c.number, extents)
                .join(tables.versions, tables.versions.c.object_id == tables.objects.c.id)
                .join(extents, extents.c.version_id == tables.versions.c.id)
                .join(stripes, stripes.c.id == extents.c.stripe_id)
            )
            self.rows: dict[bytes, set[Block]] = {}
            for row in connection.execute(held):
                end = row.offset + row.stored_size
                for number in range(row.offset // BLOCK, -(-end // BLOCK)):
                    place = (row.number, row.position, number)
                    self.rows.setdefault(bytes(row.key), set()).add(place)
        site.close()

    def lost(self, bad: set[Block]) -> set[bytes]:
        """Return the objects with a bad block in a row that has more than m of them."""
        hopeless = {
            (stripe, position, row)
            for stripe, position, row in bad
            if sum(s == stripe and r == row for s, _, r in bad) > M
        }
        return {key for key, rows in self.rows.items() if rows & hopeless}

    def spoil(self, site: Site, bad: set[Block]) -> None:
        for barcode in {barcode for barcode, _ in self.files.values()}:
            hit = [b for b in sorted(bad) if self.files[b[0], b[1]][0] == barcode]
            faults = Faults(unreadable_blocks=tuple((s, r, r) for s, _, r in hit))
            write_faults(image(site, barcode), faults)

    def check(self, bad: set[Block]) -> None:
        """Restore everything with these bad blocks; exactly the ``lost`` objects may fail."""
        root = self.root.with_name("copy")
        shutil.copytree(self.root, root)
        try:
            site = open_site(root, ManualClock())
            self.spoil(site, bad)
            request_id = restore(site, RestoreSpec(store="live", prefix=b"", target="out"))
            items: dict[bytes, Any] = {}
            with site.catalog.read() as connection:
                query = select(tables.items).where(tables.items.c.request_id == request_id)
                items = {bytes(row.key): row for row in connection.execute(query)}
            site.close()
            lost = self.lost(bad)
            assert {key for key, row in items.items() if row.state == "failed"} == lost
            expected = {k: v for k, v in digests(root / "live").items() if k not in lost}
            assert digests(root / "out") == expected
        finally:
            shutil.rmtree(root)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        patch.setattr(assembly, "_LARGE", 100_000)
        yield Cluster(tmp_path_factory.mktemp("scatter") / "origin")


def scatter(data: st.DataObject, cluster: Cluster, most: int) -> set[Block]:
    """Draw up to ``most`` bad blocks for each of some rows, in any of the volumes."""
    stripes = max(stripe for stripe, _ in cluster.files)
    bad: set[Block] = set()
    for stripe in range(1, stripes + 1):
        length = cluster.files[stripe, K][1]
        for row in data.draw(st.sets(st.integers(0, length - 1), max_size=12)):
            there = [p for p in range(K + M) if row < cluster.files[stripe, p][1]]
            hit = data.draw(st.sets(st.sampled_from(there), min_size=1, max_size=most))
            bad |= {(stripe, position, row) for position in hit}
    return bad


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_scatter_of_up_to_m_in_each_row_loses_nothing(
    cluster: Cluster, data: st.DataObject
) -> None:
    bad = scatter(data, cluster, M)
    assert not cluster.lost(bad)
    cluster.check(bad)


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_with_more_exactly_the_objects_of_those_rows_are_named(
    cluster: Cluster, data: st.DataObject
) -> None:
    cluster.check(scatter(data, cluster, K + M))


def test_a_bad_block_in_every_volume_and_a_lost_row(cluster: Cluster) -> None:
    length = cluster.files[1, K][1]
    everywhere = {(1, row % (K + M), row) for row in range(length)}
    everywhere = {b for b in everywhere if b[2] < cluster.files[1, b[1]][1]}
    assert not cluster.lost(everywhere)
    cluster.check(everywhere)
    row = {(1, position, 2) for position in range(K)}
    assert cluster.lost(row)
    cluster.check(everywhere | row)
