"""What the kill campaign kills: each flow that writes, on a small site, and the same run again."""

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

from restore_lib.backup import ahead, job, seal
from restore_lib.catalog import reclaiming, tape_sets
from restore_lib.catalog.leases import CatalogLeases
from restore_lib.errors import RetryLater
from restore_lib.integrity.repack import run_repack
from restore_lib.integrity.repair import run_repair
from restore_lib.library.mounting import mounted
from restore_lib.model.states import SetState
from restore_lib.retention.expire import apply_retention, plan_retention
from restore_lib.retention.reclaim import plan_reclaim, run_reclaim
from restore_lib.retention.undo import undo_reclaim, undo_retention
from restore_lib.site import Site
from restore_lib.workers import Workers
from tests.support.clock import ManualClock
from tests.support.sites import ACTOR, back_up, image, make_site, open_site, write_files
from tests.support.watched import Watched, made_watched, noted, run_watched

POLICY = 'k = 2\nm = 1\nblock_size = "64KiB"\nsegment_size = "128KiB"\n'
RETENTION = '[policies.live.retention]\nkeep_within = "90d"\nminimum_redundancy = 1\n'
SETS_OF = 3
FIRST = "live-00001"
QUARANTINE = timedelta(days=15)
"""A little more than what it takes by default."""
_DRAW = random.Random("kills")
_OLD = {
    b"cut": _DRAW.randbytes(300_000),
    b"small": b"1",
    b"zero": b"",
    b"gone": _DRAW.randbytes(400_000),
}
_NEW = {b"cut too": _DRAW.randbytes(400_000), b"small": b"changed", b"none": b""}


@dataclass(frozen=True, slots=True)
class Scenario:
    """A site that is prepared, the work on it that is killed, and what is run afterwards.

    The work begins ``at`` after the site's first backup, and is run again ``later`` than that.
    ``expiring`` are the recovery points that it takes away, ``retired`` is how many volumes it
    takes out of use. ``run`` watches, and kills, the process that does the work, or one of its.
    """

    name: str
    prepare: Callable[[Path], None]
    work: Callable[[Site, ManualClock], None]
    at: timedelta = timedelta(hours=1)
    later: timedelta = timedelta(hours=1)
    expiring: frozenset[int] = frozenset()
    retired: int = 0
    aside: bool = False
    run: Callable[[Path, Callable[[], object], int | None], Watched] = run_watched

    def watched(self, root: Path, step: int | None = None) -> Watched:
        """Do the work, killed before its ``step``-th boundary; all of it without one."""

        def work() -> None:
            clock = _clock(self.at)
            with settled(aside=self.aside):
                self.work(open_site(root, clock), clock)

        return self.run(root, work, step)

    def again(self, root: Path) -> tuple[Site, ManualClock]:
        """Run the killed work again, later, to its end; return the site and its clock."""
        clock = _clock(self.at + self.later)
        site = open_site(root, clock)
        self.work(site, clock)
        return site, clock


@contextmanager
def settled(*, aside: bool) -> Iterator[None]:
    """Let work come to its boundaries in one and the same order each time, and in small steps.

    With ``aside``, a process of its own seals, however little there is to seal.
    """
    usage, forget = shutil.disk_usage("/"), reclaiming.forget
    with ExitStack() as patches:
        for target, name, value in (
            (ahead, "MOST_PIECES", 0),  # so that one stripe is written, then the next
            (job, "_SMALL_SHARE", 0 if aside else 1 << 30),
            (seal, "cores", lambda: 1),
            (shutil, "disk_usage", lambda _: usage._replace(free=2_500_000)),
            (reclaiming, "forget", lambda connection, name: forget(connection, name, limit=1)),
        ):
            patches.enter_context(patch.object(target, name, value))
        yield


def _clock(after: timedelta) -> ManualClock:
    clock = ManualClock()
    clock.advance(after)
    return clock


def begun(root: Path, *, blank: int, policy: str = POLICY) -> tuple[Site, ManualClock]:
    """Make a site with one backup in its first set."""
    clock = ManualClock()
    site = make_site(root, policy=policy, blank=blank, drives=1, clock=clock)
    write_files(root / "live", _OLD)
    back_up(site)
    return site, clock


