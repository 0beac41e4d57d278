"""Repair: a lost or damaged member of a tape set is written anew, and takes the old one's place.

The replacement is claimed in the catalog first, and written in groups of tape files, each read back
and then noted. One transaction at the end puts it into the set; until then nothing of it is seen.
"""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from restore_lib.backup.write import (
    append_files,
    check_label,
    label_of,
    label_volume,
    read_back,
)
from restore_lib.catalog import audit, repairs, tape_sets
from restore_lib.catalog.closing import close_as_committed
from restore_lib.catalog.leases import CatalogLeases
from restore_lib.catalog.repairs import Repair
from restore_lib.catalog.tape_sets import SetFile
from restore_lib.catalog.volumes import change, known, volumes
from restore_lib.errors import (
    ForeignTape,
    GoElsewhere,
    LeaseLost,
    TapeLostData,
    UnknownFormat,
    VolumeAbsent,
    VolumeFull,
    VolumeStuck,
)
from restore_lib.integrity.member_files import Member, groups, stage
from restore_lib.integrity.repair_plan import RepairPlan, check_ready, plan_repair, set_to_repair
from restore_lib.library.base import Drive
from restore_lib.library.mounting import mounted
from restore_lib.model.progress import Progress, Silent
from restore_lib.model.states import SetState
from restore_lib.model.volume import Content, Flag, Health
from restore_lib.restore.mount import Mounts
from restore_lib.site import Site
from restore_lib.tape.closing import write_closing_file
from restore_lib.tape.mounted import read_label, sealed_index
from restore_lib.tape.volume_index import StripeMember

_FAILED = (GoElsewhere, ForeignTape, TapeLostData, UnknownFormat, VolumeStuck)


@dataclass(frozen=True, slots=True)
class RepairResult:
    """Which volume stands in the place of which; ``files`` and ``bytes`` are those on it."""

    barcode: str
    replacement: str
    tape_set: str
    position: int
    files: int
    bytes: int


def run_repair(
    site: Site, barcode: str, actor: str, progress: Progress | None = None
) -> RepairResult:
    """Write a volume anew onto a blank one, put that in its place in the set, and retire it.

    Killed at any instant and run again, it goes on behind the last tape file that was read back. A
    volume that has been replaced is left as it is. When the replacement itself fails, it is marked
    so, MediumError (or what else was wrong with it) is raised, and the next run takes another blank
    volume. Raises what ``plan_repair`` and ``check_ready`` do, MediumError when a row of the set
    has too few readable blocks, and DigestMismatch when the set's volumes contradict the catalog;
    nothing is then changed in the set.
    """
    plan = plan_repair(site, barcode)
    if not plan.done:
        check_ready(plan)
        with _alone(site, barcode):
            repair = _begin(site, barcode, actor)
            _Run(site, repair, plan, actor, progress or Silent()).run()
        plan = plan_repair(site, barcode)
    with site.catalog.read() as connection:
        [new] = known(connection, [plan.replacement or ""])
    return RepairResult(barcode, new.barcode, plan.tape_set, plan.position, new.files, new.bytes)


def _begin(site: Site, barcode: str, actor: str) -> Repair:
    """Claim a blank volume for the repair, or find the one that an earlier run claimed."""
    with site.catalog.write() as connection:
        [volume] = known(connection, [barcode], lock=True)
        earlier = repairs.latest(connection, barcode)
        if earlier is not None and earlier.state == repairs.RUNNING:
            return earlier
        held = set_to_repair(connection, volume, lock=True)
        at = site.clock.now()
        blank = tape_sets.next_blank(connection, lock=True)
        change(
            connection,
            [v.barcode for v in volumes(connection, [blank], content=[Content.BLANK])],
            "content",
            Content.BLANK,
            Content.LABELLED,
            actor=actor,
            reason=f"to replace {barcode}",
            at=at,
        )
        if held.state is SetState.OPEN:
            close_as_committed(connection, held, actor=actor, work="repair", at=at)
        repair = repairs.begin(
            connection,
            barcode=barcode,
            replacement=blank,
            tape_set=held.id,
            position=volume.position or 0,
            at=at,
        )
        detail = {"replacement": blank, "tape_set": held.id, "position": repair.position}
        audit.record(connection, at, actor, "repair.begin", barcode, detail)
        return repair


