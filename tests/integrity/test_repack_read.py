"""Stored payloads on the staging disk: which pages, and what each volume can and can't give."""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from restore_lib.catalog import tape_sets
from restore_lib.catalog.liveness import LiveExtent
from restore_lib.errors import DiskFull
from restore_lib.integrity.repack_read import Page, Source, pages, read_page
from restore_lib.library.faults import Faults, write_faults
from restore_lib.model.volume import Health
from restore_lib.restore.mount import Mounts
from restore_lib.site import Site
from tests.integrity.repairs import known, lose
from tests.support.repacks import OLD, K, M, build, copied
from tests.support.sites import ACTOR, image, open_site
from tests.support.spoil import joined, parts

BLOCK = 4096


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mostly-expired")
    build(root).close()
    return root


@pytest.fixture
def site(origin: Path, tmp_path: Path) -> Iterator[Site]:
    opened = open_site(copied(origin, tmp_path / "site"))
    yield opened
    opened.close()


def source(site: Site) -> Source:
    with site.catalog.read() as connection:
        held = tape_sets.tape_set(connection, OLD)
        return Source(held, tape_sets.files_of_set(connection, OLD), held.barcodes)


def paged(site: Site, room: int) -> list[list[LiveExtent]]:
    return list(pages(site, source(site), lambda: room, lambda _: False))


def read(site: Site, tmp_path: Path) -> Page:
    [extents] = paged(site, 1 << 30)
    folder = tmp_path / "payloads"
    folder.mkdir()
    return read_page(source(site), extents, Mounts(site, ACTOR), folder)


def assert_sound(page: Page, extents: Sequence[LiveExtent]) -> None:
    assert page.unreadable == {}
    assert page.extents == list(extents)
    for extent in extents:
        data = b"".join(page.payload(extent))
        assert hashlib.sha256(data).hexdigest() == extent.stored_sha256


def blocks(page: Sequence[LiveExtent]) -> int:
    rows = {
        (extent.position, extent.stripe, row)
        for extent in page
        for row in range(extent.offset // BLOCK, -(-(extent.offset + extent.stored_size) // BLOCK))
    }
    return len(rows)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(room=st.integers(20, 80))
def test_a_page_takes_no_more_than_there_is_room_for(site: Site, room: int) -> None:
    [whole] = paged(site, 1 << 30)
    found = paged(site, room * BLOCK)
    assert [extent for page in found for extent in page] == whole
    assert [extent.place for extent in whole] == sorted(extent.place for extent in whole)
    assert all(blocks(page) <= room for page in found)
    assert all(blocks([*page, after[0]]) > room for page, after in pairwise(found))


def test_one_that_the_disk_does_not_hold_is_said_so(site: Site) -> None:
    with pytest.raises(DiskFull, match="has room for 8,192 bytes"):
        paged(site, 3 * BLOCK - 1)


def test_those_that_are_skipped_are_on_no_page(site: Site) -> None:
    [whole] = paged(site, 1 << 30)
    [found] = pages(site, source(site), lambda: 1 << 30, lambda extent: extent.parts > 1)
    assert found == [extent for extent in whole if extent.parts == 1]
    assert list(pages(site, source(site), lambda: 0, lambda _: True)) == []


def test_sound_payloads_are_read_as_they_are_stored(site: Site, tmp_path: Path) -> None:
    page = read(site, tmp_path)
    assert_sound(page, paged(site, 1 << 30)[0])
    page.close()
    assert list((tmp_path / "payloads").iterdir()) == []


@pytest.mark.parametrize("lost", [0, 1])
def test_parity_stands_in_for_a_lost_volume_and_for_bad_blocks(
    site: Site, tmp_path: Path, lost: int
) -> None:
    held = source(site).held
    lose(site, held.barcodes[lost])
    for number, barcode in enumerate(b for b in held.barcodes if b != held.barcodes[lost]):
        bad = tuple((1, row, row) for row in range(number, 16, K + M))
        write_faults(image(site, barcode), Faults(unreadable_blocks=bad))
    assert_sound(read(site, tmp_path), paged(site, 1 << 30)[0])
    assert known(site, held.barcodes[lost]).health is Health.LOST


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lost=st.sets(st.integers(0, K + M - 1), max_size=M), draw=st.randoms(use_true_random=False))
def test_whatever_m_blocks_of_each_row_are_lost(
    site: Site, tmp_path_factory: pytest.TempPathFactory, lost: set[int], draw: random.Random
) -> None:
    whole = source(site)
    others = [b for n, b in enumerate(whole.held.barcodes) if n not in lost]
    bad: dict[str, list[tuple[int, int, int]]] = {barcode: [] for barcode in others}
    for stripe in range(1, whole.held.stripes + 1):
        for row in range(17):
            for barcode in draw.sample(others, draw.randint(0, M - len(lost))):
                bad[barcode].append((stripe, row, row))
    for barcode, rows in bad.items():
        write_faults(image(site, barcode), Faults(unreadable_blocks=tuple(rows)))
    [extents] = paged(site, 1 << 30)
    folder = tmp_path_factory.mktemp("payloads")
    page = read_page(replace(whole, volumes=others), extents, Mounts(site, ACTOR), folder)
    assert_sound(page, extents)
    page.close()


def wrong_everywhere(site: Site, barcode: str) -> None:
    """Change each block behind the label, without a sign of it to the drive."""
    path = image(site, barcode)
    changed = [
        record if n < 2 or not record else bytes(byte ^ 1 for byte in record)
        for n, record in enumerate(parts(path.read_bytes()))
    ]
    path.write_bytes(joined(changed))


def test_wrong_bytes_are_told_by_their_digest_and_rebuilt(site: Site, tmp_path: Path) -> None:
    first, second, *_ = source(site).held.barcodes
    wrong_everywhere(site, first)
    wrong_everywhere(site, second)
    assert_sound(read(site, tmp_path), paged(site, 1 << 30)[0])
    assert {known(site, b).health for b in (first, second)} == {Health.SUSPECT}


def test_what_nothing_gives_is_told_for_each_payload(site: Site, tmp_path: Path) -> None:
    for barcode in source(site).held.barcodes[: M + 1]:
        wrong_everywhere(site, barcode)
    [extents] = paged(site, 1 << 30)
    page = read(site, tmp_path)
    assert page.unreadable.keys() == {e.id for e in extents} - {e.id for e in page.extents}
    assert len(page.unreadable) > len(extents) // 2
    for extent in page.extents:
        data = b"".join(page.payload(extent))
        assert hashlib.sha256(data).hexdigest() == extent.stored_sha256
    assert all("is not what was written" in why for why in page.unreadable.values())
    page.close()
    assert list((tmp_path / "payloads").iterdir()) == []
