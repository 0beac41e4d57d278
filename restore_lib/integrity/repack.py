"""Repack: live payloads move off sets that hold mostly what has expired, so that these come free.

Payloads are read as they are stored, and written as a backup writes: sealed into segments,
protected by parity, read back. One transaction for each load then lets the catalog find them in the
new set; until then the old set is what restores read.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from restore_lib.backup.pack import weight
from restore_lib.backup.stage import Pieces, StagedStripe, Stager
from restore_lib.catalog import audit, repacks, tape_sets
from restore_lib.catalog.liveness import LiveExtent, has_live_extents
from restore_lib.catalog.repacks import Move
from restore_lib.errors import EndOfData, MediumError, VolumeAbsent, VolumeFull
from restore_lib.integrity.repack_plan import (
    HALF,
    SetToRepack,
    check_ready,
    geometry_for,
    plan_repack,
)
from restore_lib.integrity.repack_read import Page, Source, pages, read_page
from restore_lib.integrity.repack_target import RepackRun, Target
from restore_lib.integrity.repack_write import StoredSealing, selected
from restore_lib.model.extents import NewExtent
from restore_lib.model.objects import display_key
from restore_lib.model.progress import Progress, Silent
from restore_lib.restore.mount import Mounts
from restore_lib.site import Site
from restore_lib.tape.age import Recipients

_SPOILED_SETS = 3
_NAMED = 1000


@dataclass
class RepackedSet:
    """What became of one set; ``moved`` payloads of ``size`` bytes as stored.

    ``in_use`` are left since an unfinished restore reads them, ``unreadable`` since too few volumes
    give them. ``empty``: nothing live is on the set any more, so it can be reclaimed.
    """

    tape_set: str
    moved: int = 0
    size: int = 0
    in_use: int = 0
    unreadable: int = 0
    empty: bool = False


@dataclass
class RepackResult:
    """What became of the sets; ``waiting`` could not be repacked now.

    ``unreadable`` tells, by the name of the object, why payloads were left; the first 1,000.
    """

    sets: list[RepackedSet] = field(default_factory=list)
    new_sets: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)


def run_repack(
    site: Site,
    actor: str,
    progress: Progress | None = None,
    *,
    sets: Sequence[str] = (),
    below: float = HALF,
    drives: int = 1,
) -> RepackResult:
    """Repack the sets that ``plan_repack`` names, as far as their volumes are here.

    It writes up to ``drives`` volumes at once. Killed at any instant and run again, it goes on
    behind the last load that was committed. A volume that fails while it is written is set aside as
    a backup does. What can't be read is named and left, and so is what a restore that is under way
    reads. Raises what ``plan_repack`` and ``check_ready`` do, and LeaseLost when another run has
    taken over.
    """
    plan = plan_repack(site, sets=sets, below=below)
    check_ready(plan)
    groups: dict[tuple[str, tuple[str, ...]], list[SetToRepack]] = {}
    with site.catalog.read() as connection:
        for policy, recipients in repacks.unfinished(connection):
            if policy in site.config.policies:
                groups[policy, recipients] = []
    ready = [one for one in plan.sets if one.ready]
    for one in ready:
        groups.setdefault((one.policy, one.recipients), []).append(one)
    progress = progress or Silent()
    progress.stage(
        "repacking", sum(one.live_extents for one in ready), sum(one.live_size for one in ready)
    )
    result = RepackResult(waiting=[one.tape_set for one in plan.sets if not one.ready])
    for (policy, recipients), found in groups.items():
        group = _Group(site, actor, policy, recipients, found, result, progress, drives)
        for _ in range(_SPOILED_SETS - 1):
            with contextlib.suppress(MediumError, VolumeAbsent, EndOfData, VolumeFull):
                group.run()
                break
        else:
            group.run()
    return result


class _Group:
    """Sets of one policy and of the same recipients, repacked one after the other."""

    def __init__(
        self,
        site: Site,
        actor: str,
        policy: str,
        recipients: Sequence[str],
        sets: Sequence[SetToRepack],
        result: RepackResult,
        progress: Progress,
        drives: int,
    ) -> None:
        self._site = site
        self._actor = actor
        self._policy = policy
        self._recipients = Recipients.parse(recipients)
        self._sets = sets
        self._result = result
        self._progress = progress
        with site.catalog.write() as connection:
            repack = repacks.begin_run(connection, policy, recipients, site.clock.now())
            detail = {"sets": [one.tape_set for one in sets], "run": repack.run}
            audit.record(
                connection, site.clock.now(), actor, "repack.begin", f"repack {repack.id}", detail
            )
        self._run = RepackRun(site, actor, repack)
        self._mounts = Mounts(site, actor)
        self._counts = {one.tape_set: RepackedSet(one.tape_set) for one in sets}
        result.sets.extend(self._counts.values())
        largest = max((one.largest for one in sets), default=0)
        self._geometry = geometry_for(site, policy, recipients, largest)
        self._target = Target(self._run, self._geometry, list(self._counts), drives)

    def run(self) -> None:
        """Move what is live; may be called again after an error."""
        with self._folder() as folder:
            for one in self._sets:
                self._repack(one, folder)
            self._target.end(folder)
        self._finish()

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        self._run.check()
        parent = self._site.staging / "repack"
        parent.mkdir(exist_ok=True)
        for stale in parent.glob(f"{self._run.repack.id}-*"):
            shutil.rmtree(stale, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{self._run.repack.id}-", dir=parent))
        try:
            yield folder
        except OSError:
            self._run.check()  # a later run clears away the staging folder of this one
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _repack(self, one: SetToRepack, folder: Path) -> None:
        with self._site.catalog.read() as connection:
            held = tape_sets.tape_set(connection, one.tape_set)
            files = tape_sets.files_of_set(connection, one.tape_set)
        source = Source(held, files, one.sources)
        count = self._counts[one.tape_set]
        count.in_use = count.unreadable = 0

        def skipped(extent: LiveExtent) -> bool:
            count.in_use += extent.in_use
            return extent.in_use

        def room() -> int:
            return self._room(source, folder)

        for extents in pages(self._site, source, room, skipped):
            self._move(source, extents, folder)
        with self._site.catalog.read() as connection:
            count.empty = not has_live_extents(connection, one.tape_set)

    def _room(self, source: Source, folder: Path) -> int:
        """Return the bytes that payloads may take now; half of the disk is left to other work.

        Beside them lie the stripes that they are sealed into, and where volumes are lost, the
        blocks that rebuild theirs.
        """
        free = shutil.disk_usage(folder).free - self._site.config.staging.reserve
        held, to = source.held, self._geometry
        direct = set(held.barcodes[: held.k]) <= set(source.volumes)
        read = 1 if direct else held.k
        return max(0, free // 2 * to.k // (read * to.k + to.k + to.m))

    def _move(self, source: Source, extents: Sequence[LiveExtent], folder: Path) -> None:
        """Move a page of payloads: read, stage, write, commit."""
        payloads = folder / "payloads"
        payloads.mkdir()
        try:
            with closing(read_page(source, extents, self._mounts, payloads)) as page:
                self._note_unreadable(source, page, extents)
                staged = self._stage(page, folder)
        finally:
            shutil.rmtree(payloads, ignore_errors=True)
        by_id = {extent.id: extent for extent in page.extents}

        def moved(new: NewExtent) -> Move:
            old = by_id[new.replaces or 0]
            return Move(old.id, source.held.id, old.stripe, old.position, new)

        count = self._counts[source.held.id]
        while staged:
            new_set, moves, staged = self._target.write(staged, moved, folder)
            count.moved += len(moves)
            count.size += sum(move.to.stored_size for move in moves)
            if moves and new_set not in self._result.new_sets:
                self._result.new_sets.append(new_set)

    def _note_unreadable(self, source: Source, page: Page, extents: Sequence[LiveExtent]) -> None:
        self._counts[source.held.id].unreadable += len(page.unreadable)
        for extent in extents:
            why = page.unreadable.get(extent.id)
            if why is not None and len(self._result.unreadable) < _NAMED:
                self._result.unreadable[display_key(extent.key)] = why

    def _stage(self, page: Page, folder: Path) -> Sequence[StagedStripe]:
        size = sum(extent.stored_size for extent in page.extents)
        sealing = StoredSealing(
            page,
            self._recipients,
            self._geometry.block_size,
            lambda extent: self._progress.advance(1, extent.stored_size),
        )
        stager = Stager(
            folder,
            self._site.policy(self._policy).store,
            self._geometry,
            self._geometry.target(weight(len(page.extents), size)),
            len(self._recipients.names),
            sealing,
            Silent(),
        )
        staged = stager.stripes(Pieces(selected(page)), lambda *_: True)
        return [stripe for stripe, _ in staged]

    def _finish(self) -> None:
        with self._run.write() as connection:
            at = self._site.clock.now()
            payloads, size = repacks.end(connection, self._run.repack, at)
            detail = {
                "payloads": payloads,
                "bytes": size,
                "sets": {name: count.moved for name, count in self._counts.items()},
            }
            subject = f"repack {self._run.repack.id}"
            audit.record(connection, at, self._actor, "repack.done", subject, detail)
