"""A small cluster with retention, a clock that tests move, and backups of days."""

import os
import shutil
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from sqlalchemy import select

from restore_lib.catalog import tape_sets
from restore_lib.catalog.tables import recovery_points
from restore_lib.catalog.tape_sets import TapeSet
from restore_lib.catalog.volumes import change, volumes
from restore_lib.model.states import SetState
from restore_lib.model.volume import Health, Volume
from restore_lib.retention.expire import apply_retention, plan_retention
from restore_lib.retention.reclaim import Reclaimed, plan_reclaim, run_reclaim
from restore_lib.site import Site
from tests.support.clock import ManualClock
from tests.support.sites import ACTOR, back_up, make_site, write_files

DAY = timedelta(days=1)
SMALL = 'k = 2\nm = 1\nblock_size = "4KiB"\nsegment_size = "256KiB"\n'
RULE = '[policies.live.retention]\nkeep_within = "30d"\nminimum_redundancy = 1\n'


def build(
    root: Path, *, rule: str = RULE, blank: int = 12, url: str | None = None, extra: str = ""
) -> tuple[Site, ManualClock]:
    """Make a site of sets of 2+1, whose quarantine takes 14 days."""
    clock = ManualClock()
    made = make_site(root, policy=SMALL + rule, blank=blank, clock=clock, url=url, extra=extra)
    return made, clock


def write(site: Site, contents: Mapping[bytes, bytes | None]) -> None:
    """Write objects of the store; None takes one away."""
    folder = site.config.library.path.parent / "live"
    for key in [key for key, data in contents.items() if data is None]:
        (folder / os.fsdecode(key)).unlink()
    write_files(folder, {key: data for key, data in contents.items() if data is not None})


def days(site: Site, clock: ManualClock, *changes: Mapping[bytes, bytes | None]) -> list[int]:
    """Back up once a day, each time after such changes; return the recovery points."""
    points = []
    for each in changes:
        write(site, each)
        points.append(back_up(site).id)
        clock.advance(DAY)
    return points


def expire(site: Site) -> list[int]:
    """Apply retention; return what has expired."""
    return apply_retention(site, plan_retention(site), ACTOR).points.get("live", [])


def reclaim(site: Site) -> Reclaimed:
    return run_reclaim(site, plan_reclaim(site), ACTOR)


def states(site: Site) -> dict[int, str]:
    """Return the state of each recovery point."""
    with site.catalog.read() as connection:
        query = select(recovery_points.c.id, recovery_points.c.state)
        return {row.id: row.state for row in connection.execute(query)}


def held(site: Site, set_id: str) -> TapeSet:
    with site.catalog.read() as connection:
        return tape_sets.tape_set(connection, set_id)


def state_of(site: Site, set_id: str) -> SetState:
    return held(site, set_id).state


def members(site: Site, *barcodes: str) -> list[Volume]:
    with site.catalog.read() as connection:
        return volumes(connection, barcodes)


def spoil(site: Site, barcode: str, health: Health = Health.BROKEN) -> None:
    with site.catalog.write() as connection:
        change(
            connection,
            [barcode],
            "health",
            Health.OK,
            health,
            actor=ACTOR,
            reason="test",
            at=site.clock.now(),
        )


def empty(folder: Path) -> Path:
    """Return the folder, with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder
