"""Execute: receive what came back, plan what is open, recall what is missing, run what is here.

``advance`` and the wave functions look at what is true in the catalog and do what is next; each may
be killed and run again. Airflow's tasks and the ``tapeflow`` command call the same ones.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from restore_lib.catalog import batches, offsite, requests, waves
from restore_lib.catalog.batches import Batch
from restore_lib.catalog.requests import Request
from restore_lib.catalog.volumes import volumes
from restore_lib.catalog.waves import Wave
from restore_lib.errors import TapeflowError
from restore_lib.model.states import BatchState, ItemState, RequestState
from restore_lib.model.volume import Custody, Reason
from restore_lib.restore.plan import readable
from restore_lib.restore.request import plan_pending
from restore_lib.site import Site
from restore_lib.vault.outbound import take_back
from restore_lib.vault.recalls import recall
from restore_lib.vault.receiving import needs_attention, receive

ABANDONED_AFTER = timedelta(minutes=15)


@dataclass
class Advance:
    """What a look at all active requests did, and what kept it from doing more."""

    received: dict[str, Any] = field(default_factory=dict)
    recalls: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    problems: list[TapeflowError] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "received": self.received,
            "recalls": self.recalls,
            "ended": self.ended,
            "problems": [str(problem) for problem in self.problems],
        }


def advance(site: Site, actor: str) -> Advance:
    """Do what can be done for every active request without reading a tape.

    A vault, courier or document that fails keeps nothing else waiting: what failed is among the
    ``problems`` and is tried again by the next call.
    """
    done = Advance()
    try:
        done.received = asdict(receive(site, actor))
    except TapeflowError as error:
        done.problems.append(error)
    for wave in abandoned_waves(site):
        settle_wave(site, wave.id, abandoned=True)
    for request in _active(site):
        with site.catalog.write() as connection:
            if not _holds(connection, request.id):
                continue
            _plan(connection, site, request)
        try:
            done.recalls.extend(_recall(site, request, actor))
        except TapeflowError as error:
            done.problems.append(error)
        if _end(site, request):
            done.ended.append(request.id)
    return done


def open_work(site: Site) -> frozenset[str]:
    """Return what ``advance`` or a wave would find to do, empty when there is nothing.

    That is a document, reads whose volumes are here, a volume to recall, something to plan anew, a
    request that has come to its end, or the wave of a runner that has died. Each has a name that
    stays the same while it waits, so that a watcher can tell new work from work that it has seen.
    """
    found = {f"wave {wave.id}" for wave in abandoned_waves(site)}
    if needs_attention(site):
        found.add("documents")
    with site.catalog.read() as connection:
        for request in requests.requests(connection, [RequestState.ACTIVE]):
            found.update(_open_work(connection, request.id))
    return frozenset(found)


def next_wave(site: Site, runner: str) -> Wave | None:
    """Claim the batches whose volumes are all here as a wave of ``runner``; None: there are none.

    A runner that was killed gets its wave again. At most ``restore.wave_batches`` batches.
    """
    limit = site.config.restore.wave_batches
    with site.catalog.write() as connection:
        held = waves.open_waves(connection, runner)
        if held:
            return held[0]
        for request in requests.requests(connection, [RequestState.ACTIVE]):
            if not _holds(connection, request.id):
                continue
            ready = [batch.id for batch in _ready(connection, request.id)[:limit]]
            if ready:
                at = site.clock.now()
                wave_id = waves.open_wave(connection, request.id, ready, runner, at)
                return waves.wave(connection, wave_id)
    return None


def wave_batches(site: Site, wave_id: int) -> list[int]:
    """Return the batches of a wave that have not ended, in an order to begin them in.

    Every volume's first batch comes before any volume's second: what runs side by side then wants
    different volumes.
    """
    with site.catalog.read() as connection:
        left = batches.batches_of(
            connection, wave_id=wave_id, states=[BatchState.PLANNED, BatchState.RUNNING]
        )
    earlier: Counter[tuple[str, ...]] = Counter()
    turns: list[tuple[int, int]] = []
    for batch in left:
        turns.append((earlier[batch.volumes], batch.id))
        earlier[batch.volumes] += 1
    return [batch_id for _, batch_id in sorted(turns)]


def settle_wave(site: Site, wave_id: int, *, abandoned: bool = False) -> dict[str, int]:
    """End a wave: batches that did not end give their items back; return batches by state.

    That counts as a try of these items, but for batches of an ``abandoned`` wave that nobody began:
    they may have waited for a drive all the time.
    """
    with site.catalog.write() as connection:
        at = site.clock.now()
        for batch in batches.batches_of(
            connection, wave_id=wave_id, states=[BatchState.PLANNED, BatchState.RUNNING]
        ):
            untried = abandoned and batch.state is BatchState.PLANNED
            end = BatchState.CANCELLED if untried else BatchState.FAILED
            why = batch.error or "its task ended without finishing it"
            batches.end_batch(connection, batch.id, end, at, why)
        waves.settle_wave(connection, wave_id, at)
        counts: dict[str, int] = {}
        for batch in batches.batches_of(connection, wave_id=wave_id):
            counts[batch.state] = counts.get(batch.state, 0) + 1
        return counts


def abandoned_waves(site: Site) -> list[Wave]:
    """Return open waves that nobody has worked on for a quarter of an hour."""
    with site.catalog.read() as connection:
        return waves.untouched_waves(connection, site.clock.now() - ABANDONED_AFTER)


def is_ended(site: Site, request_id: int) -> bool:
    """Whether every object of a request has its end, or the request was cancelled."""
    with site.catalog.read() as connection:
        state = requests.request(connection, request_id).state
    return state in {RequestState.ENDED, RequestState.CANCELLED}


def _active(site: Site) -> list[Request]:
    with site.catalog.read() as connection:
        return requests.requests(connection, [RequestState.ACTIVE])


def _holds(connection: Connection, request_id: int) -> bool:
    """Lock a request, and tell whether it is still active."""
    requests.lock(connection, request_id)
    return requests.request(connection, request_id).state is RequestState.ACTIVE


def _open_work(connection: Connection, request_id: int) -> Iterator[str]:
    unclaimed = batches.unclaimed(connection, request_id)
    wanted = {barcode for batch in unclaimed for barcode in batch.volumes}
    here: set[str] = set()
    for volume in volumes(connection, wanted):
        if not readable(volume) or volume.custody is Custody.VAULT:
            yield f"volume {volume.barcode} of request {request_id}"
        elif volume.custody is Custody.MOUNTABLE:
            here.add(volume.barcode)
    for barcode in offsite.left_behind(connection, wanted):
        yield f"volume {barcode} of request {request_id}"
    yield from (f"batch {batch.id}" for batch in unclaimed if here.issuperset(batch.volumes))
    if not unclaimed:
        counts = requests.count_items(connection, request_id)
        if counts[ItemState.PENDING] or not requests.unfinished(connection, request_id):
            yield f"request {request_id}"


def _plan(connection: Connection, site: Site, request: Request) -> None:
    """Drain batches whose volumes can't be read any more, and plan everything that is pending."""
    at = site.clock.now()
    waiting_batches = batches.unclaimed(connection, request.id)
    wanted = {barcode for batch in waiting_batches for barcode in batch.volumes}
    given_up = {v.barcode for v in volumes(connection, wanted) if not readable(v)}
    for batch in waiting_batches:
        if given_up.intersection(batch.volumes):
            batches.end_batch(
                connection, batch.id, BatchState.CANCELLED, at, "a volume of it can't be read"
            )
    requests.give_up_tired(connection, request.id, site.config.restore.rounds, at)
    plan_pending(connection, site, request.id)


