from pathlib import Path

from sqlalchemy import update

from restore_lib.catalog import tables
from restore_lib.catalog.engine import Catalog
from restore_lib.integrity.rebuild_diff import differences
from tests.catalog.test_rebuilding import fill
from tests.support.found import member, note_set


def test_differences_are_found_on_either_side(catalog: Catalog, tmp_path: Path) -> None:
    rebuilt = Catalog(f"sqlite:///{tmp_path / 'rebuilt.db'}")
    rebuilt.migrate()
    noted = note_set(tmp_path / "findings.db", [[member(0, b"a"), member(1, b"b")], []])
    for one in (rebuilt, catalog):
        fill(one, noted)
    scratch = tmp_path / "scratch"
    assert list(differences(rebuilt, catalog, scratch)) == []

    with rebuilt.write() as connection:  # tapes of the first days tell neither of these
        connection.execute(update(tables.versions).values(etag=None))
        connection.execute(update(tables.tape_sets).values(state="open"))
    assert list(differences(rebuilt, catalog, scratch)) == []

    with catalog.write() as connection:
        member_1 = tables.extents.c.member == "objects/00000001.age"
        connection.execute(tables.extents.delete().where(member_1))
        position = tables.tape_files.c.position == 1
        connection.execute(update(tables.tape_files).where(position).values(blocks=5))
    found = list(differences(rebuilt, catalog, scratch))
    assert [(d.kind, d.name) for d in found] == [
        ("object", "live-00001, position 0, tape file 1, objects/00000001.age"),
        ("tape file", "live-00001, position 1, tape file 1"),
        ("tape file", "live-00001, position 1, tape file 2"),
    ]
    assert found[0].catalog is None
    assert found[1].tapes != found[1].catalog
    rebuilt.close()