def changed(root: Path) -> None:
    """Change the store after a backup."""
    write_files(root / "live", _NEW)
    (root / "live" / "gone").unlink()


def _prepare_backup(root: Path) -> None:
    begun(root, blank=3 * SETS_OF)[0].close()
    changed(root)


def _back_up(site: Site, _: ManualClock) -> None:
    back_up(site)


def _run_worker(root: Path, work: Callable[[], object], step: int | None) -> Watched:
    """Watch and kill the process that seals, instead of the one that has the work done."""
    log = root.with_name(f"{root.name}.worker")

    def watched_workers(count: int, factory: Callable[..., object], *rest: object) -> Workers:
        return Workers(count, made_watched, root, log, step, factory, *rest)

    def attempt() -> None:
        with patch.object(seal, "Workers", watched_workers), suppress(RetryLater):
            work()

    run_watched(root, attempt)
    names = noted(log)
    return Watched(names, len(names) == step)


def _prepare_repack(root: Path) -> None:
    site, clock = begun(root, blank=4 * SETS_OF, policy=POLICY + RETENTION)
    changed(root)
    clock.advance(timedelta(days=1))
    back_up(site)
    clock.advance(timedelta(days=100))
    apply_retention(site, plan_retention(site), ACTOR)
    site.close()


def _repack(site: Site, _: ManualClock) -> None:
    run_repack(site, ACTOR)


def _prepare_repair(root: Path) -> None:
    site, _ = begun(root, blank=2 * SETS_OF + 2)
    image(site, "TF0000L9").rename(root / "TF0000L9.lost")
    site.close()


def _repair(site: Site, _: ManualClock) -> None:
    for barcode in ("TF0000L9", "TF0002L9"):
        run_repair(site, barcode, ACTOR)


def _prepare_reclaim(root: Path) -> None:
    site, clock = begun(root, blank=2 * SETS_OF, policy=POLICY + RETENTION)
    write_files(root / "live", {key: b"new " + data[:9] for key, data in _OLD.items()})
    clock.advance(timedelta(days=1))
    back_up(site)
    site.close()
    changed(root)


def _reclaim(site: Site, clock: ManualClock) -> None:
    """Expire, undo it, expire; quarantine, undo it, quarantine; free the volumes; write to them."""
    apply_retention(site, plan_retention(site), ACTOR)
    if _state(site) is SetState.CLOSED:
        undo_retention(site, 1, ACTOR)
        clock.advance(QUARANTINE)
        apply_retention(site, plan_retention(site), ACTOR)
        run_reclaim(site, plan_reclaim(site), ACTOR)
    if _state(site) is SetState.QUARANTINED:
        undo_reclaim(site, FIRST, ACTOR)
        clock.advance(QUARANTINE)
        apply_retention(site, plan_retention(site), ACTOR)
        run_reclaim(site, plan_reclaim(site), ACTOR)
    clock.advance(QUARANTINE)
    run_reclaim(site, plan_reclaim(site), ACTOR)
    back_up(site)


def _state(site: Site) -> SetState:
    with site.catalog.read() as connection:
        return tape_sets.tape_set(connection, FIRST).state


def _prepare_moves(root: Path) -> None:
    begun(root, blank=2 * SETS_OF)[0].close()


def _move(site: Site, _: ManualClock) -> None:
    library = site.library
    with mounted(library, CatalogLeases(site.catalog, site.clock), "TF0000L9", ACTOR) as drive:
        drive.rewind()
    library.export("TF0001L9")
    library.admit("TF0001L9")


_OVER = timedelta(days=101)
SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("backup", _prepare_backup, _back_up),
        Scenario("backup-aside", _prepare_backup, _back_up, aside=True),
        Scenario("backup-worker", _prepare_backup, _back_up, aside=True, run=_run_worker),
        Scenario("repack", _prepare_repack, _repack, at=_OVER),
        Scenario("repair", _prepare_repair, _repair, retired=2),
        Scenario(
            "reclaim",
            _prepare_reclaim,
            _reclaim,
            at=_OVER,
            later=4 * QUARANTINE,
            expiring=frozenset({1}),
        ),
        Scenario("library", _prepare_moves, _move),
    )
}
