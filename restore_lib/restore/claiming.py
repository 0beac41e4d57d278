"""Waves: who runs which batches. A runner claims some, begins each, and settles what is left.

A wave is of one request; a runner may hold one of each of several requests. Its batches stay with
it until it settles, or until nobody has worked on them for a quarter of an hour.
"""

import shutil
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta

from sqlalchemy import Connection

from restore_lib.catalog import batches, requests, waves
from restore_lib.catalog.batches import Batch
from restore_lib.catalog.requests import Request
from restore_lib.catalog.volumes import volumes
from restore_lib.catalog.waves import Wave
from restore_lib.model.states import BatchState, RequestState
from restore_lib.model.volume import Custody
from restore_lib.restore.plan import readable
from restore_lib.restore.turns import Bounds, Queue, choose, in_turn, mounts, staging_bytes
from restore_lib.site import Site

ABANDONED_AFTER = timedelta(minutes=15)
AHEAD = timedelta(hours=1)
"""How much work for each drive is given out at most, so that a new request soon has its turn."""
_DEEP = 2
"""How many mounts for each drive are given out however long they take."""
_OPEN = [BatchState.PLANNED, BatchState.RUNNING]


def claim(site: Site, runner: str) -> list[int]:
    """Claim batches whose volumes are all here; return them in the order in which to begin them.

    At most ``restore.wave_batches``, no more than the drives read in AHEAD, and no more than the
    staging disk has room for. Requests take turns: by priority, then by what they had of the
    drives. What the runner has claimed before and not settled, as when it was killed, it gets
    again, and nothing else. Nothing of a paused request, and of one whose stores can't take more
    only as many as run at once.
    """
    with site.catalog.write() as connection:
        held = waves.open_waves(connection, runner)
        left = _open(connection, held)
        if not left:
            for wave in held:
                waves.settle_wave(connection, wave.id, site.clock.now())
            left = _claim(connection, site, runner)
        asked = {batch.request_id for batch in left}
        priorities = {one: requests.request(connection, one).priority for one in asked}
    return [batch.id for batch in in_turn(left, priorities)]


def settle(site: Site, runner: str) -> dict[str, int]:
    """End the waves of a runner, as ``settle_wave``; return their batches by state."""
    with site.catalog.read() as connection:
        held = waves.open_waves(connection, runner)
    counts: Counter[str] = Counter()
    for wave in held:
        counts.update(settle_wave(site, wave.id))
    return dict(counts)


def settle_wave(site: Site, wave_id: int, *, abandoned: bool = False) -> dict[str, int]:
    """End a wave: batches that did not end give their items back; return batches by state.

    That counts as a try of these items, but for batches of an ``abandoned`` wave that nobody began:
    they may have waited for a drive all the time. Batches that were put off, since a store or the
    staging disk could not take more, wait for another wave, for as long as it lasts.
    """
    with site.catalog.write() as connection:
        at = site.clock.now()
        for batch in batches.batches_of(connection, wave_id=wave_id, states=_OPEN):
            begun = batch.state is BatchState.RUNNING
            if not begun and batch.attempts:
                waves.give_back(connection, batch.id)
                continue
            end = BatchState.FAILED if begun or not abandoned else BatchState.CANCELLED
            why = batch.error or "its task ended without finishing it"
            batches.end_batch(connection, batch.id, end, at, why)
        waves.settle_wave(connection, wave_id, at)
        counts = Counter(
            str(batch.state) for batch in batches.batches_of(connection, wave_id=wave_id)
        )
    return dict(counts)


def abandoned_waves(site: Site) -> list[Wave]:
    """Return open waves that nobody has worked on for a quarter of an hour."""
    with site.catalog.read() as connection:
        return waves.untouched_waves(connection, site.clock.now() - ABANDONED_AFTER)


def held_by_others(site: Site, runner: str, request_ids: Collection[int]) -> list[str]:
    """Return the other runners that hold batches of these requests that have not ended."""
    with site.catalog.read() as connection:
        held = [
            wave
            for wave in waves.open_waves(connection)
            if wave.runner != runner and wave.request_id in request_ids
        ]
        return sorted({wave.runner for wave in held if _open(connection, [wave])})


def ready(connection: Connection, request_id: int) -> list[Batch]:
    """Return the batches of a request that are in no wave and whose volumes are all here."""
    unclaimed = batches.unclaimed(connection, request_id)
    wanted = {barcode for batch in unclaimed for barcode in batch.volumes}
    here = {
        volume.barcode
        for volume in volumes(connection, wanted, custody=[Custody.MOUNTABLE])
        if readable(volume)
    }
    return [batch for batch in unclaimed if here.issuperset(batch.volumes)]


def has_room(connection: Connection, site: Site) -> set[int]:
    """Return the active requests of which ``claim`` would take batches, were they here.

    None at all while half of what may be given out, or half a wave, is still open, and all drives
    have their work: what is claimed then would only wait, and a request that comes in between would
    wait behind it. The other half is what the drives read until the next wave begins.
    """
    active = requests.requests(connection, [RequestState.ACTIVE])
    at_work = _open(connection, waves.open_waves(connection))
    enough = mounts(at_work) >= _DEEP * site.config.library.drives
    half_a_wave = site.config.restore.wave_batches / 2
    if enough and (_seconds(at_work) > _ahead(site) / 2 or len(at_work) > half_a_wave):
        return set()
    return {request.id for request in active if _room(request, at_work) != 0}


def _claim(connection: Connection, site: Site, runner: str) -> list[Batch]:
    active = _lock(connection, requests.requests(connection, [RequestState.ACTIVE]))
    able = has_room(connection, site)
    at_work = _open(connection, waves.open_waves(connection))
    given = waves.given(connection, [request.id for request in active])
    queues = [
        Queue(
            request.id,
            request.priority,
            given[request.id],
            _room(request, at_work),
            ready(connection, request.id),
        )
        for request in active
        if request.id in able
    ]
    reserved = site.config.staging.reserve + sum(staging_bytes(batch) for batch in at_work)
    bounds = Bounds(
        batches=site.config.restore.wave_batches,
        mounts=_DEEP * site.config.library.drives - mounts(at_work),
        seconds=_ahead(site) - _seconds(at_work),
        staging=shutil.disk_usage(site.staging).free - reserved,
        idle=not at_work,
    )
    chosen = choose(queues, bounds)
    of_request: defaultdict[int, list[int]] = defaultdict(list)
    for batch in chosen:
        of_request[batch.request_id].append(batch.id)
    for request_id, ids in sorted(of_request.items()):
        waves.open_wave(connection, request_id, ids, runner, site.clock.now())
    return chosen


def _lock(connection: Connection, active: Iterable[Request]) -> list[Request]:
    """Lock requests, the oldest first, and return those that are still active, as they are now."""
    ids = sorted(request.id for request in active)
    for request_id in ids:
        requests.lock(connection, request_id)
    return [r for r in requests.requests(connection, [RequestState.ACTIVE]) if r.id in ids]


def _open(connection: Connection, held: Sequence[Wave]) -> list[Batch]:
    return [
        batch
        for wave in held
        for batch in batches.batches_of(connection, wave_id=wave.id, states=_OPEN)
    ]


def _room(request: Request, at_work: Iterable[Batch]) -> int | None:
    if request.at_once is None:
        return None
    return max(0, request.at_once - sum(batch.request_id == request.id for batch in at_work))


def _seconds(at_work: Iterable[Batch]) -> float:
    return sum(batch.estimate for batch in at_work)


def _ahead(site: Site) -> float:
    return AHEAD.total_seconds() * site.config.library.drives
