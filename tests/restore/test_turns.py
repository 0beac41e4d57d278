from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from restore_lib.catalog.batches import Batch
from restore_lib.model.states import BatchKind, BatchState, Priority
from restore_lib.restore.turns import Bounds, Queue, choose, in_turn, mounts, staging_bytes

PLENTY = Bounds(batches=1000, mounts=0, seconds=1e9, staging=10**18, idle=False)


def batch(
    number: int,
    request: int = 1,
    *,
    seconds: float = 10.0,
    size: int = 5,
    volumes: tuple[str, ...] = ("A",),
    kind: BatchKind = BatchKind.READ,
) -> Batch:
    return Batch(
        number,
        request,
        None,
        kind,
        volumes[0],
        volumes,
        1,
        size,
        seconds,
        BatchState.PLANNED,
        0,
        None,
    )


def queue(
    request: int,
    count: int,
    *,
    priority: Priority = Priority.NORMAL,
    used: float = 0.0,
    room: int | None = None,
    seconds: float = 10.0,
) -> Queue:
    ready = [
        batch(100 * request + n, request, seconds=seconds, volumes=(f"{request}-{n}",))
        for n in range(count)
    ]
    return Queue(request, priority, used, room, ready)


def requests(chosen: list[Batch]) -> list[int]:
    return [one.request_id for one in chosen]


def test_a_higher_priority_comes_first() -> None:
    queues = [
        queue(1, 2, priority=Priority.BACKGROUND),
        queue(2, 2),
        queue(3, 2, priority=Priority.URGENT, used=1e6),
    ]
    assert requests(choose(queues, PLENTY)) == [3, 3, 2, 2, 1, 1]


def test_a_small_restore_is_not_stuck_behind_a_huge_one() -> None:
    queues = [queue(1, 500, used=90_000.0), queue(2, 3)]
    assert requests(choose(queues, replace(PLENTY, batches=5))) == [2, 2, 2, 1, 1]


def test_requests_that_used_the_same_take_turns() -> None:
    assert requests(choose([queue(1, 3), queue(2, 3)], PLENTY)) == [1, 2, 1, 2, 1, 2]
    free = [queue(1, 3, seconds=0.0), queue(2, 3, seconds=0.0)]
    assert requests(choose(free, PLENTY)) == [1, 2, 1, 2, 1, 2]


def test_turns_are_of_seconds_and_not_of_batches() -> None:
    chosen = choose([queue(1, 2, seconds=30.0), queue(2, 6, seconds=10.0)], PLENTY)
    assert requests(chosen) == [1, 2, 2, 2, 1, 2, 2, 2]


def test_no_more_is_given_out_than_the_drives_read_ahead() -> None:
    bounds = replace(PLENTY, seconds=25.0)
    assert len(choose([queue(1, 9)], bounds)) == 3
    assert choose([queue(1, 9)], replace(PLENTY, seconds=-1.0)) == []


def test_no_drive_stands_idle_because_a_batch_is_long() -> None:
    bounds = replace(PLENTY, seconds=25.0, mounts=4)
    assert len(choose([queue(1, 9, seconds=1e5)], bounds)) == 4


def test_a_request_has_no_more_at_once_than_it_has_room_for() -> None:
    assert requests(choose([queue(1, 9, room=2), queue(2, 3)], PLENTY)) == [1, 2, 1, 2, 2]
    assert choose([queue(1, 9, room=0)], PLENTY) == []


def test_one_mount_serves_all_requests() -> None:
    first = [batch(n, 1, volumes=(name,)) for n, name in enumerate("ABC", 10)]
    second = [batch(n, 2, volumes=(name,)) for n, name in enumerate("CABA", 20)]
    queues = [
        Queue(1, Priority.NORMAL, 0.0, None, first),
        Queue(2, Priority.BACKGROUND, 0.0, 2, second),
    ]
    one_mount = replace(PLENTY, seconds=5.0)
    assert [one.id for one in choose(queues, one_mount)] == [10, 21, 23]
    assert [one.id for one in choose(queues, replace(one_mount, batches=2))] == [10, 21]
    both = choose(queues, replace(PLENTY, seconds=35.0))
    assert [one.id for one in both] == [10, 21, 23, 11]


def gather(number: int, size: int) -> Batch:
    return batch(number, size=size, volumes=("A", "B"), kind=BatchKind.GATHER)


