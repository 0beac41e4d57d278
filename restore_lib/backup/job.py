"""One run of a backup job: select, stage, write and commit until nothing of its share is left."""

import shutil
import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from restore_lib.backup.ahead import Ahead, MayBegin
from restore_lib.backup.load import Load, Run, Writer
from restore_lib.backup.pack import Geometry, pieces, weight
from restore_lib.backup.seal import Sealer, Sealing, SealingHere, Selected, sealing_aside
from restore_lib.backup.select import Change, Kind, changes
from restore_lib.backup.sources import Sources
from restore_lib.backup.stage import Pieces, StagedStripe, Stager
from restore_lib.backup.taking import fitting, unusable, used
from restore_lib.catalog import bulk, recovery_points, tape_sets
from restore_lib.catalog.recovery_points import Job, LiveVersion, RecoveryPoint
from restore_lib.catalog.tape_sets import TapeSet
from restore_lib.errors import TapeflowError, VolumeFull
from restore_lib.model.objects import StoredObject, display_key
from restore_lib.model.progress import Progress
from restore_lib.site import Site

_SMALL_SHARE = 64 << 20


def geometry_of(site: Site, policy_name: str) -> Geometry:
    """Return the sizes that bound what a policy writes to this site's volumes."""
    recipients = len(site.recipients.names)
    return Geometry.of(site.policy(policy_name), site.config.library.capacity, recipients)


def changes_in(
    site: Site, store: str, after: bytes | None, until: bytes | None
) -> Iterator[Change]:
    """Yield how a range of a store's keys differs from what the catalog has of it, streaming."""
    listed = site.store(store).list(after=after, until=until)
    yield from changes(listed, _live_versions(site, store, after, until))


def _live_versions(
    site: Site, store: str, after: bytes | None, until: bytes | None
) -> Iterator[LiveVersion]:
    """Yield what ``recovery_points.live_versions`` does, a portion from each short transaction.

    A backup goes on for hours, and nothing that long may hold on to one state of the catalog. Only
    this run changes versions in its range, and none whose key it has not come to.
    """
    while True:
        with site.catalog.read() as connection:
            found = recovery_points.live_versions(connection, store, after, until)
            portion = list(islice(found, bulk.CHUNK))
        yield from portion
        if len(portion) < bulk.CHUNK:
            return
        after = portion[-1].key


