"""The forecast of one request of a site: before anything moves, and again while it runs."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Any

from sqlalchemy import Connection

from restore_lib.catalog import batches, members, reporting, requests, shipments
from restore_lib.catalog.batches import Batch
from restore_lib.catalog.volumes import sets_of
from restore_lib.model.shipment import EXPECTED_LINES, Direction
from restore_lib.model.states import BatchState
from restore_lib.model.volume import Custody, Reason, Volume, vault_of
from restore_lib.restore.forecast import Forecast, Forecaster, estimate
from restore_lib.restore.history import crowding, experienced
from restore_lib.restore.learn import learned, seen_in
from restore_lib.restore.plan import readable
from restore_lib.restore.plant import Plant, VaultTimes, virtual_plant
from restore_lib.restore.stages import TOTAL, compared, spans_of
from restore_lib.restore.work import HERE, Coming, Job, TapeSet, Work
from restore_lib.site import Site

_DOCK = 1e9
"""Volumes that are picked in an hour where the config sets no rate: all at once."""
_COMING = frozenset({Custody.VAULTRETRIEVE, Custody.COURIERRETRIEVE})


def forecast_plan(
    site: Site, connection: Connection, planned: Sequence[Batch], asked: int, beside: Forecaster
) -> Callable[[], dict[str, Any]]:
    """Begin the forecast of planned batches for ``asked`` objects; return what gives its result.

    That is as a plan keeps it. All that it needs is read before this returns.
    Durations are in seconds: ``seconds`` until half, ``p95_seconds`` until 95 of 100 such restores
    have ended. Each of ``stages`` has for how long it goes on, by the same names, and when it has
    ended, as ``ends`` and ``p95_ends``. ``learned_from`` are the earlier requests that it builds
    on.
    """
    work = work_of(connection, planned, site.clock.now(), asked)
    plant, earlier = experienced(connection, plant_of(site, work))
    forecast = beside.begin(work, plant)
    return lambda: _plain(forecast.result()) | {"learned_from": earlier}


def outlook(site: Site, request_id: int) -> dict[str, Any]:
    """Return how a request fares against its forecast, and when it ends by what was seen so far.

    ``stages`` has the figures of the report. While objects lack their ends, ``ends_at`` and
    ``p95_ends_at`` are the times by which half, and 95 of 100, such restores have ended; else None.
    """
    now = site.clock.now()
    with site.catalog.read() as connection:
        asked = requests.request(connection, request_id)
        rows = reporting.batch_rows(connection, request_id)
        recalls = reporting.shipment_rows(connection, request_id)
        read = {barcode for batch in rows for barcode in batch.volumes}
        marks = reporting.volume_marks(connection, request_id, read, asked.created_at, None)
        spans = spans_of(connection, asked, rows, recalls, marks, asked.finished_at)
        over = asked.finished_at is not None or not requests.unfinished(connection, request_id)
        left = batches.batches_of(
            connection, request_id=request_id, states=[BatchState.PLANNED, BatchState.RUNNING]
        )
        work = work_of(connection, left, now, 0)
        plant = plant_of(site, work)
        if not over:
            plant, _ = experienced(connection, plant)
    shown: dict[str, Any] = {
        "stages": compared(asked.plan, spans),
        "ends_at": None,
        "p95_ends_at": None,
    }
    if not over:
        seen = seen_in(plant, crowding(asked), rows, recalls, marks)
        found = estimate(work, learned(plant, seen))
        shown["ends_at"] = now + timedelta(seconds=found.seconds.p50)
        shown["p95_ends_at"] = now + timedelta(seconds=found.seconds.p95)
        so_far = (now - asked.created_at).total_seconds()
        shown["stages"][TOTAL]["expected_seconds"] = so_far + found.seconds.p50
    return shown


def plant_of(site: Site, work: Work) -> Plant:
    """Return the plant that the config describes, with free staging space as it is now."""
    config = site.config
    vaults = {
        name: VaultTimes(
            vault.transit.total_seconds(),
            vault.picks_per_hour or _DOCK,
            tuple(_second(leaves) for leaves in vault.departures),
        )
        for name, vault in config.vaults.items()
    }
    unknown = {place for place in work.places.values() if place} - vaults.keys()
    slowest = max((vault.transit for vault in vaults.values()), default=8 * 3600.0)
    vaults |= {name: VaultTimes(slowest) for name in unknown}
    free = shutil.disk_usage(site.staging).free - config.staging.reserve
    return virtual_plant(
        config.library.drives,
        vaults=vaults,
        store_rate=config.restore.store_rate,
        staging=max(free, 0),
        rounds=config.restore.rounds,
    )


def work_of(connection: Connection, planned: Sequence[Batch], now: datetime, objects: int) -> Work:
    """Return batches as work, with the places of their volumes and of those that could stand in.

    A volume on its way to a vault counts as there: that is where it is recalled from.
    """
    wanted = {barcode for batch in planned for barcode in batch.volumes}
    wanted |= {batch.barcode for batch in planned if batch.barcode is not None}
    known = members.members_of(connection, sets_of(connection, wanted))
    return Work(
        jobs=[Job(b.volumes, b.objects, b.size, rebuilds=b.lost) for b in planned],
        places=_places(connection, known),
        sets=_sets(connection, known),
        coming=_coming(connection, known, now),
        starts=_second(now.time()),
        objects=objects,
    )


def _sets(connection: Connection, known: Iterable[Volume]) -> dict[str, TapeSet]:
    held: dict[str, list[str]] = {}
    for volume in known:
        if volume.tape_set is not None and readable(volume):
            held.setdefault(volume.tape_set, []).append(volume.barcode)
    found = members.data_volumes(connection, sorted(held))
    return {name: TapeSet(k, tuple(held[name])) for name, k in found.items()}


def _coming(connection: Connection, known: Iterable[Volume], now: datetime) -> list[Coming]:
    away = [volume.barcode for volume in known if volume.custody in _COMING]
    if not away:
        return []
    held: dict[int, list[str]] = {}
    for line in shipments.open_lines(connection, away, Direction.IN):
        if line.state in EXPECTED_LINES:
            held.setdefault(line.shipment_id, []).append(line.barcode)
    return [
        Coming(
            shipment.vault,
            tuple(held[shipment.id]),
            max((now - shipment.created_at).total_seconds(), 0.0),
            shipment.reason is Reason.REDUNDANCY,
            shipment.round,
        )
        for shipment in shipments.find(connection, direction=Direction.IN)
        if shipment.id in held
    ]


def _places(connection: Connection, known: Sequence[Volume]) -> dict[str, str]:
    places = {volume.barcode: vault_of(volume.place) or HERE for volume in known}
    leaving = [volume.barcode for volume in known if volume.custody is Custody.COURIER]
    if leaving:
        lines = shipments.open_lines(connection, leaving, Direction.OUT)
        bound = {s.id: s.vault for s in shipments.find(connection, direction=Direction.OUT)}
        places |= {line.barcode: bound[line.shipment_id] for line in lines}
    return places


def _second(moment: time) -> float:
    return moment.hour * 3600 + moment.minute * 60 + moment.second


def _plain(found: Forecast) -> dict[str, Any]:
    stages: Mapping[str, Any] = {
        name: {
            "seconds": stage.seconds.p50,
            "p95_seconds": stage.seconds.p95,
            "ends": stage.ends.p50,
            "p95_ends": stage.ends.p95,
        }
        for name, stage in found.stages.items()
    }
    return {
        "seconds": found.seconds.p50,
        "p95_seconds": found.seconds.p95,
        "runs": found.runs,
        "crowding": found.crowding,
        "stages": stages,
    }