def _recall(site: Site, request: Request, actor: str) -> list[int]:
    """Ask for the volumes that are away, and take back those that a truck has left on the dock.

    A volume that is asked for already is not asked for twice.
    """
    with site.catalog.read() as connection:
        open_batches = batches.unclaimed(connection, request.id)
        direct = {b for batch in open_batches if not batch.lost for b in batch.volumes}
        redundancy = {b for batch in open_batches if batch.lost for b in batch.volumes} - direct
        away = {
            volume.barcode
            for volume in volumes(connection, direct | redundancy)
            if volume.custody is Custody.VAULT
        }
        left = offsite.left_behind(connection, direct | redundancy)
    take_back(site, left, actor)
    sent: list[int] = []
    for barcodes, reason in ((direct, request.reason), (redundancy, Reason.REDUNDANCY)):
        if wanted := sorted(barcodes & away):
            sent += recall(site, wanted, reason=reason, request_id=request.id, actor=actor)
    return sent


def _ready(connection: Connection, request_id: int) -> list[Batch]:
    unclaimed = batches.unclaimed(connection, request_id)
    wanted = {barcode for batch in unclaimed for barcode in batch.volumes}
    here = {
        volume.barcode
        for volume in volumes(connection, wanted, custody=[Custody.MOUNTABLE])
        if readable(volume)
    }
    return [batch for batch in unclaimed if here.issuperset(batch.volumes)]


def _end(site: Site, request: Request) -> bool:
    with site.catalog.write() as connection:
        if not _holds(connection, request.id) or requests.unfinished(connection, request.id):
            return False
        requests.change_request(
            connection,
            request.id,
            RequestState.ACTIVE,
            RequestState.ENDED,
            finished_at=site.clock.now(),
        )
        return True
