from typing import Any

import pytest
from sqlalchemy import Connection, select

from restore_lib.catalog import batches, requests, stripes, tables, waves
from restore_lib.catalog.batches import Batch
from restore_lib.catalog.engine import Catalog
from restore_lib.errors import Refused
from restore_lib.model.states import BatchKind, BatchState, ItemState, Overwrite
from restore_lib.model.volume import Reason
from tests.support.plans import PlannedBatch, add_batches, pending
from tests.support.stripes import AT, back_up, begin, extent, new_set, stored, tape_files


def ask(connection: Connection, rp_id: int) -> int:
    values = {
        "store": "live",
        "target": "out",
        "overwrite": Overwrite.NEVER,
        "source": {},
        "rp_id": rp_id,
        "reason": Reason.RESTORE,
        "actor": "ann",
        "created_at": AT,
    }
    request_id = requests.create_request(connection, values)
    requests.add_items_at(connection, request_id, "live", rp_id, b"")
    return request_id


def states(connection: Connection, request_id: int) -> dict[bytes, tuple[str, int]]:
    query = select(tables.items).where(tables.items.c.request_id == request_id)
    return {bytes(row.key): (row.state, row.attempts) for row in connection.execute(query)}


def plan(connection: Connection, request_id: int) -> list[Batch]:
    """Put the items of each volume into a batch."""
    by_volume: dict[str, list[int]] = {}
    query = (
        select(tables.items.c.id, tables.tape_files.c.barcode)
        .join(tables.extents, tables.extents.c.version_id == tables.items.c.version_id)
        .join(tables.tape_files, tables.extent_in_tape_file)
        .where(tables.items.c.request_id == request_id)
        .order_by(tables.tape_files.c.barcode, tables.extents.c.offset)
    )
    for item_id, barcode in connection.execute(query):
        by_volume.setdefault(barcode, []).append(item_id)
    add_batches(
        connection,
        request_id,
        [
            PlannedBatch(BatchKind.READ, barcode, (barcode,), tuple(ids), 10, 1.5)
            for barcode, ids in by_volume.items()
        ],
    )
    return batches.batches_of(connection, request_id=request_id)


def test_batches_hold_their_items_with_all_that_checks_them(catalog: Catalog) -> None:
    with catalog.write() as connection:
        rp_id, held = back_up(connection, {b"a": b"1", b"b": b"22", b"c": b"333"})
        request_id = ask(connection, rp_id)
        first, second = plan(connection, request_id)
        assert (first.kind, first.volumes, first.objects) == (
            BatchKind.READ,
            (held.barcodes[0],),
            2,
        )
        assert not first.lost
        [a, c] = batches.batch_items(connection, first.id)
        [b] = batches.batch_items(connection, second.id)
    assert [item.key for item in (a, b, c)] == [b"a", b"b", b"c"]
    assert (b.size, b.modified_at, b.attempts, len(b.extents)) == (2, AT, 0, 1)
    assert (b.extents[0].barcode, b.extents[0].tape_set, b.extents[0].size) == (
        held.barcodes[1],
        held.id,
        2,
    )
    assert b.sha256 == b.extents[0].sha256


def test_the_parts_of_a_cut_object_come_in_order(catalog: Catalog) -> None:
    source = stored(b"big", b"x" * 30)
    with catalog.write() as connection:
        rp_id, [job_id] = begin(connection)
        held = new_set(connection, job_id)
        parts = [
            extent(
                source,
                b"x" * 10,
                part=part,
                parts=3,
                position=part % 2,
                stripe=1,
                offset=4000 - part,
                object_sha256="cd" * 32 if part == 3 else None,
            )
            for part in (1, 2, 3)
        ]
        stripes.commit_stripes(
            connection,
            rp_id=rp_id,
            store="live",
            tape_set=held.id,
            files=tape_files(held, 1),
            new=parts,
            started={},
            at=AT,
        )
        request_id = ask(connection, rp_id)
        [wanted] = pending(connection, request_id)
        gather = PlannedBatch(BatchKind.GATHER, None, held.barcodes[:2], (wanted,), 30, 1.0)
        add_batches(connection, request_id, [gather])
        [batch] = batches.batches_of(connection, request_id=request_id)
        [item] = batches.batch_items(connection, batch.id)
    assert [part.part for part in item.extents] == [1, 2, 3]
    assert (item.size, item.sha256) == (30, "cd" * 32)


