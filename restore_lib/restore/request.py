"""Select and plan: from what a person asks for to a durable plan, or to one that is only shown."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from restore_lib.catalog import (
    audit,
    batches,
    incidents,
    members,
    plan_tables,
    planning,
    recovery_points,
    requests,
)
from restore_lib.catalog.batches import Batch
from restore_lib.catalog.liveness import hold
from restore_lib.catalog.recovery_points import RecoveryPoint
from restore_lib.catalog.requests import Request
from restore_lib.catalog.volumes import sets_of, volumes
from restore_lib.errors import KeyUnusable, Refused
from restore_lib.model.objects import display_key
from restore_lib.model.states import (
    BatchState,
    IncidentState,
    ItemState,
    LossClass,
    Overwrite,
    Priority,
    RecoveryPointState,
    RequestState,
    TakeRedundancy,
)
from restore_lib.model.volume import Reason, Volume
from restore_lib.restore.forecast import MANY, Forecaster
from restore_lib.restore.outlook import forecast_plan
from restore_lib.restore.planning import add_items, plan_wanted
from restore_lib.restore.selection_solver import load_solver
from restore_lib.site import Site
from restore_lib.workers import few_collections

_NAMED = 1000


@dataclass(frozen=True, slots=True)
class RestoreSpec:
    """What a person asks for; one of ``incident``, ``prefix`` and ``keys`` says which objects.

    ``prefix`` and ``keys`` are of ``store`` as ``recovery_point`` (the newest when None) holds it;
    the empty prefix means everything. ``target`` is the store to write to, ``store`` when None.
    """

    store: str | None = None
    incident: int | None = None
    prefix: bytes | None = None
    keys: Sequence[bytes] | None = None
    recovery_point: int | None = None
    target: str | None = None
    overwrite: Overwrite = Overwrite.NEVER
    reason: Reason = Reason.RESTORE
    priority: Priority = Priority.NORMAL
    take_redundancy: TakeRedundancy = TakeRedundancy.AUTO


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """A plan to be shown; ``request_id`` is None where it was only tried out."""

    request_id: int | None
    detail: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON can hold it."""
        return {"request": self.request_id, **self.detail}


def plan_restore(
    site: Site, spec: RestoreSpec, actor: str, *, dry_run: bool = False
) -> RestorePlan:
    """Make a restore request with its whole plan; a dry run makes the same and keeps nothing.

    Nothing moves before ``start_restore``. Raises Refused for an unknown store, incident or
    recovery point and when no object is asked for, KeyUnusable when this host's identities don't
    open the tapes that are needed.
    """
    with few_collections(), site.catalog.write() as connection:
        hold(connection)
        with plan_tables.planning(connection):
            request_id, classes = _select(connection, site, spec, actor)
            asked = sum(classes.values())
            if asked >= MANY:
                load_solver()
            with Forecaster(asked) as beside:
                planned = plan_wanted(connection, site, request_id, spec.take_redundancy)
                reads = batches.batches_of(connection, request_id=request_id)
                _check_keys(connection, site, reads)
                # The database makes the items, which leaves this process free to simulate.
                forecast = forecast_plan(site, connection, reads, asked, beside)
                add_items(connection, site, planned)
                estimate = forecast()
        detail = _describe(connection, request_id, reads, classes, estimate) | planned.as_dict()
        if dry_run:
            connection.rollback()
            return RestorePlan(None, detail)
        requests.note(connection, request_id, plan=detail)
        note_action(connection, site, actor, "restore.plan", request_id, detail["counts"])
    return RestorePlan(request_id, detail)


def start_restore(site: Site, request_id: int, actor: str) -> Request:
    """Release a planned request for execution; one that has been released stays as it is."""
    with site.catalog.write() as connection:
        request = requests.request(connection, request_id)
        if request.state is RequestState.PLANNED:
            requests.change_request(
                connection, request_id, RequestState.PLANNED, RequestState.ACTIVE
            )
            note_action(connection, site, actor, "restore.start", request_id, {})
        return requests.request(connection, request_id)