class JobRun:
    """One run of a job; what it has committed, a later run finds in the catalog.

    A run that begins takes the job over: an earlier one that is still at it commits nothing more
    and ends with LeaseLost.
    """

    def __init__(
        self,
        site: Site,
        job: Job,
        point: RecoveryPoint,
        actor: str,
        progress: Progress,
        drives: int = 1,
    ) -> None:
        """``drives`` is how many volumes it may write at once."""
        self._site = site
        self._job = job
        self._point = point
        self._run = Run.begin(site, actor, job.id)
        self._policy = site.policy(point.policy)
        self._geometry = geometry_of(site, point.policy)
        self._target = self._geometry.target(weight(job.objects, job.size))
        self._writer = Writer(self._run, drives, reads_back=self._policy.read_back)
        self._progress = progress
        self._gone: list[int] = []
        self._count = {"backed_up": 0, "bytes_backed_up": 0, "gone": 0}
        self._sets: set[str] = set()

    def run(self) -> Mapping[str, Any]:
        """Back up the share and return the job's summary; may be called again after an error.

        Raises MediumError, VolumeAbsent or VolumeFull when a volume failed, or was too short for
        anything; another call takes other volumes.
        """
        self._gone.clear()
        self._progress.stage("backing up", self._job.objects, self._job.size)
        folder = self._folder()
        try:
            unreadable, failures = self._back_up(folder)
            self._end_sets(folder)
        except OSError:
            self._run.check()  # a later run clears away the staging folder of this one
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return self._finish(unreadable, failures)

    def _back_up(self, folder: Path) -> tuple[int, Mapping[bytes, str]]:
        """Stage, write and commit the share; return what ``Stager`` tells of unreadable objects."""
        with self._sealing() as sealing:
            stager = Stager(
                folder,
                self._point.store,
                self._geometry,
                self._target,
                len(self._site.recipients.names),
                sealing,
                self._progress,
            )

            def staged(may_begin: MayBegin) -> Generator[tuple[StagedStripe, bool]]:
                with closing(self._selected()) as selected:
                    yield from stager.stripes(Pieces(selected), may_begin)

            stripe_size = self._geometry.stripe_size(self._target)
            reserve = self._site.config.staging.reserve
            with Ahead(folder, stripe_size, reserve, staged) as ahead:
                self._drain(ahead, folder)
        return stager.unreadable, stager.failures

    @contextmanager
    def _sealing(self) -> Iterator[Sealing]:
        """Give processes for a share that is worth starting them, else this thread."""
        name, block_size = self._point.store, self._geometry.block_size
        recipients, longest = self._site.recipients, self._site.catalog.longest_key
        if self._job.size > _SMALL_SHARE:
            config = self._site.config.stores[name]
            with sealing_aside(name, config, longest, recipients.names, block_size) as aside:
                yield aside
            return
        sources = Sources(self._site.store(name), longest)
        with closing(Sealer(sources, name, recipients, block_size)) as sealer:
            yield SealingHere(sealer)

    def _folder(self) -> Path:
        self._run.check()
        parent = self._site.staging / "backup"
        for stale in parent.glob(f"job-{self._job.id}-*"):
            shutil.rmtree(stale, ignore_errors=True)
        parent.mkdir(exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f"job-{self._job.id}-", dir=parent))

    def _drain(self, ahead: Ahead, folder: Path) -> None:
        """Write what is staged, load by load, while more is being staged."""
        started: dict[bytes, int] = {}
        waiting: list[StagedStripe] = []
        while waiting := waiting or ahead.take():
            tape_set, held = self._take_set()
            fits = fitting(tape_set, waiting, held, self._geometry.volume_size)
            first = tape_set.stripes + 1
            staged = [stripe.renumbered(n) for n, stripe in enumerate(waiting[:fits], first)]
            ends = ahead.complete and not self._policy.keep_open
            load = Load(tape_set, staged, fits < len(waiting) or ends, folder)
            for stripe in waiting[: self._write(load, started)]:
                ahead.remove(stripe)
                waiting = waiting[1:]

    def _write(self, load: Load, started: dict[bytes, int]) -> int:
        """Write and commit a load, and return how many of its stripes fitted its set."""
        written = self._writer.write(load)
        if load.staged and not written.staged and not load.tape_set.stripes:
            raise VolumeFull(
                f"A blank volume of set {load.tape_set.id} has no room for one segment.",
                remedy="make the policy's segment_size smaller, or correct [library] capacity",
            )
        self._writer.commit(written, self._point.id, self._point.store, started)
        for stripe in written.staged:
            ended = [extent for extent in stripe.extents if extent.part == extent.parts]
            self._count["backed_up"] += len(ended)
            self._count["bytes_backed_up"] += sum(extent.size for extent in stripe.extents)
            self._sets.add(load.tape_set.id)
        return len(written.staged)

    def _end_sets(self, folder: Path) -> None:
        """Close, or leave to later backups, the sets that the job still holds.

        One that can't be written to any more is closed as committed.
        """
        whole: list[TapeSet] = []
        with self._run.write() as connection:
            for tape_set in tape_sets.sets_of_job(connection, self._job.id):
                if self._policy.keep_open or not tape_set.stripes:
                    tape_sets.release_set(connection, tape_set.id)
                elif unusable(connection, tape_set):
                    self._writer.close(connection, tape_set)
                else:
                    whole.append(tape_set)
        for tape_set in whole:
            self._write(Load(tape_set, (), True, folder), {})

    def _selected(self) -> Generator[Selected, None, None]:
        share = changes_in(self._site, self._point.store, self._job.after, self._job.until)
        for change in share:
            if change.kind is Kind.GONE and change.known is not None:
                self._gone.append(change.known.id)
                if len(self._gone) >= bulk.CHUNK:
                    self._mark_gone()
            elif (source := change.to_back_up) is not None:
                replaces = change.known.id if change.known else None
                for piece in pieces(self._described(source), self._geometry.part_size):
                    yield Selected(piece, replaces)

    def _mark_gone(self) -> None:
        """End the versions of objects that are gone; a portion at a time, so that others can write.

        Committed recovery points see them as before.
        """
        with self._run.write() as connection:
            recovery_points.mark_gone(connection, self._gone, self._point.id)
        self._count["gone"] += len(self._gone)
        self._gone.clear()

    def _described(self, source: StoredObject) -> StoredObject:
        """Return what is listed of an object with the metadata that some stores don't list.

        Where the store refuses to tell, the object itself is what will be read, or named.
        """
        store = self._site.store(self._point.store)
        try:
            found = None if store.lists_metadata else store.head(source.key)
        except TapeflowError as error:
            if error.retryable:
                raise
            return source
        if found is None or (found.version, found.etag) != (source.version, source.etag):
            return source
        return source._replace(content_type=found.content_type, metadata=found.metadata)

    def _take_set(self) -> tuple[TapeSet, int]:
        """Return the set to write to, and the bytes that its fullest volume holds already.

        A set that can't be appended to any more is closed as committed. In one without data, blank
        volumes take the places of those that can't be used.
        """
        with self._run.write() as connection:
            held = tape_sets.sets_of_job(connection, self._job.id)
            idle = tape_sets.idle_open_sets(connection, self._point.policy)
            tape_set = self._usable(connection, [*held, *idle]) or self._new_set(connection)
            tape_sets.claim_set(connection, tape_set.id, self._job.id)
            return tape_set, used(connection, tape_set)

    def _usable(self, connection: Connection, found: list[TapeSet]) -> TapeSet | None:
        geometry = self._geometry
        shape = (geometry.k, geometry.m, geometry.block_size, self._site.recipients.names)
        for tape_set in found:
            fits = shape == (tape_set.k, tape_set.m, tape_set.block_size, tape_set.recipients)
            spoiled = unusable(connection, tape_set)
            if fits and not spoiled:
                return tape_set
            if tape_set.stripes:
                self._writer.close(connection, tape_set)
            elif fits:
                tape_sets.replace_volumes(connection, tape_set.id, spoiled)
                return tape_sets.tape_set(connection, tape_set.id)
            else:
                tape_sets.release_set(connection, tape_set.id)
        return None

    def _new_set(self, connection: Connection) -> TapeSet:
        return tape_sets.create_set(
            connection,
            policy=self._point.policy,
            k=self._geometry.k,
            m=self._geometry.m,
            block_size=self._geometry.block_size,
            recipients=self._site.recipients.names,
            job_id=self._job.id,
            at=self._site.clock.now(),
        )

    def _finish(self, unreadable: int, failures: Mapping[bytes, str]) -> Mapping[str, Any]:
        self._mark_gone()
        summary = self._count | {
            "tape_sets": sorted(self._sets),
            "unreadable_objects": unreadable,
            "unreadable": {display_key(key): why for key, why in sorted(failures.items())},
        }
        with self._run.write() as connection:
            recovery_points.end_job(connection, self._job.id, summary)
        return summary
