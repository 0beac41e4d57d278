from datetime import timedelta

import pytest
from sqlalchemy import Connection

from restore_lib.catalog import batches, requests, waves
from restore_lib.catalog.batches import NewBatch
from restore_lib.catalog.engine import Catalog
from restore_lib.errors import InvalidTransition
from restore_lib.model.states import BatchKind, Overwrite, WaveState
from restore_lib.model.volume import Reason
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
    ids = batches.pending_without_version(connection, request_id)
    new = [NewBatch(BatchKind.ALTERNATE, None, (), (item,), 0, 1.0) for item in ids]
    batches.add_batches(connection, request_id, new)
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