def cancel_restore(site: Site, request_id: int, actor: str) -> Request:
    """Stop a request: no batch of it is begun any more; what is restored stays restored.

    One that is cancelled already stays as it is; Refused when it has ended.
    """
    with site.catalog.write() as connection:
        requests.lock(connection, request_id)
        request = requests.request(connection, request_id)
        if request.state is RequestState.CANCELLED:
            return request
        if request.state is RequestState.ENDED:
            raise Refused(
                f"Restore request {request_id} has ended already.",
                remedy=f"see what came of it with `tapeflow restore report {request_id}`",
            )
        at = site.clock.now()
        requests.change_request(
            connection, request_id, request.state, RequestState.CANCELLED, finished_at=at
        )
        for batch in batches.batches_of(
            connection, request_id=request_id, states=[BatchState.PLANNED]
        ):
            batches.end_batch(connection, batch.id, BatchState.CANCELLED, at, "cancelled")
        note_action(connection, site, actor, "restore.cancel", request_id, {})
        return requests.request(connection, request_id)


def _select(
    connection: Connection, site: Site, spec: RestoreSpec, actor: str
) -> tuple[int, dict[LossClass, int]]:
    """Create the request and collect what it wants; return its id and the objects of each class."""
    chosen = [spec.incident, spec.prefix, spec.keys]
    if sum(choice is not None for choice in chosen) != 1:
        raise Refused(
            "A restore is of an incident, of a prefix, or of a list of names.",
            remedy="give exactly one of them; the empty prefix means everything",
        )
    store, rp_id = _origin(connection, site, spec)
    target = spec.target or store
    site.store(target)
    values = {
        "store": store,
        "target": target,
        "overwrite": spec.overwrite,
        "source": _source(spec, rp_id),
        "incident_id": spec.incident,
        "rp_id": rp_id,
        "reason": spec.reason,
        "priority": spec.priority,
        "actor": actor,
        "created_at": site.clock.now(),
    }
    request_id = requests.create_request(connection, values)
    protected = site.policy_of(store)
    has_alternates = bool(protected and protected[1].alternates)
    if spec.incident is not None:
        requests.add_items_of_incident(
            connection,
            request_id,
            spec.incident,
            alternates=has_alternates,
            into=plan_tables.wanted,
        )
    elif spec.prefix is not None:
        requests.add_items_at(
            connection, request_id, store, rp_id or 0, spec.prefix, into=plan_tables.wanted
        )
    else:
        requests.add_items_named(
            connection,
            request_id,
            store,
            rp_id or 0,
            spec.keys or (),
            alternates=has_alternates,
            into=plan_tables.wanted,
        )
    classes = planning.count_wanted(connection)
    if not classes:
        raise Refused(
            f"No object of {store} is meant by this request.",
            remedy="check the names; `tapeflow backup show` tells what a recovery point holds",
        )
    return request_id, classes


def _origin(connection: Connection, site: Site, spec: RestoreSpec) -> tuple[str, int | None]:
    if spec.incident is not None:
        found = incidents.incident(connection, spec.incident)
        if found.state is IncidentState.CLOSED:
            raise Refused(
                f"Incident {found.id} is closed: what it has lost is not kept for it any more.",
                remedy="scan again with `tapeflow loss-scan`, and restore what that finds",
            )
        return found.store, found.rp_id
    if spec.recovery_point is not None:
        point = recovery_points.recovery_point(connection, spec.recovery_point)
        if point.committed_at is None:
            raise Refused(
                f"Recovery point {point.id} is not committed.", remedy="choose another one"
            )
        if point.state is not RecoveryPointState.COMMITTED:
            raise _given_up(point)
        if spec.store not in {None, point.store}:
            raise Refused(
                f"Recovery point {point.id} is of {point.store}, not of {spec.store}.",
                remedy="see `tapeflow backup list`; a restore to another store names it as target",
            )
        return point.store, point.id
    if spec.store is None:
        raise Refused(
            "The store to restore is not named.",
            remedy="name the store (`--store`, or *Store* in the form)",
        )
    site.store(spec.store)
    newest = recovery_points.newest_committed(connection, spec.store)
    if newest is None:
        raise Refused(
            f"There is no recovery point of {spec.store}.",
            remedy="run `tapeflow backup run POLICY` first",
        )
    return spec.store, newest.id


