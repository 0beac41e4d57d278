"""Run one batch: mount, read, verify, publish, and write down what became of each object."""

import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from restore_lib.catalog import batches, requests, waves
from restore_lib.catalog.batches import Batch, BatchItem
from restore_lib.catalog.requests import Outcome
from restore_lib.config import Config
from restore_lib.errors import (
    DigestMismatch,
    DiskFull,
    GoElsewhere,
    MediumError,
    ObjectUnreadable,
    StoreUnavailable,
    TapeflowError,
)
from restore_lib.model.clock import Clock
from restore_lib.model.progress import Progress, Silent
from restore_lib.model.states import (
    BatchKind,
    BatchState,
    ItemState,
    LossClass,
    Way,
)
from restore_lib.model.volume import Health
from restore_lib.restore.beginning import Begun, begin, next_here
from restore_lib.restore.gathering import Gathering
from restore_lib.restore.heartbeat import Heartbeat
from restore_lib.restore.mount import Mounts
from restore_lib.restore.publish import Publisher, Source, failed
from restore_lib.restore.read import TapeReader, in_order
from restore_lib.site import Site

_log = logging.getLogger(__name__)
_FLUSH = 200
_BAD_BLOCKS = 3


@dataclass(frozen=True, slots=True)
class BatchResult:
    """How a batch ended."""

    batch_id: int
    state: BatchState
    restored: int
    others: int


def run_batch(
    site: Site,
    batch_id: int,
    actor: str,
    progress: Progress | None = None,
    *,
    runner: str | None = None,
) -> BatchResult:
    """Bring back the objects of a batch; one that has ended is left as it is.

    So is what ``begin`` does not let run. What else ``runner`` has claimed of the same volume, for
    whatever request, is read in the same mount.

    Killed at any instant and run again, it skips what is verified and finishes the rest. Objects
    that a volume can't give go back to be planned over other volumes, and MediumError (or another
    GoElsewhere) is raised at the end. Errors that may pass (DriveBusy, StoreUnavailable, DiskFull)
    and those that a person must mend (KeyUnusable) leave the batch to be run again; why is noted,
    for the report to name should nobody do so. After StoreUnavailable and DiskFull, half as many
    batches of the request run at once, and one more after each that is done. Objects that a repack
    has moved to other volumes since are planned anew. A batch of a cancelled request is cancelled.
    """
    begun = begin(site, batch_id, runner)
    if isinstance(begun, Batch):
        return BatchResult(batch_id, begun.state, 0, 0)
    return _run(_BatchRun(site, begun, actor, progress or Silent(), runner))


class BatchRunner:
    """Runs batches, one after the other, in a process of its own, which need not load more."""

    def __init__(self, config: Config, clock: Clock, actor: str, runner: str) -> None:
        self._site = Site(config, clock)
        self._actor = actor
        self._runner = runner

    def run(self, batch_id: int, progress: Progress) -> None:
        """Run a batch, as ``run_batch``."""
        run_batch(self._site, batch_id, self._actor, progress, runner=self._runner)


def _run(run: "_BatchRun") -> BatchResult:
    try:
        run.run()
    except GoElsewhere as error:
        run.end(BatchState.FAILED, error.message)
        raise
    except BaseException as error:
        with suppress(TapeflowError):
            run.leave(error)
        raise
    return run.finish()


