"""Execute: receive what came back, plan what is open, recall what is missing, run what is here.

``advance`` looks at what is true in the catalog and does what is next; it may be killed and run
again. What is here is read in the waves of ``restore_lib.restore.claiming``. Airflow and the
``tapeflow`` command call the same functions.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection

from restore_lib.catalog import batches, offsite, requests
from restore_lib.catalog.requests import Request
from restore_lib.catalog.volumes import volumes
from restore_lib.errors import TapeflowError
from restore_lib.model.states import BatchState, ItemState, RequestState
from restore_lib.model.volume import Custody, Reason
from restore_lib.restore.claiming import abandoned_waves, has_room, settle_wave
from restore_lib.restore.plan import readable
from restore_lib.restore.planning import plan_pending
from restore_lib.restore.redundancy import spares_of
from restore_lib.site import Site
from restore_lib.vault.outbound import take_back
from restore_lib.vault.recalls import recall
from restore_lib.vault.receiving import needs_attention, receive


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

    That is a document, reads whose volumes are here and that would be claimed, a volume to recall,
    something to plan anew, a request that has come to its end, or the wave of a runner that has
    died. Each has a name that stays the same while it waits, so that a watcher can tell new work
    from work that it has seen.
    """
    found = {f"wave {wave.id}" for wave in abandoned_waves(site)}
    if needs_attention(site):
        found.add("documents")
    with site.catalog.read() as connection:
        able = has_room(connection, site)
        for request in requests.requests(connection, [RequestState.ACTIVE]):
            found.update(_open_work(connection, request.id, reads=request.id in able))
    return frozenset(found)


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


def _open_work(connection: Connection, request_id: int, *, reads: bool) -> Iterator[str]:
    unclaimed = batches.unclaimed_by_volumes(connection, request_id)
    wanted = {barcode for barcodes in unclaimed for barcode in barcodes}
    here: set[str] = set()
    for volume in volumes(connection, wanted):
        if not readable(volume) or volume.custody is Custody.VAULT:
            yield f"volume {volume.barcode} of request {request_id}"
        elif volume.custody is Custody.MOUNTABLE:
            here.add(volume.barcode)
    for barcode in offsite.left_behind(connection, wanted):
        yield f"volume {barcode} of request {request_id}"
    if reads:
        for barcodes, ids in unclaimed.items():
            if here.issuperset(barcodes):
                yield from (f"batch {batch_id}" for batch_id in ids)
    if not unclaimed:
        counts = requests.count_items(connection, request_id)
        if counts[ItemState.PENDING] or not requests.unfinished(connection, request_id):
            yield f"request {request_id}"


def _plan(connection: Connection, site: Site, request: Request) -> None:
    """Drain batches whose volumes can't be read any more, and plan everything that is pending."""
    at = site.clock.now()
    unclaimed = batches.unclaimed_by_volumes(connection, request.id)
    wanted = {barcode for barcodes in unclaimed for barcode in barcodes}
    given_up = {v.barcode for v in volumes(connection, wanted) if not readable(v)}
    for barcodes, ids in unclaimed.items():
        if given_up.intersection(barcodes):
            for batch_id in ids:
                batches.end_batch(
                    connection, batch_id, BatchState.CANCELLED, at, "a volume of it can't be read"
                )
    requests.give_up_tired(connection, request.id, site.config.restore.rounds, at)
    plan_pending(connection, site, request.id)


def _recall(site: Site, request: Request, actor: str) -> list[int]:
    """Ask for the volumes that are away, and take back those that a truck has left on the dock.

    While some are away, those that the plan takes along in case one is bad come with them. A volume
    that is asked for already is not asked for twice.
    """
    with site.catalog.read() as connection:
        open_batches = batches.unclaimed(connection, request.id)
        direct = {b for batch in open_batches if not batch.lost for b in batch.volumes}
        redundancy = {b for batch in open_batches if batch.lost for b in batch.volumes} - direct
        known = volumes(connection, direct | redundancy)
        if any(volume.custody is not Custody.MOUNTABLE for volume in known):
            along = [v for v in volumes(connection, spares_of(request)) if readable(v)]
            redundancy |= {volume.barcode for volume in along} - direct
            known += along
        away = {volume.barcode for volume in known if volume.custody is Custody.VAULT}
        left = offsite.left_behind(connection, direct | redundancy)
    take_back(site, left, actor)
    sent: list[int] = []
    for barcodes, reason in ((direct, request.reason), (redundancy, Reason.REDUNDANCY)):
        if wanted := sorted(barcodes & away):
            sent += recall(site, wanted, reason=reason, request_id=request.id, actor=actor)
    return sent


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