def _given_up(point: RecoveryPoint) -> Refused:
    """Return what to say to who asks for a recovery point that retention has given up."""
    others = "choose another one with `tapeflow backup list`"
    if point.state is RecoveryPointState.PURGED:
        return Refused(
            f"Recovery point {point.id} has expired, and some of it is no longer on tape.",
            remedy=others,
        )
    return Refused(
        f"Recovery point {point.id} has expired.",
        remedy=f"bring it back with `tapeflow retention undo {point.id}`, or {others}",
    )


def _source(spec: RestoreSpec, rp_id: int | None) -> dict[str, Any]:
    if spec.incident is not None:
        return {"incident": spec.incident}
    if spec.prefix is not None:
        return {"prefix": display_key(spec.prefix), "recovery_point": rp_id}
    return {"names": len(spec.keys or ()), "recovery_point": rp_id}


def _check_keys(connection: Connection, site: Site, planned: Iterable[Batch]) -> None:
    sets = sets_of(connection, _barcodes(planned))
    if not sets:
        return
    held = {identity.recipient for identity in site.identities}
    written_for = members.recipients_of(connection, sets)
    for name, recipients in sorted(written_for.items()):
        if held.isdisjoint(recipients):
            raise KeyUnusable(
                f"Tape set {name} was written for {', '.join(recipients)}; no identity of this "
                f"host is one of them."
            )


def _describe(
    connection: Connection,
    request_id: int,
    planned: Sequence[Batch],
    classes: Mapping[LossClass, int],
    estimate: Mapping[str, Any],
) -> dict[str, Any]:
    asked = sum(classes.values())
    counts = requests.count_items(connection, request_id)
    wanted = {volume.barcode: volume for volume in volumes(connection, _barcodes(planned))}
    return {
        "counts": {
            "asked": asked,
            "on_tape": asked - classes.get(LossClass.NEVER_BACKED_UP, 0),
            "changed_after_backup": classes.get(LossClass.CHANGED_AFTER_BACKUP, 0),
            "never_backed_up": classes.get(LossClass.NEVER_BACKED_UP, 0),
            "unrestorable": counts[ItemState.UNRESTORABLE],
        },
        "bytes": sum(batch.size for batch in planned),
        "volumes": _volume_rows(planned, wanted),
        "batches": len(planned),
        "estimate": estimate,
        "unrestorable": [
            display_key(key)
            for key in requests.keys_in(connection, request_id, ItemState.UNRESTORABLE, _NAMED)
        ],
    }


def _volume_rows(planned: Iterable[Batch], wanted: Mapping[str, Volume]) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for batch in planned:
        for barcode in batch.volumes:
            volume = wanted[barcode]
            row = rows.setdefault(
                barcode,
                {
                    "barcode": barcode,
                    "tape_set": volume.tape_set,
                    "place": volume.place,
                    "custody": volume.custody,
                    "batches": 0,
                    "objects": 0,
                    "bytes": 0,
                },
            )
            row["batches"] += 1
            row["objects"] += batch.objects
            row["bytes"] += batch.size // len(batch.volumes)
    return [rows[barcode] for barcode in sorted(rows)]


def _barcodes(planned: Iterable[Batch]) -> list[str]:
    return sorted({barcode for batch in planned for barcode in batch.volumes})


def note_action(
    connection: Connection,
    site: Site,
    actor: str,
    action: str,
    request_id: int,
    detail: Mapping[str, Any],
) -> None:
    """Record in the audit trail what was done with a request."""
    audit.record(
        connection,
        at=site.clock.now(),
        actor=actor,
        action=action,
        subject=f"restore request {request_id}",
        detail=dict(detail),
    )