class _BatchRun:
    def __init__(
        self,
        site: Site,
        begun: Begun,
        actor: str,
        progress: Progress,
        runner: str | None,
        reader: TapeReader | None = None,
    ) -> None:
        """``reader`` is of the batch's volume, where another batch has mounted it."""
        self._site = site
        self._batch = begun.batch
        self._request = begun.request
        self._items = begun.items
        self._actor = actor
        self._mounts = Mounts(site, actor)
        self._progress = progress
        self._runner = runner
        self._reader = reader
        self._outcomes: list[Outcome] = []
        self._counts = {"restored": 0, "others": 0}
        self._problem: str | None = None

    def run(self) -> None:
        """Read, verify and publish the objects."""
        size = sum(item.size or 0 for item in self._items)
        self._progress.stage(f"batch {self._batch.id}", len(self._items), size)
        with (
            Heartbeat(self._site, self._batch.wave_id),
            self._folder() as folder,
            self._publisher(folder) as publisher,
        ):
            todo = self._not_standing(publisher, self._items)
            if todo and self._batch.kind is BatchKind.ALTERNATE:
                self._copy(publisher, todo)
            elif todo:
                try:
                    if self._batch.kind is BatchKind.READ:
                        self._read(publisher, todo)
                    else:
                        self._gather(publisher, todo, folder)
                finally:
                    self._settle(publisher)

    def _publisher(self, folder: Path) -> Publisher:
        alternate = self._batch.kind is BatchKind.ALTERNATE
        return Publisher(
            self._site.store(self._request.target),
            self._request.overwrite,
            [] if alternate else self._site.identities,
            folder,
        )

    def _not_standing(self, publisher: Publisher, items: Sequence[BatchItem]) -> list[BatchItem]:
        """Settle what stands at the target; return the rest.

        What a killed process has put there, and not made safe, is made so before it counts.
        """
        standing = [(item, publisher.standing(item)) for item in items]
        found = [(item, outcome) for item, outcome in standing if outcome is not None]
        publisher.secure(outcome for _, outcome in found)
        self._note(found)
        return [item for item, outcome in standing if outcome is None]

    def _read(self, publisher: Publisher, items: Sequence[BatchItem]) -> None:
        """Read ``items`` from their one volume.

        After a few bad blocks the rest is left to parity; what comes here again is read through.
        """
        if self._reader is not None:
            self._read_all(publisher, items, self._reader)
            return
        with self._mounts.reader(self._batch.volumes[0]) as reader:
            self._read_all(publisher, items, reader)
            self._settle(publisher)
            if self._runner is not None:
                self._serve_others(reader, self._runner)

    def _read_all(
        self, publisher: Publisher, items: Sequence[BatchItem], reader: TapeReader
    ) -> None:
        for item in in_order(reader, items):
            try:
                self._add(publisher, item, reader.payload, Way.TAPE)
            except (MediumError, DigestMismatch) as error:
                self._mounts.mark(self._batch.volumes[0], Health.SUSPECT, error.message)
                self._elsewhere(item, error)
                if len(reader.bad) >= _BAD_BLOCKS and not item.attempts:
                    raise

    def _serve_others(self, reader: TapeReader, runner: str) -> None:
        """Run what else the runner has claimed of this volume, while it is mounted.

        An error of another batch ends this; it is told by that batch, which is ended or run again.
        """
        while (batch_id := next_here(self._site, self._batch, runner)) is not None:
            try:
                begun = begin(self._site, batch_id, runner, mounted=True)
                if isinstance(begun, Begun):
                    _run(_BatchRun(self._site, begun, self._actor, self._progress, runner, reader))
            except TapeflowError as error:
                _log.warning("Batch %s in the mount of another: %s", batch_id, error)
                return

    def _add(self, publisher: Publisher, item: BatchItem, read: Source, way: Way) -> None:
        publisher.add(item, read, way)
        self._added(publisher)

    def _added(self, publisher: Publisher) -> None:
        self._progress.advance()
        if publisher.full:
            self._settle(publisher)

    def _settle(self, publisher: Publisher) -> None:
        """Publish what was added, and write down what became of it."""
        if published := publisher.finish():
            self._note(published)

    def _gather(self, publisher: Publisher, items: Sequence[BatchItem], folder: Path) -> None:
        with Gathering(
            self._site, self._batch, items, publisher, folder, self._mounts, self._progress
        ) as gathering:
            gathering.collect()
            for item in items:
                try:
                    gathering.add(item)
                except (MediumError, DigestMismatch) as error:
                    self._elsewhere(item, error)
                else:
                    self._added(publisher)

    def _copy(self, publisher: Publisher, items: Sequence[BatchItem]) -> None:
        protected = self._site.policy_of(self._request.store)
        names = protected[1].alternates if protected else []
        stores = [self._site.store(name) for name in names]
        for item in items:
            outcome = Outcome(item.id, ItemState.UNRESTORABLE, error_code=LossClass.NEVER_BACKED_UP)
            for store in stores:
                try:
                    copied = publisher.copy(item, store)
                except ObjectUnreadable as error:
                    outcome = failed(item, error)
                    continue
                if copied is not None:
                    outcome = copied
                    break
            self._note([(item, outcome)])

    def _elsewhere(self, item: BatchItem, error: MediumError | DigestMismatch) -> None:
        pending = Outcome(item.id, ItemState.PENDING, error_code=error.code, error=error.message)
        self._note([(item, pending)])

    def _note(self, ended: Sequence[tuple[BatchItem, Outcome]]) -> None:
        for _, outcome in ended:
            self._outcomes.append(outcome)
            restored = outcome.state is ItemState.RESTORED
            self._counts["restored" if restored else "others"] += 1
            if outcome.state is ItemState.PENDING:
                self._problem = outcome.error
        if len(self._outcomes) >= _FLUSH:
            self.flush()
        self._progress.advance(len(ended), sum(item.size or 0 for item, _ in ended))

    def flush(self) -> None:
        """Write down what became of the objects since the last time."""
        if not self._outcomes:
            return
        with self._site.catalog.write() as connection:
            self._write(connection)
        self._outcomes.clear()

    def leave(self, error: BaseException) -> None:
        """Write down what became of the objects so far, and why the batch has not ended."""
        with self._site.catalog.write() as connection:
            self._write(connection)
            if isinstance(error, TapeflowError):
                batches.note_error(connection, self._batch.id, error.message)
            if isinstance(error, StoreUnavailable | DiskFull):
                waves.slow_down(connection, self._request.id, self._batch.id)
        self._outcomes.clear()

    def end(self, state: BatchState, error: str | None) -> None:
        """End the batch; what it did not finish goes back to be planned again."""
        with self._site.catalog.write() as connection:
            self._write(connection)
            batches.end_batch(connection, self._batch.id, state, self._site.clock.now(), error)
            if self._request.at_once is not None and state is BatchState.DONE:
                waves.speed_up(connection, self._request.id, self._site.config.library.drives)
        self._outcomes.clear()

    def _write(self, connection: Connection) -> None:
        at = self._site.clock.now()
        requests.settle_items(connection, self._batch.id, self._outcomes, at)
        if self._batch.wave_id is not None:
            waves.touch_wave(connection, self._batch.wave_id, at)

    def finish(self) -> BatchResult:
        """End the batch by what became of its objects; MediumError if some go elsewhere."""
        state = BatchState.DONE if self._problem is None else BatchState.FAILED
        self.end(state, self._problem)
        if self._problem is not None:
            raise MediumError(
                f"Batch {self._batch.id}: some objects are planned again. {self._problem}",
                batch=self._batch.id,
            )
        return BatchResult(self._batch.id, state, self._counts["restored"], self._counts["others"])

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        parent = self._site.staging / "restore"
        parent.mkdir(exist_ok=True)
        for stale in parent.glob(f"batch-{self._batch.id}-*"):
            shutil.rmtree(stale, ignore_errors=True)
        reserve = self._site.config.staging.reserve
        gathers = self._batch.kind is BatchKind.GATHER
        wanted = reserve + self._batch.size * (len(self._batch.volumes) if gathers else 0)
        if (free := shutil.disk_usage(parent).free) < wanted:
            raise DiskFull(
                f"The staging disk {parent} has {free:,} bytes free; batch {self._batch.id} needs "
                f"{wanted:,}."
            )
        folder = Path(tempfile.mkdtemp(prefix=f"batch-{self._batch.id}-", dir=parent))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
