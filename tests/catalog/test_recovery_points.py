import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import column, insert, select

from restore_lib.catalog import recovery_points as points
from restore_lib.catalog import stripes, tables
from restore_lib.catalog.engine import Catalog
from restore_lib.errors import InvalidTransition, LeaseLost, Refused
from restore_lib.model.states import JobState, RecoveryPointState
from tests.support.stripes import (
    AT,
    back_up,
    begin,
    extent,
    new_set,
    stored,
    tape_files,
)


def held_at(catalog: Catalog, rp_id: int) -> dict[bytes, int]:
    query = (
        select(tables.objects.c.key, tables.versions.c.size)
        .join(tables.versions, tables.versions.c.object_id == tables.objects.c.id)
        .where(points.live_at(rp_id))
    )
    with catalog.read() as connection:
        return {bytes(key): size for key, size in connection.execute(query)}


def test_each_recovery_point_holds_what_was_live_then(catalog: Catalog) -> None:
    with catalog.write() as connection:
        first, _ = back_up(connection, {b"a": b"1", b"b": b"22", b"c": b"333"})
        second, _ = back_up(connection, {b"a": b"1111"}, gone=[b"c"])
        third, _ = back_up(connection, {b"c": b"55555"})
    assert held_at(catalog, first) == {b"a": 1, b"b": 2, b"c": 3}
    assert held_at(catalog, second) == {b"a": 4, b"b": 2}
    assert held_at(catalog, third) == {b"a": 4, b"b": 2, b"c": 5}
    with catalog.read() as connection:
        assert points.counts_at(connection, "live", second) == (2, 6)
        assert points.counts_at(connection, "other", second) == (0, 0)
        assert points.changed_in(connection, second) == (1, 4, 1)
        assert points.changed_in(connection, first) == (3, 6, 0)


def test_live_versions_are_those_of_a_range_in_order_of_the_keys(catalog: Catalog) -> None:
    keys = [b"", b"a", b"a\n", b"a/b", b"b", b"\xc3\xa9", b"\xff\xfe"]
    with catalog.write() as connection:
        back_up(connection, dict.fromkeys(reversed(keys), b"x"))
    with catalog.read() as connection:
        everything = [v.key for v in points.live_versions(connection, "live", None, None)]
        some = [v.key for v in points.live_versions(connection, "live", b"a", b"b")]
        none = list(points.live_versions(connection, "other", None, None))
    assert everything == keys
    assert some == [b"a\n", b"a/b", b"b"]
    assert none == []


def test_a_cut_object_is_live_only_when_its_last_part_is_in(catalog: Catalog) -> None:
    source = stored(b"big", b"x" * 10)
    with catalog.write() as connection:
        rp_id, [job_id] = begin(connection)
        held = new_set(connection, job_id)
        started = stripes.commit_stripes(
            connection,
            rp_id=rp_id,
            store="live",
            tape_set=held.id,
            files=tape_files(held, 1),
            new=[extent(source, b"x" * 6, part=1, parts=2, object_sha256=None)],
            started={},
            at=AT,
        )
        assert list(points.live_versions(connection, "live", None, None)) == []
        assert points.changed_in(connection, rp_id) == (0, 0, 0)
        stripes.commit_stripes(
            connection,
            rp_id=rp_id,
            store="live",
            tape_set=held.id,
            files=tape_files(held, 2),
            new=[extent(source, b"x" * 4, part=2, parts=2, stripe=2, object_sha256="cd" * 32)],
            started=started,
            at=AT,
        )
        [live] = points.live_versions(connection, "live", None, None)
    assert (live.key, live.size) == (b"big", 10)


def test_what_came_and_went_within_one_backup_counts_as_neither(catalog: Catalog) -> None:
    with catalog.write() as connection:
        back_up(connection, {b"old": b"1"})
        rp_id, [job_id] = begin(connection)
        held = new_set(connection, job_id)
        [old] = points.live_versions(connection, "live", None, None)
        new = [
            extent(stored(b"old", b"22"), b"22", replaces=old.id),
            extent(stored(b"brief", b"333"), b"333", offset=9999),
        ]
        stripes.commit_stripes(
            connection,
            rp_id=rp_id,
            store="live",
            tape_set=held.id,
            files=tape_files(held, 1),
            new=new,
            started={},
            at=AT,
        )
        found = points.live_versions(connection, "live", None, None)
        points.mark_gone(connection, [version.id for version in found], rp_id)
        assert points.changed_in(connection, rp_id) == (0, 0, 1)
        assert points.counts_at(connection, "live", rp_id) == (0, 0)
        assert points.sets_written(connection, rp_id) == [held.id]


