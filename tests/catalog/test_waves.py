from datetime import timedelta

import pytest
from sqlalchemy import Connection, update

from restore_lib.catalog import batches, requests, tables, waves
from restore_lib.catalog.engine import Catalog
from restore_lib.errors import InvalidTransition
from restore_lib.model.states import BatchKind, BatchState, Overwrite, WaveState
from restore_lib.model.volume import Reason
from tests.support.plans import PlannedBatch, add_batches, pending
from tests.support.restores import History
from tests.support.stripes import AT


def planned(connection: Connection, count: int) -> tuple[int, list[int]]:
    values = {
        "store": "live",
        "target": "out",
        "overwrite": Overwrite.NEVER,
        "source": {},
        "reason": Reason.RESTORE,
        "actor": "ann",
        "created_at": AT,
    }
    request_id = requests.create_request(connection, values)
    names = [b"%d" % number for number in range(count)]
    requests.add_items_named(connection, request_id, "live", 0, names, alternates=True)
    ids = pending(connection, request_id)
    new = [PlannedBatch(BatchKind.ALTERNATE, None, (), (item,), 0, 1.0) for item in ids]
    add_batches(connection, request_id, new)
    return request_id, [b.id for b in batches.batches_of(connection, request_id=request_id)]


def test_a_wave_claims_its_batches(catalog: Catalog) -> None:
    with catalog.write() as connection:
        request_id, ids = planned(connection, 3)
        first = waves.open_wave(connection, request_id, ids[:2], "one", AT)
        assert [b.id for b in batches.unclaimed(connection, request_id)] == ids[2:]
        second = waves.open_wave(connection, request_id, ids[2:], "two", AT)
        assert [b.id for b in batches.batches_of(connection, wave_id=first)] == ids[:2]
        assert [wave.number for wave in waves.open_waves(connection)] == [1, 2]
        assert [wave.id for wave in waves.open_waves(connection, "two")] == [second]


def test_a_batch_is_in_one_wave_only(catalog: Catalog) -> None:
    with catalog.write() as connection:
        request_id, ids = planned(connection, 2)
        waves.open_wave(connection, request_id, ids[:1], "one", AT)
    with pytest.raises(InvalidTransition), catalog.write() as connection:
        waves.open_wave(connection, request_id, ids, "two", AT)
    with catalog.read() as connection:
        assert len(waves.open_waves(connection)) == 1
        assert [b.id for b in batches.unclaimed(connection, request_id)] == ids[1:]


def test_a_wave_that_nobody_touches_is_found(catalog: Catalog) -> None:
    later = AT + timedelta(minutes=20)
    with catalog.write() as connection:
        request_id, ids = planned(connection, 2)
        dead = waves.open_wave(connection, request_id, ids[:1], "one", AT)
        alive = waves.open_wave(connection, request_id, ids[1:], "two", AT)
        waves.touch_wave(connection, alive, later)
        since = later - timedelta(minutes=15)
        assert [wave.id for wave in waves.untouched_waves(connection, since)] == [dead]
        waves.settle_wave(connection, dead, later)
        assert waves.untouched_waves(connection, since) == []
        assert waves.wave(connection, dead).state is WaveState.SETTLED


def begun(connection: Connection, batch_ids: list[int]) -> None:
    for batch_id in batch_ids:
        batches.begin_batch(connection, batch_id, AT)


def test_what_a_request_was_given_is_counted_from_its_waves(catalog: Catalog) -> None:
    with catalog.write() as connection:
        request_id, ids = planned(connection, 4)
        other, _ = planned(connection, 1)
        waves.open_wave(connection, request_id, ids[:3], "one", AT)
        begun(connection, ids[:2])
        batches.end_batch(connection, ids[0], BatchState.DONE, AT, None)
        assert waves.given(connection, [request_id, other]) == {request_id: 3.0, other: 0.0}
        assert waves.given(connection, []) == {}


def test_what_a_runner_has_not_begun_is_found_by_its_volume(catalog: Catalog) -> None:
    def next_of(runner: str) -> int | None:
        return waves.planned_of(connection, runner, BatchKind.READ, "V")

    with catalog.write() as connection:
        History(connection).volume("V")
        request_id, ids = planned(connection, 3)
        connection.execute(
            update(tables.batches)
            .where(tables.batches.c.id.in_(ids[:2]))
            .values(kind=BatchKind.READ, barcode="V", volumes=["V"])
        )
        assert next_of("one") is None
        waves.open_wave(connection, request_id, ids, "one", AT)
        assert [next_of("one"), next_of("two")] == [ids[0], None]
        begun(connection, ids[:1])
        assert next_of("one") == ids[1]
        begun(connection, ids[1:2])
        assert next_of("one") is None


def test_a_wave_is_of_its_runner_until_it_is_settled(catalog: Catalog) -> None:
    with catalog.write() as connection:
        request_id, ids = planned(connection, 1)
        wave_id = waves.open_wave(connection, request_id, ids, "one", AT)
        assert waves.is_of(connection, wave_id, "one")
        assert not waves.is_of(connection, wave_id, "two")
        assert not waves.is_of(connection, None, "one")
        waves.settle_wave(connection, wave_id, AT)
        assert not waves.is_of(connection, wave_id, "one")


def test_what_is_given_back_waits_for_another_wave(catalog: Catalog) -> None:
    with catalog.write() as connection:
        request_id, ids = planned(connection, 4)
        waves.open_wave(connection, request_id, ids, "one", AT)
        begun(connection, ids[:2])
        batches.end_batch(connection, ids[0], BatchState.DONE, AT, None)
        assert waves.give_back_planned(connection, request_id) == 2
        assert [b.id for b in batches.unclaimed(connection, request_id)] == ids[2:]
        for batch_id in ids[:2]:
            waves.give_back(connection, batch_id)
        assert [b.id for b in batches.unclaimed(connection, request_id)] == ids[1:]
        assert batches.batch(connection, ids[0]).state is BatchState.DONE


def test_a_request_is_slowed_down_by_halves_and_sped_up_by_ones(catalog: Catalog) -> None:
    def at_once(connection: Connection) -> int | None:
        return requests.request(connection, request_id).at_once

    with catalog.write() as connection:
        request_id, ids = planned(connection, 9)
        waves.speed_up(connection, request_id, 3)
        assert at_once(connection) is None
        begun(connection, ids[:8])
        assert waves.slow_down(connection, request_id, ids[0]) == 4
        assert batches.batch(connection, ids[0]).state is BatchState.PLANNED
        assert waves.running(connection, request_id) == 7
        assert [waves.slow_down(connection, request_id, one) for one in ids[1:4]] == [2, 1, 1]
        seen = []
        for _ in range(3):
            waves.speed_up(connection, request_id, 3)
            seen.append(at_once(connection))
        assert seen == [2, 3, None]