class _Run:
    def __init__(
        self, site: Site, repair: Repair, plan: RepairPlan, actor: str, progress: Progress
    ) -> None:
        self._site = site
        self._repair = repair
        self._plan = plan
        self._actor = actor
        self._progress = progress
        self._leases = CatalogLeases(site.catalog, site.clock)
        with site.catalog.read() as connection:
            self._set = tape_sets.tape_set(connection, repair.tape_set)
            files = tape_sets.files_of_set(connection, repair.tape_set)
        self._member = Member(self._set, repair.position, files)
        cluster = site.config.cluster.id
        self._label = label_of(cluster, self._set, repair.position, repair.replacement)

    def run(self) -> None:
        own = self._member.own
        self._progress.stage(f"writing {self._repair.barcode} anew", len(own), self._bytes(own))
        self._progress.advance(self._repair.files, self._bytes(own[: self._repair.files]))
        mounts = Mounts(self._site, self._actor)
        sources = self._plan.sources
        reserve = self._site.config.staging.reserve
        with self._folder() as folder:
            for group in groups(self._member, self._repair.files, len(sources), folder, reserve):
                paths = stage(mounts, self._member, sources, group, folder)
                self._append(group, paths)
                for path in paths:
                    path.unlink()
                self._progress.advance(len(group), self._bytes(group))
            self._finish(folder)

    def _bytes(self, files: Sequence[SetFile]) -> int:
        return sum(file.blocks for file in files) * self._set.block_size

    def _append(self, group: Sequence[SetFile], paths: Sequence[Path]) -> None:
        """Write a group behind what is written, read it back, and note it."""
        done = self._repair.files
        with self._replacement() as drive:
            if done:
                check_label(read_label(drive), self._label)
            else:
                self._label_replacement(drive)
            if append_files(drive, self._label, done, paths) < len(paths):
                raise VolumeFull(
                    f"Volume {self._label.barcode} has no room for what {self._repair.barcode} "
                    f"holds.",
                    remedy="run the repair again; it takes another blank volume",
                )
            read_back(drive, self._label, done, [(file.blocks, file.sha256) for file in group])
            with self._site.catalog.write() as connection:
                self._repair = repairs.advance(connection, self._repair, done + len(group))

    def _label_replacement(self, drive: Drive) -> None:
        with self._site.catalog.read() as connection:
            former = tape_sets.former_set(connection, self._label.barcode)
        label_volume(drive, self._label, former)
        with self._site.catalog.write() as connection:
            tape_sets.forget_former_set(connection, self._label.barcode)

    def _finish(self, folder: Path) -> None:
        """Write the last tape file, where there is room for one, and change the set."""
        path, done = folder / "closing", self._repair.files
        label = self._label
        members: list[tuple[int, StripeMember]] = []
        offsets: dict[int, int] = {}
        for file in self._member.files:
            own = file.position == label.position
            barcode = label.barcode if own else file.barcode
            member = StripeMember(file.position, barcode, file.blocks, file.sha256)
            members.append((file.stripe, member))
            if own:
                offsets[file.stripe] = file.index_offset or 0
        with self._replacement() as drive:
            check_label(read_label(drive), label)
            closing = write_closing_file(
                path,
                label,
                members,
                lambda number: sealed_index(drive, label.block_size, number, offsets[number]),
            )
            if append_files(drive, self._label, done, [path]):
                read_back(drive, self._label, done, [(closing.blocks, closing.sha256)])
            shutil.rmtree(folder, ignore_errors=True)  # no run clears up after one that is done
            with self._site.catalog.write() as connection:
                self._change_set(connection)

    def _change_set(self, connection: Connection) -> None:
        at, old = self._site.clock.now(), self._repair.barcode
        [volume] = known(connection, [old], lock=True)
        repair = repairs.finish(connection, self._repair, at)
        steps = (
            (repair.replacement, Content.LABELLED, Content.APPENDABLE),
            (repair.replacement, Content.APPENDABLE, Content.FULL),
            (old, volume.content, Content.RETIRED),
        )
        for barcode, before, after in steps:
            change(
                connection,
                [barcode],
                "content",
                before,
                after,
                actor=self._actor,
                reason=f"{repair.replacement} replaces {old}",
                at=at,
            )
        detail = {
            "replacement": repair.replacement,
            "tape_set": repair.tape_set,
            "position": repair.position,
            "files": repair.files,
        }
        audit.record(connection, at, self._actor, "repair.done", old, detail)

    @contextmanager
    def _replacement(self) -> Iterator[Drive]:
        """Mount the replacement for this run alone; one that fails is given up."""
        barcode, ttl = self._repair.replacement, self._site.config.library.lease
        try:
            with mounted(self._site.library, self._leases, barcode, self._actor, ttl=ttl) as drive:
                with self._site.catalog.read() as connection:
                    repairs.check(connection, self._repair)
                yield drive
        except _FAILED as error:
            self._give_up(error)
            raise

    def _give_up(self, error: Exception) -> None:
        """Abandon the repair, then mark the replacement; LeaseLost when another run has done it."""
        with self._site.catalog.write() as connection:
            repairs.abandon(connection, self._repair, self._site.clock.now())
        health, flag = Health.SUSPECT, None
        if isinstance(error, VolumeAbsent):
            health, flag = Health.LOST, Flag.MISSING
        elif isinstance(error, VolumeStuck):
            health = Health.DISABLED
        elif isinstance(error, ForeignTape):
            flag = Flag.FOREIGN
        if not isinstance(error, VolumeFull):
            Mounts(self._site, self._actor).mark(self._repair.replacement, health, str(error), flag)

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        parent = self._site.staging / "repair"
        for stale in parent.glob(f"{self._repair.barcode}_*"):
            shutil.rmtree(stale, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{self._repair.barcode}_", dir=parent))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _alone(site: Site, barcode: str) -> Iterator[None]:
    """Hold off a second run on this host; what it holds by ends with the process."""
    parent = site.staging / "repair"
    parent.mkdir(exist_ok=True)
    with (parent / f"{barcode}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LeaseLost(f"Another run repairs volume {barcode}.") from error
        yield