def test_a_batch_begins_and_ends_once(catalog: Catalog) -> None:
    with catalog.write() as connection:
        rp_id, _ = back_up(connection, {b"a": b"1", b"b": b"2", b"c": b"3"})
        request_id = ask(connection, rp_id)
        first, second = plan(connection, request_id)
        assert batches.begin_batch(connection, first.id, AT).state is BatchState.RUNNING
        assert batches.begin_batch(connection, first.id, AT).attempts == 2
        batches.end_batch(connection, first.id, BatchState.FAILED, AT, "broken")
        batches.end_batch(connection, first.id, BatchState.DONE, AT, None)
        ended = batches.begin_batch(connection, first.id, AT)
        assert (ended.state, ended.error, ended.attempts) == (BatchState.FAILED, "broken", 2)
        batches.end_batch(connection, second.id, BatchState.CANCELLED, AT, "drained")
        assert states(connection, request_id) == {
            b"a": (ItemState.PENDING, 1),
            b"b": (ItemState.PENDING, 0),
            b"c": (ItemState.PENDING, 1),
        }
        assert batches.unclaimed(connection, request_id) == []


def test_unclaimed_batches_are_found_by_the_volumes_that_they_read(catalog: Catalog) -> None:
    with catalog.write() as connection:
        rp_id, held = back_up(connection, {b"a": b"1", b"b": b"22", b"c": b"333"})
        request_id = ask(connection, rp_id)
        one, two = held.barcodes[:2]
        new = [
            PlannedBatch(BatchKind.READ, volumes[0], volumes, (item,), 1, 1.0)
            for volumes, item in zip(
                [(one,), (two, one), (one,)], pending(connection, request_id), strict=True
            )
        ]
        add_batches(connection, request_id, new)
        first, second, third = (b.id for b in batches.unclaimed(connection, request_id))
        found = batches.unclaimed_by_volumes(connection, request_id)
        assert found == {(one,): [first, third], (two, one): [second]}
        waves.open_wave(connection, request_id, [first], "runner", AT)
        batches.end_batch(connection, second, BatchState.CANCELLED, AT, "broken")
        assert batches.unclaimed_by_volumes(connection, request_id) == {(one,): [third]}


def test_reads_that_are_claimed_and_not_begun_wait_for_their_volume(catalog: Catalog) -> None:
    with catalog.write() as connection:
        rp_id, held = back_up(connection, dict.fromkeys((b"a", b"b", b"c", b"d", b"e"), b"1"))
        request_id = ask(connection, rp_id)
        one, two, three = held.barcodes[:3]
        new = [
            PlannedBatch(kind, volumes[0], volumes, (item,), 1, seconds)
            for kind, volumes, seconds, item in zip(
                [BatchKind.READ] * 4 + [BatchKind.GATHER],
                [(one,), (one,), (two,), (three,), (one, two)],
                [1.0, 2.0, 4.0, 8.0, 16.0],
                pending(connection, request_id),
                strict=True,
            )
        ]
        add_batches(connection, request_id, new)
        ids = [b.id for b in batches.unclaimed(connection, request_id)]
        assert batches.waiting_reads(connection, held.barcodes) == {}
        waves.open_wave(connection, request_id, [ids[n] for n in (0, 1, 2, 4)], "runner", AT)
        batches.begin_batch(connection, ids[2], AT)
        assert batches.waiting_reads(connection, held.barcodes) == {one: 3.0}
        assert batches.waiting_reads(connection, [two]) == {}


def test_ended_items_stay_when_their_batch_fails(catalog: Catalog) -> None:
    with catalog.write() as connection:
        rp_id, _ = back_up(connection, {b"a": b"1", b"c": b"3"}, k=1)
        request_id = ask(connection, rp_id)
        [batch] = plan(connection, request_id)
        [a, _] = batches.batch_items(connection, batch.id)
        done = [requests.Outcome(a.id, ItemState.RESTORED)]
        requests.settle_items(connection, batch.id, done, AT)
        batches.end_batch(connection, batch.id, BatchState.FAILED, AT, "broken")
        found = states(connection, request_id)
        assert batches.batch_items(connection, batch.id) == []
    assert (found[b"a"][0], found[b"c"][0]) == (ItemState.RESTORED, ItemState.PENDING)


def test_stripe_files_and_geometry_tell_where_each_position_lies(catalog: Catalog) -> None:
    with catalog.write() as connection:
        _, held = back_up(connection, {b"a": b"1"}, k=2, m=2)
        assert batches.geometry(connection, held.id) == (2, 2, 4096)
        files = batches.stripe_files(connection, held.id, {1, 5})
    expected: dict[tuple[int, int], Any] = {
        (1, position): (barcode, 10) for position, barcode in enumerate(held.barcodes)
    }
    assert files == expected


def test_an_unknown_batch_is_refused(catalog: Catalog) -> None:
    with pytest.raises(Refused, match="batch 5"), catalog.read() as connection:
        batches.batch(connection, 5)
