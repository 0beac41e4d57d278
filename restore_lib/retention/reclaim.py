"""Reclaim: tape sets on which nothing is live become free volumes, after a quarantine.

Closed → quarantined → forgotten by the catalog → free. Each step is a transaction of its own, and
the first that can't be undone is taken when the quarantine is over and still nothing is live.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection

from restore_lib.catalog import audit, reclaiming
from restore_lib.catalog.liveness import has_live_extents, live_bytes_of_sets
from restore_lib.catalog.reclaiming import ExpiredSet, Released
from restore_lib.catalog.recovery_points import stores_with_points
from restore_lib.catalog.volumes import volumes
from restore_lib.model.progress import Progress, Silent
from restore_lib.model.states import SetState
from restore_lib.model.volume import Content, Health, Reason
from restore_lib.site import Site
from restore_lib.vault.recalls import plan_recall, recall


class Step(StrEnum):
    """What is next for a set."""

    QUARANTINE = "quarantine"
    WAIT = "wait"
    RECLAIM = "reclaim"
    BRING_BACK = "bring_back"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class SetStep:
    """The next step of a set; ``size`` (bytes) is what is on its volumes.

    ``until`` is when its quarantine is over, None while there is none. ``why`` tells what keeps it.
    """

    tape_set: str
    step: Step
    volumes: tuple[str, ...]
    size: int
    until: datetime | None
    why: str


@dataclass(frozen=True, slots=True)
class ReclaimPlan:
    """The sets with nothing live on them; ``to_recall`` are free volumes in vaults, by vault."""

    sets: tuple[SetStep, ...]
    to_recall: Mapping[str, tuple[str, ...]]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do now."""
        idle = {Step.WAIT, Step.BLOCKED}
        return not self.to_recall and all(each.step in idle for each in self.sets)

    def of(self, step: Step) -> list[str]:
        """Return the sets whose next step is this one."""
        return [each.tape_set for each in self.sets if each.step is step]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """What a run has done: sets by what became of them, and the recalls that it sent."""

    quarantined: list[str] = field(default_factory=list)
    brought_back: list[str] = field(default_factory=list)
    reclaimed: dict[str, Released] = field(default_factory=dict)
    shipments: list[int] = field(default_factory=list)


def plan_reclaim(site: Site) -> ReclaimPlan:
    """Say what would be done with each set on which nothing is live; changes nothing."""
    with site.catalog.read() as connection:
        steps = [*_closed(connection), *_quarantined(connection, site)]
        away = reclaiming.away(connection)
        freed = [b for each in steps if each.step is Step.RECLAIM for b in each.volumes]
        sound = [volume.barcode for volume in volumes(connection, freed, health=[Health.OK])]
    return ReclaimPlan(tuple(steps), plan_recall(site, [*away, *sound]).to_recall)


def run_reclaim(
    site: Site, plan: ReclaimPlan, actor: str, progress: Progress | None = None
) -> Reclaimed:
    """Do what was planned, set by set; a set that has become live meanwhile stays as it is.

    Killed at any instant and run again, it goes on where it was. Volumes of reclaimed sets that are
    in a vault are recalled; nothing is written to any volume. Raises InvalidTransition when another
    run has taken a set further.
    """
    progress = progress or Silent()
    done = Reclaimed()
    for tape_set in plan.of(Step.BRING_BACK):
        with site.catalog.write() as connection:
            _bring_back(connection, site, tape_set, actor)
        done.brought_back.append(tape_set)
    for tape_set in plan.of(Step.QUARANTINE):
        if _quarantine(site, tape_set, actor):
            done.quarantined.append(tape_set)
    for tape_set in plan.of(Step.RECLAIM):
        progress.stage(f"reclaiming set {tape_set}")
        if _give_up(site, tape_set, actor):
            done.reclaimed[tape_set] = _free(site, tape_set, actor)
    with site.catalog.read() as connection:
        away, stores = reclaiming.away(connection), stores_with_points(connection)
    if away:
        done.shipments.extend(recall(site, away, reason=Reason.EXPIRED, actor=actor))
    for store in stores:
        _forget_objects(site, store)
    return done


