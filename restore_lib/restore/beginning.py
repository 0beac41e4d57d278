"""Begin a batch, unless it is not to be run now; and find those that want the same mount."""

from dataclasses import dataclass

from sqlalchemy import Connection

from restore_lib.catalog import batches, repacks, requests, waves
from restore_lib.catalog.batches import Batch, BatchItem
from restore_lib.catalog.leases import CatalogLeases
from restore_lib.catalog.requests import Request
from restore_lib.errors import DriveBusy, MediumError
from restore_lib.model.states import BatchKind, BatchState, RequestState
from restore_lib.site import Site


@dataclass(frozen=True, slots=True)
class Begun:
    """A batch that runs from now on, its request, and its items that have no end yet."""

    batch: Batch
    request: Request
    items: list[BatchItem]


def begin(
    site: Site, batch_id: int, runner: str | None = None, *, mounted: bool = False
) -> Begun | Batch:
    """Begin a batch, or return it as it is then when it is not to be run.

    That is one that has ended, that is in no wave of ``runner`` any more (where that is given), of
    a cancelled request (it is cancelled), and of a paused one or one that has as many at work as it
    may (it is given back, to wait for another wave). Raises DriveBusy, before anything is looked
    up, when its one volume is in use, unless it is ``mounted`` for this very batch: who has it may
    read the batch too; and MediumError when ``runner`` has failed to read it, as in the mount of
    another batch.
    """
    with site.catalog.write() as connection:
        batch = batches.batch(connection, batch_id)
        if runner is not None and not waves.is_of(connection, batch.wave_id, runner):
            return batch
        if runner is not None and batch.state is BatchState.FAILED:
            raise MediumError(f"Batch {batch_id} is planned again. {batch.error}", batch=batch_id)
        if batch.state is BatchState.RUNNING and not mounted:
            _check_free(site, batch)
        request = requests.request(connection, batch.request_id)
        batch = _begin(connection, site, batch, request, mounted=mounted)
        if batch.state is not BatchState.RUNNING:
            return batch
        items = batches.batch_items(connection, batch_id)
        # What is moved after this look stays readable where the items say until the batch ends.
        while repacks.give_back_moved(connection, batch_id, batch.volumes):
            items = batches.batch_items(connection, batch_id)
        return Begun(batch, request, items)


def next_here(site: Site, batch: Batch, runner: str) -> int | None:
    """Return another batch that ``runner`` has claimed and that reads the same one volume."""
    with site.catalog.read() as connection:
        return waves.planned_of(connection, runner, BatchKind.READ, batch.volumes[0])


def _begin(
    connection: Connection, site: Site, batch: Batch, request: Request, *, mounted: bool
) -> Batch:
    at = site.clock.now()
    if request.state is RequestState.CANCELLED:
        batches.end_batch(connection, batch.id, BatchState.CANCELLED, at, "cancelled")
    elif request.state is RequestState.PAUSED or _has_enough(connection, batch, request):
        waves.give_back(connection, batch.id)
    else:
        if batch.state is BatchState.PLANNED and not mounted:
            _check_free(site, batch)
        if batch.wave_id is not None:
            waves.touch_wave(connection, batch.wave_id, at)
        return batches.begin_batch(connection, batch.id, at)
    return batches.batch(connection, batch.id)


def _has_enough(connection: Connection, batch: Batch, request: Request) -> bool:
    if request.at_once is None or batch.state is not BatchState.PLANNED:
        return False
    return waves.running(connection, request.id) >= request.at_once


def _check_free(site: Site, batch: Batch) -> None:
    if batch.kind is not BatchKind.READ:
        return
    [barcode] = batch.volumes
    if barcode in CatalogLeases(site.catalog, site.clock).holders().values():
        raise DriveBusy(f"Batch {batch.id} waits for {barcode}, which is in use.", volume=barcode)
