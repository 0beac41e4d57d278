from pathlib import Path

import pytest

from restore_lib.backup.seal import StagedFile
from restore_lib.backup.stage import StagedStripe
from restore_lib.backup.taking import fitting, unusable, used
from restore_lib.catalog import stripes, tape_sets
from restore_lib.catalog.engine import Catalog
from restore_lib.catalog.volumes import change
from restore_lib.model.volume import Custody, Health
from tests.support.stripes import AT, begin, extent, new_set, stored, tape_files


def staged(*blocks: int) -> list[StagedStripe]:
    files = [(StagedFile(0, Path("x"), n, "", "", b"index", 0),) for n in blocks]
    return [StagedStripe(n, file, ()) for n, file in enumerate(files, 1)]


@pytest.fixture
def catalog(sqlite_url: str) -> Catalog:
    return Catalog(sqlite_url)


def test_stripes_fit_as_long_as_the_fullest_volume_has_room(catalog: Catalog) -> None:
    with catalog.write() as connection:
        rp_id, [job_id] = begin(connection)
        blank = new_set(connection, job_id)
        size = blank.block_size
        assert used(connection, blank) == 0
        assert fitting(blank, staged(3, 3, 3), 0, 7 * size) == 2
        assert fitting(blank, staged(9, 1), 0, 7 * size) == 1
        assert fitting(blank, staged(1), 0, size) == 1
        stripes.commit_stripes(
            connection,
            rp_id=rp_id,
            store="live",
            tape_set=blank.id,
            files=tape_files(blank, 1, 2, blocks=4),
            new=[extent(stored(b"a"))],
            started={},
            at=AT,
        )
        begun = tape_sets.tape_set(connection, blank.id)
        assert used(connection, begun) == 8 * size
        assert fitting(begun, staged(1), 8 * size, 9 * size) == 0
        assert fitting(begun, staged(1), 8 * size, 10 * size) == 1
        assert fitting(begun, [], 8 * size, 0) == 0


def test_volumes_that_are_not_sound_or_not_here_can_not_be_written_to(catalog: Catalog) -> None:
    with catalog.write() as connection:
        _, [job_id] = begin(connection)
        held = new_set(connection, job_id)
        assert unusable(connection, held) == []
        away, bad, _ = held.barcodes
        out = (Custody.MOUNTABLE, Custody.NOTMOUNTABLE)
        change(connection, [away], "custody", *out, actor="test", reason="test", at=AT)
        failed = (Health.OK, Health.SUSPECT)
        change(connection, [bad], "health", *failed, actor="test", reason="test", at=AT)
        assert unusable(connection, held) == [away, bad]
