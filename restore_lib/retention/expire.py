"""Recovery points expire by the rule of their store's policy: planned, shown, applied."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection

from restore_lib.catalog import audit, incidents, requests, retention
from restore_lib.catalog.liveness import let_go
from restore_lib.config_tables import PolicyConfig
from restore_lib.errors import Refused
from restore_lib.model.retention import Decision, Rule, decide
from restore_lib.model.states import OPEN_REQUESTS, IncidentState
from restore_lib.site import Site


@dataclass(frozen=True, slots=True)
class PolicyPlan:
    """What becomes of the recovery points of one policy's store, newest first.

    ``rule`` is None where the policy has no retention: then nothing expires. ``incidents`` would be
    closed: found before the rule's time, and brought back whole since.
    """

    policy: str
    store: str
    rule: Rule | None
    decisions: tuple[Decision, ...]
    incidents: tuple[int, ...]

    @property
    def expiring(self) -> list[int]:
        """The recovery points that would go, oldest first."""
        return sorted(each.point for each in self.decisions if each.kept is None)


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """What retention would do, policy by policy."""

    policies: tuple[PolicyPlan, ...]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not any(each.expiring or each.incidents for each in self.policies)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        return {"policies": [asdict(each) | {"expiring": each.expiring} for each in self.policies]}


@dataclass(frozen=True, slots=True)
class Expired:
    """The recovery points that have expired and the incidents that were closed, by policy."""

    points: Mapping[str, list[int]]
    incidents: Mapping[str, list[int]]


def plan_retention(site: Site, policy: str | None = None) -> RetentionPlan:
    """Say what would expire, and why each other recovery point is kept; changes nothing.

    All policies, or the one that is named; Refused when there is no such policy.
    """
    chosen = site.config.policies if policy is None else {policy: site.policy(policy)}
    with site.catalog.read() as connection:
        planned = [_plan(connection, site, name, each) for name, each in chosen.items()]
    return RetentionPlan(tuple(planned))


def apply_retention(site: Site, plan: RetentionPlan, actor: str) -> Expired:
    """Let expire what was planned, one transaction for each policy.

    What the rule keeps by now, for instance since a volume was lost or a restore was asked for, is
    kept all the same; nothing goes that was not planned. So it may be called again, after a crash
    too. Nothing is taken from any tape.
    """
    points: dict[str, list[int]] = {}
    closed: dict[str, list[int]] = {}
    for each in plan.policies:
        if not (each.expiring or each.incidents):
            continue
        with site.catalog.write() as connection:
            let_go(connection)
            now = _plan(connection, site, each.policy, site.policy(each.policy))
            gone = sorted(set(each.expiring) & set(now.expiring))
            over = sorted(set(each.incidents) & set(now.incidents))
            retention.expire(connection, gone)
            for incident_id in over:
                incidents.close(connection, incident_id)
            points[each.policy], closed[each.policy] = gone, over
            if gone or over:
                at = site.clock.now()
                detail = {"recovery_points": gone, "incidents_closed": over}
                audit.record(connection, at, actor, "retention.apply", each.policy, detail)
    return Expired(points, closed)


def close_incident(site: Site, incident_id: int, actor: str) -> None:
    """Close an incident, so that its objects are kept on tape no longer than retention says.

    One that is closed stays so. Refused when there is none of this id, or while a restore of it
    has not ended.
    """
    with site.catalog.write() as connection:
        found = incidents.incident(connection, incident_id)
        if found.state is IncidentState.CLOSED:
            return
        waiting = requests.requests(connection, OPEN_REQUESTS)
        asked = [request.id for request in waiting if request.incident_id == incident_id]
        if asked:
            raise Refused(
                f"Restore request {asked[0]} of incident {incident_id} has not ended.",
                remedy="wait for it, or cancel it with `tapeflow restore cancel`",
            )
        incidents.close(connection, incident_id)
        subject = f"incident {incident_id}"
        audit.record(connection, site.clock.now(), actor, "incident.close", subject, {})


def _plan(connection: Connection, site: Site, name: str, policy: PolicyConfig) -> PolicyPlan:
    kept = policy.retention
    if kept is None:
        return PolicyPlan(name, policy.store, None, (), ())
    rule, now = Rule(kept.keep_within, kept.minimum_redundancy), site.clock.now()
    found = retention.survey(connection, policy.store)
    decisions = decide(
        found.points, rule, now, damaged=found.damaged, used=found.used, fragile=found.fragile
    )
    over = incidents.restored_before(connection, policy.store, now - rule.keep_within)
    return PolicyPlan(name, policy.store, rule, tuple(decisions), tuple(over))
