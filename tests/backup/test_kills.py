"""A backup that is killed at any instant, and run again."""

import os
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from restore_lib.backup import ahead, seal
from restore_lib.backup.run import run_job
from restore_lib.backup.stage import StagedStripe
from restore_lib.catalog import tables
from restore_lib.catalog.recovery_points import live_at
from restore_lib.catalog.volumes import volumes
from restore_lib.library.virtual_drive import VirtualDrive
from restore_lib.model.volume import Content, Health
from restore_lib.restore.request import RestoreSpec
from restore_lib.site import Site
from restore_lib.tape.segment import SegmentWriter
from tests.support.clock import ManualClock
from tests.support.kills import killed_before
from tests.support.sites import (
    ACTOR,
    back_up,
    begin,
    digests,
    make_site,
    open_site,
    restore,
    write_files,
)

POLICY = 'k = 2\nm = 1\nblock_size = "64KiB"\nsegment_size = "128KiB"'
BOUNDARIES = [
    (VirtualDrive, "write_filemark"),
    (VirtualDrive, "write"),
    (SegmentWriter, "finish"),
    (seal, "encode_parity"),
    (StagedStripe, "remove"),
]
STEPS = 150


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with a backup that has begun: a cut object over two stripes, and some others."""
    root = tmp_path_factory.mktemp("begun")
    site = make_site(root, policy=POLICY, blank=7, clock=ManualClock())
    write_files(root / "live", {b"old": b"old"})
    back_up(site)
    contents = {b"big": os.urandom(250_000), b"old": b"changed", b"small": b"1", b"zero": b""}
    write_files(root / "live", contents)
    begin(site)
    site.close()
    return root


def assert_whole(site: Site, expected: dict[bytes, str], out: Path) -> None:
    point = back_up(site)
    assert point.summary["objects"] == len(expected)
    with site.catalog.read() as connection:
        assert len(volumes(connection, health=[Health.OK])) == 7
        assert len(volumes(connection, content=[Content.BLANK, Content.FULL])) == 7
        query = (
            select(tables.versions.c.object_id, tables.versions.c.parts, tables.extents.c.part)
            .join(tables.extents, tables.extents.c.version_id == tables.versions.c.id)
            .where(live_at(point.id))
        )
        found = [tuple(row) for row in connection.execute(query)]
    objects = {(object_id, parts) for object_id, parts, _ in found}
    assert len(objects) == len({object_id for object_id, _ in objects}) == len(expected)
    wanted = [(o, parts, part + 1) for o, parts in objects for part in range(parts)]
    assert sorted(found) == sorted(wanted)
    restore(site, RestoreSpec(store="live", prefix=b"", target="out"))
    assert digests(out) == expected


def test_killed_anywhere_a_backup_is_whole_when_it_is_run_again(
    begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "MOST_PIECES", 0)  # so that one stripe is written, then the next
    monkeypatch.setattr("os.fsync", lambda _: None)
    expected = digests(begun / "live")
    for step in range(1, STEPS):
        root = tmp_path / str(step)
        shutil.copytree(begun, root)

        def work(root: Path = root) -> None:
            run_job(open_site(root, ManualClock()), 2, ACTOR)

        killed = killed_before(step, BOUNDARIES, work)
        later = ManualClock()
        later.advance(timedelta(hours=1))
        site = open_site(root, later)
        assert_whole(site, expected, root / "out")
        site.close()
        shutil.rmtree(root)
        if not killed:
            break
    else:
        pytest.fail(f"the backup does not end within {STEPS} boundaries")
    assert step > 50