def test_a_recovery_point_is_committed_once(catalog: Catalog) -> None:
    with catalog.write() as connection:
        rp_id, _ = begin(connection)
        assert points.newest_committed(connection, "live") is None
        points.commit_recovery_point(connection, rp_id, AT, {"objects": 1})
        found = points.newest_committed(connection, "live")
        assert found is not None
        assert (found.id, found.state, found.summary) == (
            rp_id,
            RecoveryPointState.COMMITTED,
            {"objects": 1},
        )
    with pytest.raises(InvalidTransition), catalog.write() as connection:
        points.commit_recovery_point(connection, rp_id, AT, {})


def test_recovery_points_come_newest_first_by_store_and_state(catalog: Catalog) -> None:
    with catalog.write() as connection:
        first, _ = back_up(connection, {b"a": b"1"})
        second, _ = begin(connection)
        other = points.begin_recovery_point(connection, "silver", "other", AT)
        assert [p.id for p in points.recovery_points_of(connection)] == [other, second, first]
        assert [p.id for p in points.recovery_points_of(connection, "live")] == [second, first]
        opened = points.recovery_points_of(connection, "live", RecoveryPointState.OPEN)
        assert [p.id for p in opened] == [second]


def test_jobs_are_in_order_and_end_with_their_summary(catalog: Catalog) -> None:
    with catalog.write() as connection:
        rp_id, ids = begin(connection, [(None, b"\xff\x00"), (b"\xff\x00", None)])
        points.end_job(connection, ids[0], {"gone": 3})
        first, second = points.jobs_of(connection, rp_id)
    assert (first.after, first.until, first.state) == (None, b"\xff\x00", JobState.DONE)
    assert (second.after, second.until, second.state) == (b"\xff\x00", None, JobState.PLANNED)
    assert first.summary == {"gone": 3}


def test_only_the_latest_run_of_a_job_passes(catalog: Catalog) -> None:
    with catalog.write() as connection:
        _, [job_id] = begin(connection)
        first = points.begin_run(connection, job_id)
        points.check_run(connection, job_id, first, lock=True)
        second = points.begin_run(connection, job_id)
        points.check_run(connection, job_id, second)
        with pytest.raises(LeaseLost):
            points.check_run(connection, job_id, first)
        points.end_job(connection, job_id, {})
        with pytest.raises(LeaseLost):
            points.check_run(connection, job_id, second)


def test_what_is_unknown_is_refused(catalog: Catalog) -> None:
    with catalog.read() as connection:
        with pytest.raises(Refused, match="recovery point 7"):
            points.recovery_point(connection, 7)
        with pytest.raises(Refused, match="backup job 7"):
            points.job(connection, 7)


def test_two_backups_of_a_store_begin_one_after_the_other(catalog: Catalog) -> None:
    inside = threading.Event()
    go_on = threading.Event()
    seen: list[int] = []

    def first() -> None:
        with catalog.write() as connection:
            points.lock_store(connection, "live")
            inside.set()
            go_on.wait(30)
            begin(connection)

    def second() -> None:
        inside.wait(30)
        with catalog.write() as connection:
            points.lock_store(connection, "live")
            seen.append(len(points.recovery_points_of(connection, "live")))

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    inside.wait(30)
    threads[1].join(0.3)
    assert seen == []
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert seen == [1]


KEYS = st.binary(max_size=4) | st.lists(
    st.sampled_from([b"a", b"\xfe", b"\xff", b"\x00"]), max_size=4
).map(b"".join)


@given(prefix=KEYS, keys=st.lists(KEYS, unique=True, max_size=30))
def test_a_prefix_means_the_keys_that_begin_with_it(prefix: bytes, keys: list[bytes]) -> None:
    catalog = Catalog("sqlite://")
    try:
        with catalog.write() as connection:
            tables.objects.create(connection)
            if keys:
                rows = [{"store": "live", "key": key} for key in keys]
                connection.execute(insert(tables.objects), rows)
            query = select(tables.objects.c.key).where(points.prefix_range(column("key"), prefix))
            found = {bytes(key) for key in connection.execute(query).scalars()}
    finally:
        catalog.close()
    assert found == {key for key in keys if key.startswith(prefix)}
