import pytest
from sqlalchemy import Connection, func, select

from restore_lib.catalog import recovery_points, stripes, tables, tape_sets
from restore_lib.catalog.engine import Catalog
from restore_lib.catalog.tape_sets import TapeSet
from restore_lib.errors import InvalidTransition
from restore_lib.model.extents import NewExtent
from tests.support.stripes import AT, DIGEST, begin, extent, new_set, stored, tape_files


def commit(
    connection: Connection,
    rp_id: int,
    held: TapeSet,
    new: list[NewExtent],
    started: dict[bytes, int] | None = None,
) -> dict[bytes, int]:
    numbers = sorted({e.stripe for e in new})
    return stripes.commit_stripes(
        connection,
        rp_id=rp_id,
        store="live",
        tape_set=held.id,
        files=tape_files(held, *numbers),
        new=new,
        started=started or {},
        at=AT,
    )


def rows(connection: Connection, table: str) -> int:
    counted = select(func.count()).select_from(tables.metadata.tables[table])
    return int(connection.execute(counted).scalar_one())


def test_a_stripe_brings_its_objects_extents_and_tape_files(catalog: Catalog) -> None:
    hostile = b"a\n'\xff"
    source = stored(
        hostile, b"xy", version="v1", etag="e1", content_type="text/x", metadata={"mode": "0644"}
    )
    with catalog.write() as connection:
        rp_id, [job_id] = begin(connection)
        held = new_set(connection, job_id)
        assert commit(connection, rp_id, held, [extent(source, b"xy", position=1)]) == {}
        version = connection.execute(select(tables.versions)).one()
        found = connection.execute(select(tables.extents)).one()
        [live] = recovery_points.live_versions(connection, "live", None, None)
        assert tape_sets.tape_set(connection, held.id).stripes == 1
        files = tape_sets.files_of_set(connection, held.id)
    assert (live.key, live.store_version, live.etag, live.size) == (hostile, "v1", "e1", 2)
    assert (version.content_type, version.metadata) == ("text/x", {"mode": "0644"})
    assert (version.first_rp, version.gone_rp) == (rp_id, None)
    assert (found.position, found.stored_sha256) == (1, DIGEST)
    assert [(f.stripe, f.position, f.index_offset) for f in files] == [
        (1, 0, 1024),
        (1, 1, 1024),
        (1, 2, None),
    ]


def test_the_replaced_version_ends_with_the_last_part_of_the_new_one(catalog: Catalog) -> None:
    with catalog.write() as connection:
        first, [job_id] = begin(connection)
        held = new_set(connection, job_id)
        commit(connection, first, held, [extent(stored(b"a", b"old"), b"old")])
        [old] = recovery_points.live_versions(connection, "live", None, None)
        second, _ = begin(connection)
        source = stored(b"a", b"x" * 9)
        parts = [
            extent(
                source,
                b"xxx",
                part=part,
                parts=3,
                stripe=1 + part,
                replaces=old.id,
                object_sha256=DIGEST if part == 3 else None,
            )
            for part in (1, 2, 3)
        ]
        started = commit(connection, second, held, parts[:1])
        started = commit(connection, second, held, parts[1:2], started)
        assert list(started) == [b"a"]
        [live] = recovery_points.live_versions(connection, "live", None, None)
        assert live.id == old.id
        assert commit(connection, second, held, parts[2:], started) == {}
        [live] = recovery_points.live_versions(connection, "live", None, None)
        assert live.size == 9
        gone = select(tables.versions.c.gone_rp).where(tables.versions.c.id == old.id)
        assert connection.execute(gone).scalar_one() == second
        assert rows(connection, "objects") == 1


def test_a_set_that_another_run_has_written_to_takes_nothing(catalog: Catalog) -> None:
    with catalog.write() as connection:
        rp_id, [job_id] = begin(connection)
        held = new_set(connection, job_id)
        commit(connection, rp_id, held, [extent(stored(b"a"))])
    with pytest.raises(InvalidTransition, match="does not end at stripe 0"), catalog.write() as c:
        commit(c, rp_id, held, [extent(stored(b"b"))])
    with catalog.read() as connection:
        assert rows(connection, "extents") == 1
        assert rows(connection, "stripes") == 1


def test_thousands_of_objects_go_in_one_commit(catalog: Catalog) -> None:
    new = [extent(stored(b"%06d" % n), offset=512 * n) for n in range(12_000)]
    with catalog.write() as connection:
        rp_id, [job_id] = begin(connection)
        commit(connection, rp_id, new_set(connection, job_id), new)
        ids = select(tables.versions.c.id).order_by(tables.versions.c.id)
        assert len(connection.execute(ids).all()) == 12_000
        pairs = (
            select(tables.objects.c.key, tables.extents.c.offset)
            .join(tables.versions, tables.versions.c.object_id == tables.objects.c.id)
            .join(tables.extents, tables.extents.c.version_id == tables.versions.c.id)
        )
        assert all(int(key) * 512 == offset for key, offset in connection.execute(pairs))
