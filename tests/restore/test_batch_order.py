"""Batches on drives that take time to locate."""

import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from restore_lib.catalog import batches
from restore_lib.catalog.batches import BatchItem
from restore_lib.catalog.stripes import blocks_of_files
from restore_lib.library.base import Range
from restore_lib.library.lto import Geometry
from restore_lib.library.virtual_drive import VirtualDrive
from restore_lib.restore import batch as batch_module
from restore_lib.restore.batch import run_batch
from restore_lib.restore.layout import Layout
from restore_lib.restore.order import seconds
from restore_lib.restore.read import TapeReader, in_order
from restore_lib.restore.request import RestoreSpec, plan_restore, start_restore
from restore_lib.site import Site
from tests.support.sites import ACTOR, back_up, digests, make_site, write_files

CONTENTS = {b"%02d" % number: os.urandom(20_000 + number) for number in range(30)}
ONE_VOLUME = 'k = 1\nm = 1\nblock_size = "4KiB"\nsegment_size = "256KiB"'
SERPENTINE = Geometry(
    capacity=1_000_000, wraps=20, bands=4, first_lpos=0, last_lpos=170_000, rate=400.0
)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = make_site(tmp_path, policy=ONE_VOLUME)
    write_files(tmp_path / "live", CONTENTS)
    back_up(made)
    yield made
    made.close()


def batch_of_all(site: Site) -> int:
    spec = RestoreSpec(store="live", prefix=b"", target="out")
    request_id = plan_restore(site, spec, ACTOR).request_id or 0
    start_restore(site, request_id, ACTOR)
    with site.catalog.read() as connection:
        [one] = batches.batches_of(connection, request_id=request_id)
    return one.id


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TapeReader, list[BatchItem]]]:
    """The items of each batch in the order in which they were read."""
    found: list[tuple[TapeReader, list[BatchItem]]] = []

    def noted(reader: TapeReader, items: Sequence[BatchItem]) -> list[BatchItem]:
        found.append((reader, in_order(reader, items)))
        return found[-1][1]

    monkeypatch.setattr(batch_module, "in_order", noted)
    return found


def places(items: Sequence[BatchItem]) -> list[tuple[int, int]]:
    return [(item.extents[0].stripe, item.extents[0].offset) for item in items]


def test_a_virtual_volume_is_read_in_block_order(
    site: Site, tmp_path: Path, read: list[tuple[TapeReader, list[BatchItem]]]
) -> None:
    run_batch(site, batch_of_all(site), ACTOR)
    [(_, items)] = read
    assert len(items) == len(CONTENTS)
    assert all(a < b for a, b in pairwise(places(items)))


def test_a_volume_on_a_serpentine_is_read_in_a_cheaper_order(
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read: list[tuple[TapeReader, list[BatchItem]]],
) -> None:
    monkeypatch.setattr(VirtualDrive, "geometry", lambda drive: SERPENTINE)
    batch_id = batch_of_all(site)
    with site.catalog.read() as connection:
        [barcode] = batches.batch(connection, batch_id).volumes
        [tape_set] = {
            extent.tape_set
            for item in batches.batch_items(connection, batch_id)
            for extent in item.extents
        }
        lengths = blocks_of_files(connection, barcode, tape_set)
    assert len(lengths) > 2
    result = run_batch(site, batch_id, ACTOR)
    assert result.restored == len(CONTENTS)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")
    [(reader, items)] = read
    layout = Layout(SERPENTINE, 4096, lengths)

    def taken(way: Sequence[BatchItem]) -> float:
        return seconds([layout.stretch(reader.span(item)) for item in way], 0, SERPENTINE)

    assert taken(items) < 0.8 * taken(sorted(items, key=lambda item: places([item])))


def test_the_order_that_the_drive_recommends_is_followed(
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read: list[tuple[TapeReader, list[BatchItem]]],
) -> None:
    def backwards(drive: VirtualDrive, ranges: Sequence[Range]) -> list[int]:
        return list(reversed(range(len(ranges))))

    monkeypatch.setattr(VirtualDrive, "geometry", lambda drive: SERPENTINE)
    monkeypatch.setattr(VirtualDrive, "recommended_order", backwards)
    run_batch(site, batch_of_all(site), ACTOR)
    [(_, items)] = read
    assert all(a > b for a, b in pairwise(places(items)))
    assert digests(tmp_path / "out") == digests(tmp_path / "live")
