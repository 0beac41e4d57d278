"""Whose batch is next: by priority, then by least use of the drives, as far as there is room.

Pure: it decides over batches whose volumes are all here, and does nothing.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from restore_lib.catalog.batches import Batch
from restore_lib.model.states import BatchKind, Priority

_RANKS = {priority: rank for rank, priority in enumerate(Priority)}


@dataclass(frozen=True, slots=True)
class Queue:
    """What one request could have read now, in the order of its plan.

    ``used`` are the drive seconds that were given to it so far; ``room`` is how many batches more
    it may have at once, None where nothing bounds them.
    """

    request_id: int
    priority: Priority
    used: float
    room: int | None
    ready: Sequence[Batch]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may be given out: batches, drive seconds, and bytes of the staging disk.

    So many ``mounts`` are given out however long they take, so that no drive stands idle. ``idle``
    says that nothing is at work: then one batch is given out whatever room it needs, so that what
    has too little says so instead of waiting for ever.
    """

    batches: int
    mounts: int
    seconds: float
    staging: int
    idle: bool


def staging_bytes(batch: Batch) -> int:
    """Return what a batch puts on the staging disk: all that it gathers, or next to nothing."""
    return batch.size * len(batch.volumes) if batch.kind is BatchKind.GATHER else 0


def mounts(given_out: Iterable[Batch]) -> int:
    """Return how many mounts batches take: one for all that is read of one volume."""
    return len({b.volumes if b.kind is BatchKind.READ else b.id for b in given_out})


def choose(queues: Iterable[Queue], bounds: Bounds) -> list[Batch]:
    """Return the batches that are given out now, at most what ``bounds`` allow.

    Requests of a higher priority come first. Among those of one priority, each batch goes to the
    one that has used the least seconds, counting what it is given here; where these are the same,
    to the one that was given the fewest batches, then to the oldest. What any request reads of a
    volume comes along with the first batch of it, for one mount to serve all, even where that takes
    longer than the bound.
    """
    return _Choice(queues, bounds).made()


class _Choice:
    def __init__(self, queues: Iterable[Queue], bounds: Bounds) -> None:
        self._queues = {queue.request_id: queue for queue in queues}
        self._bounds = bounds
        self._seconds, self._staging = bounds.seconds, bounds.staging
        self._used = {number: queue.used for number, queue in self._queues.items()}
        self._given: Counter[int] = Counter()
        self._seen: Counter[int] = Counter()
        self._chosen: dict[int, Batch] = {}
        self._reads: defaultdict[str, list[Batch]] = defaultdict(list)
        for queue in self._queues.values():
            for batch in queue.ready:
                if batch.kind is BatchKind.READ:
                    self._reads[batch.volumes[0]].append(batch)

    def made(self) -> list[Batch]:
        asking = [self._turn(number) for number in self._queues]
        heapq.heapify(asking)
        while asking and self._goes_on():
            turn = heapq.heappop(asking)
            number = turn[-1]
            if turn == self._turn(number):
                batch = self._next(self._queues[number])
                if batch is None:
                    continue
                self._take(batch)
            heapq.heappush(asking, self._turn(number))
        return list(self._chosen.values())

    def _turn(self, number: int) -> tuple[int, float, int, int]:
        rank = _RANKS[self._queues[number].priority]
        return rank, self._used[number], self._given[number], number

    def _goes_on(self) -> bool:
        if len(self._chosen) >= self._bounds.batches:
            return False
        return self._seconds > 0 or mounts(self._chosen.values()) < self._bounds.mounts

    def _has_room(self, batch: Batch) -> bool:
        room = self._queues[batch.request_id].room
        return room is None or self._given[batch.request_id] < room

    def _next(self, queue: Queue) -> Batch | None:
        """Return the request's next batch that there is room for; None: there is none."""
        while (place := self._seen[queue.request_id]) < len(queue.ready):
            batch = queue.ready[place]
            if not self._has_room(batch):
                return None
            self._seen[queue.request_id] += 1
            whatever = self._bounds.idle and not self._chosen
            fits = whatever or staging_bytes(batch) <= max(self._staging, 0)
            if fits and batch.id not in self._chosen:
                return batch
        return None

    def _take(self, batch: Batch) -> None:
        together = self._reads[batch.volumes[0]] if batch.kind is BatchKind.READ else []
        for one in [batch, *together]:
            full = len(self._chosen) >= self._bounds.batches
            if not full and one.id not in self._chosen and self._has_room(one):
                self._chosen[one.id] = one
                self._given[one.request_id] += 1
                self._used[one.request_id] += one.estimate
                self._seconds -= one.estimate
                self._staging -= staging_bytes(one)


def in_turn(claimed: Collection[Batch], priorities: Mapping[int, Priority]) -> list[Batch]:
    """Return batches in the order in which to begin them.

    Urgent ones come first. Every volume's first batch comes before any volume's second: what runs
    side by side then wants different volumes. Requests take turns, the one with the fewest batches
    first, then the newest; of one request, the one that takes longest comes first.
    """
    count = Counter(batch.request_id for batch in claimed)
    begun: Counter[int] = Counter()
    turns: list[tuple[int, int, int, int, Batch]] = []
    for batch in sorted(claimed, key=lambda batch: (-batch.estimate, batch.id)):
        of = batch.request_id
        turns.append((_RANKS[priorities[of]], begun[of], count[of], -of, batch))
        begun[of] += 1
    mounted: Counter[tuple[str, ...]] = Counter()
    order: list[tuple[int, int, int, Batch]] = []
    for place, (rank, *_, batch) in enumerate(sorted(turns, key=lambda turn: turn[:4])):
        order.append((rank, mounted[batch.volumes], place, batch))
        mounted[batch.volumes] += 1
    return [batch for *_, batch in sorted(order, key=lambda turn: turn[:3])]