def bring_back_live(connection: Connection, site: Site, actor: str) -> list[str]:
    """Take out of quarantine each set on which something is live again; return these sets."""
    live = [
        each.id
        for each in reclaiming.sets_in(connection, SetState.QUARANTINED)
        if has_live_extents(connection, each.id)
    ]
    for tape_set in live:
        _bring_back(connection, site, tape_set, actor)
    return live


def _closed(connection: Connection) -> Iterator[SetStep]:
    for use in live_bytes_of_sets(connection):
        if not use.live_extents:
            why = reclaiming.obstacle(connection, use.tape_set, Content.FULL)
            step = Step.QUARANTINE if why is None else Step.BLOCKED
            yield _step(connection, use.tape_set, step, None, why or "nothing on it is live")


def _quarantined(connection: Connection, site: Site) -> Iterator[SetStep]:
    period, now = site.config.reclaim.quarantine, site.clock.now()
    states = (SetState.QUARANTINED, SetState.RECLAIMING)
    for each in reclaiming.sets_in(connection, *states):
        until = each.expired_at + period if each.expired_at else now
        step, why = _next(connection, each, over=until <= now)
        yield _step(connection, each.id, step, until, why)


def _next(connection: Connection, each: ExpiredSet, *, over: bool) -> tuple[Step, str]:
    if each.state is SetState.RECLAIMING:
        return Step.RECLAIM, "begun"
    if has_live_extents(connection, each.id):
        return Step.BRING_BACK, "something on it is live again"
    why = reclaiming.obstacle(connection, each.id, Content.RECLAIM_QUARANTINE)
    if why is not None:
        return Step.BLOCKED, why
    return (Step.RECLAIM, "its quarantine is over") if over else (Step.WAIT, "in quarantine")


def _step(
    connection: Connection, tape_set: str, step: Step, until: datetime | None, why: str
) -> SetStep:
    members = volumes(connection, tape_sets=[tape_set])
    size = sum(volume.bytes for volume in members)
    return SetStep(tape_set, step, tuple(v.barcode for v in members), size, until, why)


def _bring_back(connection: Connection, site: Site, tape_set: str, actor: str) -> None:
    at = site.clock.now()
    reclaiming.bring_back(connection, tape_set, actor=actor, at=at)
    audit.record(connection, at, actor, "reclaim.bring_back", tape_set, {})


def _quarantine(site: Site, tape_set: str, actor: str) -> bool:
    with site.catalog.write() as connection:
        at = site.clock.now()
        if not reclaiming.quarantine(connection, tape_set, actor=actor, at=at):
            return False
        detail = {"until": (at + site.config.reclaim.quarantine).isoformat()}
        audit.record(connection, at, actor, "reclaim.quarantine", tape_set, detail)
        return True


def _give_up(site: Site, tape_set: str, actor: str) -> bool:
    """Take the step that can't be undone; False when something is in its way after all."""
    with site.catalog.write() as connection:
        [found] = reclaiming.sets_in(connection, *SetState, only=tape_set)
        if found.state is SetState.RECLAIMING:
            return True
        now = site.clock.now()
        points = reclaiming.begin(connection, tape_set, now - site.config.reclaim.quarantine)
        if points is None:
            return False
        detail = {"recovery_points": points}
        audit.record(connection, now, actor, "reclaim.begin", tape_set, detail)
        return True


def _free(site: Site, tape_set: str, actor: str) -> Released:
    """Forget what a set held, a portion for each transaction, and then free its volumes."""
    more = True
    while more:
        with site.catalog.write() as connection:
            more = reclaiming.forget(connection, tape_set)
    with site.catalog.write() as connection:
        at = site.clock.now()
        released = reclaiming.release(connection, tape_set, actor=actor, at=at)
        audit.record(connection, at, actor, "reclaim.done", tape_set, asdict(released))
        return released


def _forget_objects(site: Site, store: str) -> None:
    after: int | None = 0
    while after is not None:
        with site.catalog.write() as connection:
            after = reclaiming.forget_objects(connection, store, after)
