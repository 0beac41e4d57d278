"""A small cluster whose first tape set holds mostly what has expired."""

import os
import shutil
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from restore_lib.catalog.liveness import live_bytes_of_sets
from restore_lib.catalog.recovery_points import RecoveryPoint
from restore_lib.catalog.tables import extents, recovery_points, tape_sets, versions
from restore_lib.model.states import RecoveryPointState, SetState
from restore_lib.site import Site
from tests.support.sites import back_up, make_site, write_files

K, M = 3, 2
POLICY = f'k = {K}\nm = {M}\nblock_size = "4KiB"\nsegment_size = "64KiB"'
OLD, NEXT, NEW = "live-00001", "live-00002", "live-00003"
CONTENTS = {b"%02d" % n: os.urandom(1 + 1500 * n) for n in range(26)} | {
    b"cut": os.urandom(200_000),
    b"text": b"compressible " * 2000,
}
KEPT = (b"03", b"11", b"cut", b"text", b"17")


def build(root: Path, **values: Any) -> Site:
    """Back up ``CONTENTS``, change all but ``KEPT``, back up again, and let the first expire."""
    defaults: dict[str, Any] = {"policy": POLICY, "blank": 4 * (K + M)}
    site = make_site(root, **(defaults | values))
    write_files(root / "live", CONTENTS)
    first = back_up(site)
    write_files(root / "live", {key: os.urandom(900) for key in CONTENTS if key not in KEPT})
    back_up(site)
    expire(site, first)
    return site


def expire(site: Site, point: RecoveryPoint) -> None:
    with site.catalog.write() as connection:
        connection.execute(
            update(recovery_points)
            .where(recovery_points.c.id == point.id)
            .values(state=RecoveryPointState.EXPIRED)
        )


def live_extents_of(site: Site, tape_set: str = OLD) -> int:
    with site.catalog.read() as connection:
        [use] = live_bytes_of_sets(connection, tape_set)
    return use.live_extents


def sets_in(site: Site, state: SetState) -> list[str]:
    with site.catalog.read() as connection:
        query = select(tape_sets.c.id).where(tape_sets.c.state == state).order_by(tape_sets.c.id)
        return list(connection.execute(query).scalars())


def staging_is_empty(site: Site) -> bool:
    return not list((site.staging / "repack").iterdir())


def known_rows(site: Site) -> list[list[tuple[Any, ...]]]:
    """Return all that a repack leaves as it is: recovery points, versions, and what parts hold."""
    c = extents.c
    queries = [
        select(recovery_points).order_by(recovery_points.c.id),
        select(versions).order_by(versions.c.id),
        select(c.id, c.version_id, c.part, c.size, c.sha256, c.stored_size, c.stored_sha256),
    ]
    with site.catalog.read() as connection:
        return [sorted(map(tuple, connection.execute(query)), key=repr) for query in queries]


def copied(origin: Path, root: Path) -> Path:
    shutil.copytree(origin, root)
    return root
