from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from restore_lib.catalog import audit, tables
from restore_lib.catalog.engine import Catalog
from restore_lib.catalog.findings import Findings
from restore_lib.catalog.rebuilding import (
    UNKNOWN_DIGEST,
    RebuiltSet,
    RebuiltVolume,
    fill_catalog,
    is_empty,
    is_rebuilt_by,
)
from restore_lib.catalog.recovery_points import live_versions, recovery_points_of
from restore_lib.catalog.tape_sets import files_of_set, tape_set
from restore_lib.catalog.volumes import add_blank, history, volumes
from restore_lib.errors import Refused
from restore_lib.model.volume import Content, Flag, Health, fold
from tests.support.found import AT, DIGEST, member, note_set

SET = RebuiltSet("live-00001", 1, 1, 512, ("age1x",), AT, 2, True, {0: "00001-0", 1: "00001-1"})
HELD = [
    RebuiltVolume("00001-0", SET.id, 0, Content.FULL, Health.OK),
    RebuiltVolume("00001-1", SET.id, 1, Content.FULL, Health.LOST, (Flag.MISSING,)),
    RebuiltVolume("BLANK", None, None, Content.BLANK, Health.OK),
]


@pytest.fixture
def findings(tmp_path: Path) -> Findings:
    return note_set(
        tmp_path / "findings.db", [[member(0, b"a"), member(1, b"b")], [member(0, b"a", hour=1)]]
    )


def fill(catalog: Catalog, findings: Findings) -> None:
    with catalog.write() as connection:
        fill_catalog(connection, findings, [SET], HELD, actor="ann", at=AT, detail={"volumes": 3})


def test_an_empty_catalog_is_filled(catalog: Catalog, findings: Findings) -> None:
    with catalog.read() as connection:
        assert is_empty(connection)
        assert not is_rebuilt_by(connection, findings.id)
    fill(catalog, findings)
    with catalog.read() as connection:
        assert not is_empty(connection)
        assert is_rebuilt_by(connection, findings.id)
        live = list(live_versions(connection, "live", None, None))
        assert [(v.key, v.modified_at, v.etag) for v in live] == [
            (b"a", AT + timedelta(hours=1), "e"),
            (b"b", AT, "e"),
        ]
        newest, older = recovery_points_of(connection, "live")
        assert (newest.summary["objects"], newest.summary["backed_up"]) == (2, 1)
        assert (older.summary["objects"], older.policy) == (2, "live")
        assert tape_set(connection, SET.id).barcodes == ("00001-0", "00001-1")
        files = files_of_set(connection, SET.id)
        assert [(f.stripe, f.position, f.index_offset) for f in files] == [
            (1, 0, 1024),
            (1, 1, None),
            (2, 0, 1024),
            (2, 1, None),
        ]
        first, lost, blank = volumes(connection)
        assert (first.files, first.bytes, first.content) == (2, 2 * 4 * 512, Content.FULL)
        assert (lost.health, lost.flags) == (Health.LOST, frozenset({Flag.MISSING}))
        assert blank.content is Content.BLANK
        assert fold(history(connection, "00001-1")).flags == {Flag.MISSING}
        assert audit.verify(connection).ok


def test_what_comes_after_is_numbered_behind(catalog: Catalog, findings: Findings) -> None:
    fill(catalog, findings)
    with catalog.write() as connection:
        row = insert(tables.objects).values(store="live", key=b"new").returning(tables.objects.c.id)
        assert connection.execute(row).scalar_one() == 3


def test_a_catalog_with_a_volume_in_it_is_refused(catalog: Catalog, findings: Findings) -> None:
    with catalog.write() as connection:
        add_blank(connection, ["MINE"], actor="ann", at=AT)
    with pytest.raises(Refused, match="not empty"):
        fill(catalog, findings)
    with catalog.read() as connection:
        assert [volume.barcode for volume in volumes(connection)] == ["MINE"]


def test_a_tape_file_that_nobody_knows_is_entered_as_such(
    catalog: Catalog, findings: Findings
) -> None:
    with catalog.write() as connection:
        longer = RebuiltSet(
            SET.id, 1, 1, 512, ("age1x",), AT, 3, True, {0: "00001-0", 1: "00001-1"}
        )
        fill_catalog(connection, findings, [longer], HELD, actor="ann", at=AT, detail={})
        query = select(tables.tape_files.c.sha256).order_by(tables.tape_files.c.stripe_id)
        digests = list(connection.execute(query).scalars())
    assert digests == 4 * [DIGEST] + 2 * [UNKNOWN_DIGEST]
