"""A drill: begin → its restores run like any other → finish; each step may run twice.

Whoever runs restores (Airflow, or the ``tapeflow`` command) runs those of a drill.
"""

import hashlib
import heapq
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from typing import Any

from restore_lib.catalog import audit, drills, requests
from restore_lib.catalog.drills import Drill
from restore_lib.catalog.incidents import versions_at
from restore_lib.catalog.recovery_points import RecoveryPoint, newest_committed
from restore_lib.config_tables import DrillConfig
from restore_lib.drills.evidence import (
    Restored,
    evidence_of,
    measure,
    verdict_of,
    write_evidence,
)
from restore_lib.drills.scratch import check_scratch, clean
from restore_lib.errors import Refused
from restore_lib.model.states import DrillState, Overwrite, RequestState
from restore_lib.model.volume import Reason
from restore_lib.restore.report import build_report, write_report
from restore_lib.restore.request import (
    RestoreSpec,
    cancel_restore,
    plan_restore,
    start_restore,
)
from restore_lib.site import Site

_OVER = frozenset({RequestState.ENDED, RequestState.CANCELLED})


@dataclass(frozen=True, slots=True)
class DrillPlan:
    """What a drill would restore to which scratch store, and the objectives it is held to.

    ``restores`` has the plan of each restore by what it is of: ``sample``, and ``prefix`` where the
    config names one. Objectives and ``age`` of the recovery point are in seconds.
    """

    name: str
    policy: str
    store: str
    scratch: str
    seed: int
    recovery_point: int
    age: float
    rpo: float
    rto: float
    names_sha256: str
    restores: Mapping[str, Mapping[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON can hold it."""
        return asdict(self)


def plan_drill(site: Site, name: str, seed: int = 0) -> DrillPlan:
    """Say what a drill with this seed would restore; writes nothing.

    Raises Refused for an unknown drill, when there is no recovery point, or when the scratch store
    is not empty or holds something of value; and whatever ``plan_restore`` does.
    """
    config = _config(site, name)
    check_scratch(site, config.scratch)
    policy = site.policy(config.policy)
    point = _newest(site, policy.store)
    specs = _specs(site, config, point.id, seed)
    return DrillPlan(
        name=name,
        policy=config.policy,
        store=policy.store,
        scratch=config.scratch,
        seed=seed,
        recovery_point=point.id,
        age=(site.clock.now() - point.started_at).total_seconds(),
        rpo=policy.rpo.total_seconds(),
        rto=policy.rto.total_seconds(),
        names_sha256=_names_digest(specs["sample"].keys or ()),
        restores={
            part: plan_restore(site, spec, f"drill {name}", dry_run=True).as_dict()
            for part, spec in specs.items()
        },
    )


def begin_drill(site: Site, name: str, actor: str, seed: int) -> int:
    """Begin a drill and release its restores; return its id.

    The sample are the objects whose SHA-256 of ``seed:key`` is least, so who knows the seed can
    check the choice. A drill of this name that has not been finished is continued with its own
    seed, so a call after a crash goes on where that left off. Raises as ``plan_drill`` does.
    """
    drill = _active(site, name) or _create(site, plan_drill(site, name, seed), actor)
    point, seed = int(drill.evidence["recovery_point"]), int(drill.evidence["seed"])
    specs = _specs(site, _config(site, name), point, seed)
    by_drill = f"drill {drill.id}"
    with site.catalog.read() as connection:
        made = _by_part(drills.requests_by(connection, by_drill))
    for part, spec in specs.items():
        if not made[part]:
            plan_restore(site, spec, by_drill)
    with site.catalog.write() as connection:
        made = _by_part(drills.requests_by(connection, by_drill))
        kept = [made[part][0] for part in specs]
        drills.note_requests(connection, drill.id, kept)
    for request_id in chain.from_iterable(made.values()):
        if request_id not in kept:  # planned by another call that began the drill at the same time
            cancel_restore(site, request_id, actor)
    for request_id in kept:
        start_restore(site, request_id, actor)
    return drill.id


def is_over(site: Site, drill_id: int) -> bool:
    """Whether all restores of a drill have ended, so that it can be finished."""
    with site.catalog.read() as connection:
        drill = drills.drill(connection, drill_id)
        states = {requests.request(connection, one).state for one in drill.requests}
    return bool(states) and states <= _OVER


def finish_drill(site: Site, drill_id: int, actor: str) -> Drill:
    """Measure a drill whose restores have ended, keep its evidence, and clean the scratch store.

    The evidence is in the catalog and beside the restore reports as ``drill-<id>.json``. PASSED
    only if every object came back verified and both objectives are met; NOT_CHECKED when nothing
    came back and nothing failed. A finished drill is returned as it is; after a crash, all of it
    is done once more. Raises Refused while a restore of the drill still runs.
    """
    with site.catalog.read() as connection:
        drill = drills.drill(connection, drill_id)
    if drill.state is DrillState.ENDED:
        return drill
    if not is_over(site, drill_id):
        raise Refused(
            f"The restores of drill {drill_id} have not ended.",
            remedy="wait for them, or cancel them with `tapeflow restore cancel`",
        )
    restores = [_restored(site, request_id) for request_id in drill.requests]
    measures = measure(drill, restores)
    verdict = verdict_of(restores, measures)
    with site.catalog.read() as connection:
        keys = drills.asked_keys(connection, drill.requests)
        cleaned = clean(site, str(drill.evidence["scratch"]), keys)
    evidence = evidence_of(drill, restores, measures, verdict, cleaned)
    write_evidence(site.config.restore.reports.absolute(), evidence)
    with site.catalog.write() as connection:
        at = site.clock.now()
        if drills.end_drill(connection, drill_id, at, verdict, evidence):
            detail = {"verdict": verdict, "measures": evidence["measures"]}
            audit.record(connection, at, actor, "drill.finish", f"drill {drill_id}", detail)
        return drills.drill(connection, drill_id)


def _by_part(made: Iterable[tuple[int, Mapping[str, Any]]]) -> dict[str, list[int]]:
    """Return the ids of a drill's requests by the part that they restore, oldest first."""
    found: dict[str, list[int]] = {"sample": [], "prefix": []}
    for request_id, source in made:
        found["prefix" if "prefix" in source else "sample"].append(request_id)
    return found


def _config(site: Site, name: str) -> DrillConfig:
    try:
        return site.config.drills[name]
    except KeyError:
        known = ", ".join(site.config.drills) or "none is defined"
        raise Refused(f"There is no drill {name!r}.", remedy=f"use one of {known}") from None


def _active(site: Site, name: str) -> Drill | None:
    with site.catalog.read() as connection:
        found = drills.drills_of(connection, name, DrillState.ACTIVE)
    return found[0] if found else None


def _create(site: Site, plan: DrillPlan, actor: str) -> Drill:
    evidence = {key: value for key, value in plan.as_dict().items() if key != "restores"}
    with site.catalog.write() as connection:
        if found := drills.drills_of(connection, plan.name, DrillState.ACTIVE):
            return found[0]
        at = site.clock.now()
        drill_id = drills.add_drill(connection, plan.name, at, evidence | {"actor": actor})
        audit.record(connection, at, actor, "drill.begin", f"drill {drill_id}", evidence)
        return drills.drill(connection, drill_id)


def _newest(site: Site, store: str) -> RecoveryPoint:
    with site.catalog.read() as connection:
        point = newest_committed(connection, store)
    if point is None:
        raise Refused(
            f"There is no recovery point of {store} to rehearse with.",
            remedy="run `tapeflow backup run POLICY` first",
        )
    return point


def _specs(site: Site, config: DrillConfig, rp_id: int, seed: int) -> dict[str, RestoreSpec]:
    """Return the restores of a drill, always the same for the same recovery point and seed."""
    of_point = partial(
        RestoreSpec,
        recovery_point=rp_id,
        target=config.scratch,
        overwrite=Overwrite.ALWAYS,
        reason=Reason.DRILL,
    )
    with site.catalog.read() as connection:
        store = site.policy(config.policy).store
        names = (version.key for version in versions_at(connection, store, rp_id))
        specs = {"sample": of_point(keys=_sample(names, config.sample, seed))}
    if config.prefix is not None:
        specs["prefix"] = of_point(prefix=config.prefix.encode())
    return specs


def _sample(names: Iterable[bytes], size: int, seed: int) -> list[bytes]:
    salt = f"{seed}:".encode()
    return sorted(heapq.nsmallest(size, names, key=lambda name: _sha256(salt + name)))


def _names_digest(names: Iterable[bytes]) -> str:
    """Return the SHA-256 of the names in order, each ended by a zero byte."""
    return _sha256(b"".join(name + b"\0" for name in names)).hex()


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _restored(site: Site, request_id: int) -> Restored:
    paths = write_report(site, request_id)
    with site.catalog.read() as connection:
        request = requests.request(connection, request_id)
    return Restored(request, build_report(site, request_id), paths.json)
