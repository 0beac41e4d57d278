"""One load: staged stripes of a tape set, written to its volumes and committed."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Protocol

from sqlalchemy import Connection

from restore_lib.backup.stage import StagedStripe
from restore_lib.backup.write import (
    append_files,
    check_label,
    label_of,
    label_volume,
    read_back,
)
from restore_lib.catalog import recovery_points, stripes, tape_sets
from restore_lib.catalog.closing import close_as_committed
from restore_lib.catalog.leases import CatalogLeases
from restore_lib.catalog.stripes import NewTapeFile
from restore_lib.catalog.tables import volumes as volume_table
from restore_lib.catalog.tape_sets import SetFile, TapeSet
from restore_lib.catalog.volumes import change, set_flag, volumes
from restore_lib.errors import DriveBusy, GoElsewhere, MediumError, VolumeAbsent, VolumeStuck
from restore_lib.library.base import Drive
from restore_lib.library.mounting import mounted
from restore_lib.model.volume import Content, Custody, Flag, Health
from restore_lib.site import Site
from restore_lib.tape.closing import write_closing_file
from restore_lib.tape.label import Label
from restore_lib.tape.mounted import read_label, sealed_index
from restore_lib.tape.streams import new_checksum
from restore_lib.tape.volume_index import StripeMember


class Claim(Protocol):
    """The right of one run to write to its sets; of several at once, only the latest has it."""

    @property
    def site(self) -> Site:
        """The site that is written to."""
        ...

    @property
    def actor(self) -> str:
        """Who writes."""
        ...

    @property
    def work(self) -> str:
        """What it writes for, in a word."""
        ...

    def write(self) -> AbstractContextManager[Connection]:
        """Give a transaction of the catalog; LeaseLost when another run has taken over."""
        ...

    def check(self) -> None:
        """Raise LeaseLost when another run has taken over."""
        ...


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a backup job; of several at once, only the latest may write and commit."""

    work: ClassVar[str] = "backup"
    site: Site
    actor: str
    job_id: int
    number: int

    @classmethod
    def begin(cls, site: Site, actor: str, job_id: int) -> "Run":
        """Take the job over from all earlier runs of it."""
        with site.catalog.write() as connection:
            return cls(site, actor, job_id, recovery_points.begin_run(connection, job_id))

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a transaction of the catalog; LeaseLost when another run has taken over."""
        with self.site.catalog.write() as connection:
            recovery_points.check_run(connection, self.job_id, self.number, lock=True)
            yield connection

    def check(self) -> None:
        """Raise LeaseLost when another run has taken over."""
        with self.site.catalog.read() as connection:
            recovery_points.check_run(connection, self.job_id, self.number)


@dataclass(frozen=True, slots=True)
class Load:
    """Staged stripes for one tape set, and whether the set is closed behind them."""

    tape_set: TapeSet
    staged: Sequence[StagedStripe]
    closes: bool
    folder: Path


class Writer:
    """Writes loads, up to ``drives`` volumes at once, under drive leases."""

    def __init__(self, run: Claim, drives: int = 1, *, reads_back: bool = True) -> None:
        """Without ``reads_back``, what the drive took counts as written."""
        self._run = run
        self._drives = drives
        self._reads_back = reads_back
        self._site = run.site
        self._actor = run.actor
        self._leases = CatalogLeases(run.site.catalog, run.site.clock)

    def write(self, load: Load) -> Load:
        """Bring the load onto every volume of its set, and return it; read back, as a rule.

        Where a volume is full before, the load that is returned is the part that fits on all of
        them, and closes its set; it is empty when a blank volume, which is then marked as suspect,
        has no room for one stripe. Nothing becomes visible. A volume that is absent, stuck in a
        dead drive, or that does not read back as written, is marked so before VolumeAbsent or
        MediumError is raised.
        """
        with self._site.catalog.read() as connection:
            committed = tape_sets.files_of_set(connection, load.tape_set.id)
        while True:
            fits = self._write_volumes(load, committed)
            least = min(fits)
            if least == len(load.staged):
                return load
            load = replace(load, staged=load.staged[:least], closes=True)
            if not least and not load.tape_set.stripes:
                short = load.tape_set.barcodes[fits.index(least)]
                self._mark(short, Health.SUSPECT, "blank, without room for a segment")
                return load

    def _write_volumes(self, load: Load, committed: Sequence[SetFile]) -> list[int]:
        """Write all volumes, as many at once as drives may be used; return what fits on each.

        When one fails, no other is begun. DriveBusy when not one of them found a drive.
        """
        cluster = self._site.config.cluster.id
        labels = [
            label_of(cluster, load.tape_set, at, barcode)
            for at, barcode in enumerate(load.tape_set.barcodes)
        ]
        fits: dict[int, int] = {}
        failed = threading.Event()

        def write(label: Label) -> None:
            if not failed.is_set():
                try:
                    fits[label.position] = self._try_volume(load, label, committed)
                except BaseException:
                    failed.set()
                    raise

        with ThreadPoolExecutor(self._drives) as pool:
            while waiting := [label for label in labels if label.position not in fits]:
                errors = [future.exception() for future in [pool.submit(write, n) for n in waiting]]
                found = [error for error in errors if error is not None]
                worst = next((e for e in found if not isinstance(e, DriveBusy)), None)
                if worst is not None or len(waiting) + len(fits) == len(labels):
                    raise worst or found[0]
                failed.clear()
        return [fits[label.position] for label in labels]

    def _try_volume(self, load: Load, label: Label, committed: Sequence[SetFile]) -> int:
        try:
            return self._write_volume(load, label, committed)
        except VolumeAbsent as error:
            self._mark(label.barcode, Health.LOST, error.message)
            raise
        except VolumeStuck as error:
            self._mark(label.barcode, Health.DISABLED, error.message)
            raise MediumError(error.message, volume=label.barcode) from error
        except GoElsewhere as error:
            self._mark(label.barcode, Health.SUSPECT, error.message)
            raise

    def _write_volume(self, load: Load, label: Label, committed: Sequence[SetFile]) -> int:
        """Return how many of the load's stripes are on the volume; the set is closed if all are."""
        done = load.tape_set.stripes
        files = [stripe.files[label.position] for stripe in load.staged]
        ttl = self._site.config.library.lease
        with mounted(
            self._site.library, self._leases, label.barcode, self._actor, ttl=ttl
        ) as drive:
            self._run.check()
            if done:
                check_label(read_label(drive), label)
            else:
                self._label_volume(drive, label)
            fits = append_files(drive, label, done, [file.path for file in files])
            if fits == len(files):
                if self._reads_back:
                    written = [(file.blocks, file.checksum) for file in files]
                    read_back(drive, label, done, written, new_checksum)
                if load.closes:
                    self._close_volume(drive, load, label, committed)
        return fits

    def _close_volume(
        self, drive: Drive, load: Load, label: Label, committed: Sequence[SetFile]
    ) -> None:
        """Write the last tape file; a volume without room for it does with its segments' own."""
        path = load.folder / f"closing-{label.position:02d}"
        done = load.tape_set.stripes + len(load.staged)
        at_hand = {s.number: s.files[label.position].sealed_index for s in load.staged}
        offsets = {f.stripe: f.index_offset for f in committed if f.position == label.position}

        def sealed(number: int) -> bytes:
            staged = at_hand.get(number)
            if staged is not None:
                return staged
            return sealed_index(drive, label.block_size, number, offsets[number] or 0)

        written: list[SetFile | NewTapeFile] = [*committed, *_new_files(load)]
        members = [
            (file.stripe, StripeMember(file.position, file.barcode, file.blocks, file.sha256))
            for file in written
        ]
        closing = write_closing_file(path, label, members, sealed)
        if append_files(drive, label, done, [path]) and self._reads_back:
            read_back(drive, label, done, [(closing.blocks, closing.sha256)])
        path.unlink()

    def _label_volume(self, drive: Drive, label: Label) -> None:
        with self._site.catalog.read() as connection:
            former = tape_sets.former_set(connection, label.barcode)
        label_volume(drive, label, former)
        with self._run.write() as connection:
            [volume] = volumes(connection, [label.barcode])
            if volume.content is Content.BLANK:
                self._content(connection, [label.barcode], Content.BLANK, Content.LABELLED)
            tape_sets.forget_former_set(connection, label.barcode)

    def _mark(self, barcode: str, health: Health, reason: str) -> None:
        with self._run.write() as connection:
            [found] = volumes(connection, [barcode])
            gone = health is Health.LOST and found.custody is not Custody.MOUNTABLE
            if found.health is Health.OK and not gone:
                who, at = self._actor, self._site.clock.now()
                change(
                    connection,
                    [barcode],
                    "health",
                    Health.OK,
                    health,
                    actor=who,
                    reason=reason,
                    at=at,
                )
                if health is Health.LOST:
                    set_flag(connection, [barcode], Flag.MISSING, actor=who, reason=reason, at=at)

    def commit(self, load: Load, rp_id: int, store: str, started: dict[bytes, int]) -> None:
        """Make a written load visible in one transaction; ``started`` is brought up to date."""
        pending = started

        def enter(connection: Connection, files: Sequence[NewTapeFile]) -> None:
            nonlocal pending
            pending = stripes.commit_stripes(
                connection,
                rp_id=rp_id,
                store=store,
                tape_set=load.tape_set.id,
                files=files,
                new=[extent for stripe in load.staged for extent in stripe.extents],
                started=started,
                at=self._site.clock.now(),
            )

        self.commit_by(load, enter)
        if pending is not started:
            started.clear()
            started.update(pending)

    def commit_by(
        self, load: Load, enter: Callable[[Connection, Sequence[NewTapeFile]], None]
    ) -> None:
        """Make a written load visible in one transaction, in which ``enter`` enters its stripes."""
        with self._run.write() as connection:
            if load.staged:
                enter(connection, _new_files(load))
                self._count(connection, load)
            if load.closes:
                self.close(connection, load.tape_set)

    def close(self, connection: Connection, tape_set: TapeSet) -> None:
        """Close a set as it is committed: nothing is appended to it any more."""
        close_as_committed(
            connection,
            tape_set,
            actor=self._actor,
            work=self._run.work,
            at=self._site.clock.now(),
        )

    def _count(self, connection: Connection, load: Load) -> None:
        barcodes = load.tape_set.barcodes
        labelled = [v.barcode for v in volumes(connection, barcodes, content=[Content.LABELLED])]
        self._content(connection, labelled, Content.LABELLED, Content.APPENDABLE)
        for position, barcode in enumerate(barcodes):
            blocks = sum(stripe.files[position].blocks for stripe in load.staged)
            connection.execute(
                volume_table.update()
                .where(volume_table.c.barcode == barcode)
                .values(
                    files=load.tape_set.stripes + len(load.staged),
                    bytes=volume_table.c.bytes + blocks * load.tape_set.block_size,
                )
            )

    def _content(
        self, connection: Connection, barcodes: Sequence[str], before: Content, after: Content
    ) -> None:
        change(
            connection,
            barcodes,
            "content",
            before,
            after,
            actor=self._actor,
            reason=self._run.work,
            at=self._site.clock.now(),
        )


def _new_files(load: Load) -> list[NewTapeFile]:
    return [
        NewTapeFile(
            stripe.number,
            file.position,
            load.tape_set.barcodes[file.position],
            file.blocks,
            file.sha256,
            file.index_offset,
        )
        for stripe in load.staged
        for file in stripe.files
    ]
