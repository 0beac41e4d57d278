"""Catalogs that are lost after a repack: what lies on two sets is one and the same."""

from pathlib import Path

import pytest

from restore_lib.catalog.volumes import volumes
from restore_lib.integrity.repack import run_repack
from restore_lib.model.states import SetState
from tests.integrity.repairs import check_restore, lose
from tests.support.rebuilds import compared, lose_catalog, rebuilt
from tests.support.repacks import OLD, build, live_extents_of, sets_in
from tests.support.sites import ACTOR, open_site


@pytest.mark.parametrize("gone", [False, True], ids=["both copies", "the old set is gone"])
def test_a_rebuilt_catalog_finds_the_newer_copies(tmp_path: Path, gone: bool) -> None:
    site = build(tmp_path)
    [new] = run_repack(site, ACTOR).new_sets
    live = live_extents_of(site, new)
    held = list(site.config.library.path.rglob("TF000[0-4]L9.tap"))
    assert len(held) == 5
    for path in held if gone else []:
        path.unlink()
    site.close()
    lost = lose_catalog(tmp_path)
    again = open_site(tmp_path)
    rebuilt(again)
    if not gone:
        assert compared(again, lost) == []
        assert live_extents_of(again, OLD) > live_extents_of(again, new)
    assert live_extents_of(again, new) == live
    check_restore(again)
    again.close()


def test_an_object_of_which_some_parts_were_moved_is_whole(tmp_path: Path) -> None:
    policy = 'k = 2\nm = 1\nblock_size = "4KiB"\nsegment_size = "64KiB"'
    site = build(tmp_path, policy=policy, capacity="140KB", blank=60)
    closed = sets_in(site, SetState.CLOSED)
    chosen = closed[::2]
    run_repack(site, ACTOR, sets=chosen)
    emptied = [name for name in chosen if live_extents_of(site, name) == 0]
    assert emptied == chosen
    with site.catalog.read() as connection:
        old = [v.barcode for v in volumes(connection, tape_sets=chosen)]
    for barcode in old:
        lose(site, barcode)
    site.close()
    lose_catalog(tmp_path)
    again = open_site(tmp_path)
    rebuilt(again)
    check_restore(again)
    again.close()
