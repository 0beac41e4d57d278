"""Segments of stored payloads: what they hold and what their indexes say."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from restore_lib.backup.pack import Geometry
from restore_lib.backup.stage import Pieces, StagedStripe, Stager
from restore_lib.catalog import tape_sets
from restore_lib.catalog.liveness import LiveExtent
from restore_lib.errors import DigestMismatch
from restore_lib.integrity.repack_read import Page, Source, pages, read_page
from restore_lib.integrity.repack_write import StoredSealing, selected
from restore_lib.model.progress import Silent
from restore_lib.restore.mount import Mounts
from restore_lib.site import Site
from restore_lib.tape.payload import restore_payload
from restore_lib.tape.segment_reader import read_index
from tests.support.repacks import OLD, K, M, build, copied
from tests.support.sites import ACTOR, open_site


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


@pytest.fixture
def page(site: Site, tmp_path: Path) -> Iterator[Page]:
    with site.catalog.read() as connection:
        held = tape_sets.tape_set(connection, OLD)
        source = Source(held, tape_sets.files_of_set(connection, OLD), held.barcodes)
    [extents] = pages(site, source, lambda: 1 << 30, lambda _: False)
    (tmp_path / "payloads").mkdir()
    found = read_page(source, extents, Mounts(site, ACTOR), tmp_path / "payloads")
    yield found
    found.close()


def staged(site: Site, page: Page, folder: Path, told: list[LiveExtent]) -> list[StagedStripe]:
    folder.mkdir()
    geometry = Geometry.of(site.policy("live"), site.config.library.capacity, 1)
    stager = Stager(
        folder,
        "live",
        geometry,
        geometry.segment_size,
        1,
        StoredSealing(page, site.recipients, geometry.block_size, told.append),
        Silent(),
    )
    return [one for one, _ in stager.stripes(Pieces(selected(page)), lambda *_: True)]


def test_each_payload_is_in_one_segment_with_all_that_is_known_of_it(
    site: Site, page: Page, tmp_path: Path
) -> None:
    told: list[LiveExtent] = []
    stripes = staged(site, page, tmp_path / "staged", told)
    assert told == page.extents
    by_id = {extent.id: extent for extent in page.extents}
    seen: set[int] = set()
    for stripe in stripes:
        assert len(stripe.files) == K + M
        for position, file in enumerate(stripe.files[:K]):
            data = file.path.read_bytes()
            members = read_index(io.BytesIO(data), site.identities)
            extents = [e for e in stripe.extents if e.position == position]
            for member, new in zip(members, extents, strict=True):
                old = by_id[new.replaces or 0]
                seen.add(old.id)
                meta = member.meta
                assert (new.member, new.offset) == (member.name, member.offset)
                assert member.compressed == old.member.endswith(".zst.age")
                assert (member.size, member.sha256) == (old.size, old.sha256)
                assert member.stored_sha256 == new.stored_sha256 == old.stored_sha256
                assert (meta.store, meta.key, meta.etag) == (old.store, old.key, old.etag)
                assert (meta.modified_at, meta.metadata) == (old.modified_at, old.metadata)
                assert (meta.part or 1, meta.parts or 1) == (old.part, old.parts)
                last = old.part == old.parts > 1
                assert meta.object_sha256 == (old.object_sha256 if last else None)
                stored = data[member.offset : member.offset + member.stored_size]
                back = io.BytesIO()
                restore_payload(member, io.BytesIO(stored), back, site.identities)
                assert len(back.getvalue()) == old.size
    assert seen == by_id.keys()


def test_a_staging_disk_that_gives_back_other_bytes_is_found_out(
    site: Site, page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Page, "payload", lambda _, extent: iter([bytes(extent.stored_size)]))
    with pytest.raises(DigestMismatch, match="are not those that were written"):
        staged(site, page, tmp_path / "staged", [])
