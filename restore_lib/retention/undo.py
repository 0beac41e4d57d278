"""Undo: expired recovery points, and tape sets in quarantine, are brought back."""

from dataclasses import dataclass

from restore_lib.catalog import audit, reclaiming, retention
from restore_lib.catalog.liveness import let_go
from restore_lib.catalog.recovery_points import recovery_point
from restore_lib.errors import Refused
from restore_lib.model.states import RecoveryPointState
from restore_lib.retention.reclaim import bring_back_live
from restore_lib.site import Site


@dataclass(frozen=True, slots=True)
class Undone:
    """The recovery points that can be restored again, and the sets that left their quarantine."""

    points: tuple[int, ...]
    sets: tuple[str, ...]


def undo_retention(site: Site, point_id: int, actor: str) -> Undone:
    """Bring back an expired recovery point, with the sets in quarantine that hold some of it.

    It does not expire again before another quarantine's time has passed. One that has not expired
    stays as it is. Refused when there is none of this id, or when some of it is reclaimed.
    """
    with site.catalog.write() as connection:
        let_go(connection)
        point = recovery_point(connection, point_id)
        if point.state is RecoveryPointState.PURGED:
            raise Refused(
                f"Recovery point {point_id} can't be brought back: some of it is reclaimed.",
                remedy="choose another one with `tapeflow backup list`",
            )
        if point.state is not RecoveryPointState.EXPIRED:
            return Undone((), ())
        at = site.clock.now()
        retention.revive(connection, [point_id], at + site.config.reclaim.quarantine)
        sets = bring_back_live(connection, site, actor)
        subject = f"recovery point {point_id}"
        audit.record(connection, at, actor, "retention.undo", subject, {"tape_sets": sets})
        return Undone((point_id,), tuple(sets))


def undo_reclaim(site: Site, tape_set: str, actor: str) -> Undone:
    """Bring back a set in quarantine, with all recovery points on it that are still whole.

    Other sets in quarantine that hold some of these come back too. The recovery points do not
    expire again before another quarantine's time has passed. Refused when there is no such set,
    InvalidTransition when it is not in quarantine.
    """
    with site.catalog.write() as connection:
        let_go(connection)
        at = site.clock.now()
        reclaiming.bring_back(connection, tape_set, actor=actor, at=at)
        points = retention.expired_points_on(connection, tape_set)
        retention.revive(connection, points, at + site.config.reclaim.quarantine)
        sets = [tape_set, *bring_back_live(connection, site, actor)]
        detail = {"recovery_points": points, "tape_sets": sets}
        audit.record(connection, at, actor, "reclaim.undo", tape_set, detail)
        return Undone(tuple(points), tuple(sets))
