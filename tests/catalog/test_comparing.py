from pathlib import Path

from sqlalchemy import update

from restore_lib.catalog import tables
from restore_lib.catalog.comparing import CLOSED, ETAG, facts
from restore_lib.catalog.engine import Catalog
from tests.catalog.test_rebuilding import HELD, SET, fill
from tests.support.found import member, note_set


def test_facts_name_all_that_tapes_tell(catalog: Catalog, tmp_path: Path) -> None:
    fill(catalog, note_set(tmp_path / "findings.db", [[member(0, b"a\xff")], []]))
    with catalog.write() as connection:
        found = list(facts(connection))
        kinds = [kind for kind, _, _ in found]
        assert kinds == [
            "tape set",
            CLOSED,
            *(2 * ["volume"]),
            *(4 * ["tape file"]),
            "object",
            ETAG,
        ]
        assert len({(kind, name) for kind, name, _ in found}) == len(found)
        assert SET.id in found[0][1]
        assert {found[2][1], found[3][1]} == {volume.barcode for volume in HELD[:2]}
        connection.execute(update(tables.versions).values(etag=None, size=77))
        changed = set(facts(connection)) ^ set(found)
        assert {kind for kind, _, _ in changed} == {"object", ETAG}
