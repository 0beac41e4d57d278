from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from restore_lib.catalog.bulk import CHUNK, chunks, insert_rows
from restore_lib.catalog.engine import Catalog
from restore_lib.catalog.tables import objects, versions
from tests.support.stripes import DIGEST, begin

AT = datetime(2030, 1, 1, 12, 30, 15, 250_000, UTC)


@given(st.integers(0, 3 * CHUNK))
def test_chunks_are_the_values_in_order_and_never_too_long(count: int) -> None:
    values = range(count)
    cut = list(chunks(values))
    assert [value for chunk in cut for value in chunk] == list(values)
    assert all(0 < len(chunk) <= CHUNK for chunk in cut)


def versions_of(object_ids: Sequence[int], rp_id: int) -> dict[str, Sequence[object]]:
    count = len(object_ids)
    return {
        "object_id": object_ids,
        "first_rp": [rp_id] * count,
        "store_version": [None] * count,
        "etag": ["it's %s ?"] * count,
        "size": [1 << 40] * count,
        "sha256": [DIGEST if number % 2 else None for number in range(count)],
        "modified_at": [AT] * count,
        "metadata": [{"größe": f"{number}"} for number in range(count)],
        "parts": [1] * count,
    }


def test_rows_go_in_and_come_out_as_they_were(catalog: Catalog) -> None:
    count = 7000
    keys = [b"\x00\xff\n'%%s?%d" % number for number in range(count)]
    with catalog.write() as connection:
        rp_id, _ = begin(connection)
        named: dict[str, Sequence[object]] = {"store": ["live"] * count, "key": keys}
        made = insert_rows(connection, objects, named, returning=("id", "key"))
        ids = {bytes(key): id_ for id_, key in made}
        assert len(ids) == count
        insert_rows(connection, versions, versions_of([ids[key] for key in keys], rp_id))
        found = connection.execute(select(versions).order_by(versions.c.id)).all()
    assert [row.object_id for row in found] == [ids[key] for key in keys]
    assert {(row.etag, row.size, row.modified_at, row.gone_rp) for row in found} == {
        ("it's %s ?", 1 << 40, AT, None)
    }
    assert [row.sha256 for row in found[:3]] == [None, DIGEST, None]
    assert found[4321].metadata == {"größe": "4321"}


def test_rows_that_are_known_are_skipped_or_refused(catalog: Catalog) -> None:
    def columns(*keys: bytes) -> dict[str, Sequence[object]]:
        return {"store": ["live"] * len(keys), "key": keys}

    with catalog.write() as connection:
        insert_rows(connection, objects, columns(b"a", b"b"))
        again = insert_rows(
            connection, objects, columns(b"b", b"c"), skip_known=True, returning=("key",)
        )
        assert [bytes(key) for (key,) in again] == [b"c"]
    with pytest.raises(IntegrityError), catalog.write() as connection:
        insert_rows(connection, objects, columns(b"d", b"a"))
    with catalog.read() as connection:
        assert connection.execute(select(func.count()).select_from(objects)).scalar_one() == 3


def test_no_rows_cost_no_statement(catalog: Catalog) -> None:
    with catalog.write() as connection:
        assert insert_rows(connection, objects, {"store": [], "key": []}, returning=("id",)) == []