def test_what_the_staging_disk_has_no_room_for_waits() -> None:
    ready = [gather(1, 40), gather(2, 40), batch(3, size=1000), gather(4, 10)]
    queues = [Queue(1, Priority.NORMAL, 0.0, None, ready)]
    assert [staging_bytes(one) for one in ready] == [80, 80, 0, 20]
    assert [one.id for one in choose(queues, replace(PLENTY, staging=100))] == [1, 3, 4]
    assert [one.id for one in choose(queues, replace(PLENTY, staging=-5))] == [3]


def test_with_nothing_at_work_one_is_given_out_whatever_room_it_needs() -> None:
    queues = [Queue(1, Priority.NORMAL, 0.0, None, [gather(1, 40), gather(2, 40)])]
    assert choose(queues, replace(PLENTY, staging=10)) == []
    assert [one.id for one in choose(queues, replace(PLENTY, staging=10, idle=True))] == [1]


def test_batches_that_begin_side_by_side_want_different_volumes() -> None:
    claimed = [batch(n, volumes=(name,)) for n, name in enumerate("AABBC")]
    order = [one.volumes for one in in_turn(claimed, {1: Priority.NORMAL})]
    assert order == [("A",), ("B",), ("C",), ("A",), ("B",)]


def test_urgent_batches_begin_first_and_requests_take_turns() -> None:
    claimed = [
        batch(1, 1, volumes=("A",), seconds=90, size=1),
        batch(2, 1, volumes=("B",), seconds=80, size=9),
        batch(3, 2, volumes=("C",), seconds=1),
        batch(4, 3, volumes=("D",), seconds=1),
    ]
    priorities = {1: Priority.NORMAL, 2: Priority.NORMAL, 3: Priority.URGENT}
    assert [one.id for one in in_turn(claimed, priorities)] == [4, 3, 1, 2]


batch_lists = st.lists(
    st.tuples(
        st.sampled_from(list(BatchKind)),
        st.integers(0, 50),
        st.floats(0, 40),
        st.sampled_from(["A", "B", "C"]),
    ),
    max_size=12,
)


@given(
    asked=st.lists(
        st.tuples(
            st.sampled_from(list(Priority)),
            st.floats(0, 100),
            st.none() | st.integers(0, 5),
            batch_lists,
        ),
        max_size=5,
    ),
    bounds=st.builds(
        Bounds,
        st.integers(1, 20),
        st.integers(0, 6),
        st.floats(-10, 200),
        st.integers(-50, 200),
        st.booleans(),
    ),
)
def test_whatever_is_asked_for_the_bounds_hold(
    asked: list[tuple[Priority, float, int | None, list[tuple[BatchKind, int, float, str]]]],
    bounds: Bounds,
) -> None:
    queues = []
    for request, (priority, used, room, ready) in enumerate(asked, 1):
        made = [
            batch(100 * request + n, request, kind=kind, size=size, seconds=time, volumes=(name,))
            for n, (kind, size, time, name) in enumerate(ready)
        ]
        queues.append(Queue(request, priority, used, room, made))
    chosen = choose(queues, bounds)
    assert chosen == choose(queues, bounds)
    assert len({one.id for one in chosen}) == len(chosen) <= bounds.batches
    given_to = Counter(requests(chosen))
    for queue in queues:
        assert queue.room is None or given_to[queue.request_id] <= queue.room
    taken: dict[object, float] = {}
    for one in chosen:
        mount = one.volumes if one.kind is BatchKind.READ else one.id
        taken[mount] = taken.get(mount, 0.0) + one.estimate
    before_last = sum([*taken.values()][:-1])
    assert mounts(chosen) <= bounds.mounts or not chosen or before_last < bounds.seconds
    staged, spare = [staging_bytes(one) for one in chosen], max(bounds.staging, 0)
    if bounds.idle and staged:
        spare = max(spare - staged.pop(0), 0)
    assert sum(staged) <= spare
    possible = any(queue.ready and queue.room != 0 for queue in queues)
    if bounds.idle and possible and (bounds.seconds > 0 or bounds.mounts > 0):
        assert chosen
    order = in_turn(chosen, {queue.request_id: queue.priority for queue in queues})
    assert sorted(one.id for one in order) == sorted(one.id for one in chosen)
