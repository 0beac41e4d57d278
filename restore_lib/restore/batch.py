"""Run one batch: mount, read, verify, publish, and write down what became of each object."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from restore_lib.catalog import batches, requests, waves
from restore_lib.catalog.batches import Batch, BatchExtent, BatchItem
from restore_lib.catalog.requests import Outcome, Request
from restore_lib.errors import (
    DigestMismatch,
    DiskFull,
    GoElsewhere,
    MediumError,
    ObjectUnreadable,
    TapeflowError,
)
from restore_lib.model.progress import Progress, Silent
from restore_lib.model.states import (
    BatchKind,
    BatchState,
    ItemState,
    LossClass,
    RequestState,
    Way,
)
from restore_lib.model.volume import Health
from restore_lib.restore.gather import Gathered, SetShape, Sourcing
from restore_lib.restore.heartbeat import Heartbeat
from restore_lib.restore.mount import Mounts
from restore_lib.restore.publish import Publisher, failed
from restore_lib.site import Site
from restore_lib.tape.streams import BlockReader

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
    site: Site, batch_id: int, actor: str, progress: Progress | None = None
) -> BatchResult:
    """Bring back the objects of a batch; one that has ended is left as it is.

    Killed at any instant and run again, it skips what is verified and finishes the rest. Objects
    that a volume can't give go back to be planned over other volumes, and MediumError (or another
    GoElsewhere) is raised at the end. Errors that may pass (DriveBusy, StoreUnavailable, DiskFull)
    and those that a person must mend (KeyUnusable) leave the batch as it is, to be run again; why
    is noted, for the report to name should nobody do so. A batch of a cancelled request is
    cancelled.
    """
    with site.catalog.write() as connection:
        at = site.clock.now()
        batch = batches.batch(connection, batch_id)
        request = requests.request(connection, batch.request_id)
        if request.state is RequestState.CANCELLED:
            batches.end_batch(connection, batch_id, BatchState.CANCELLED, at, "cancelled")
        else:
            batches.begin_batch(connection, batch_id, at)
        batch = batches.batch(connection, batch_id)
        if batch.state is not BatchState.RUNNING:
            return BatchResult(batch_id, batch.state, 0, 0)
        if batch.wave_id is not None:
            waves.touch_wave(connection, batch.wave_id, at)
        items = batches.batch_items(connection, batch_id)
    run = _BatchRun(site, batch, request, actor, progress or Silent())
    try:
        with Heartbeat(site, batch.wave_id):
            run.run(items)
    except GoElsewhere as error:
        run.end(BatchState.FAILED, error.message)
        raise
    except TapeflowError as error:
        with suppress(TapeflowError), site.catalog.write() as connection:
            batches.note_error(connection, batch_id, error.message)
        raise
    finally:
        run.flush()
    return run.finish()


class _BatchRun:
    def __init__(
        self, site: Site, batch: Batch, request: Request, actor: str, progress: Progress
    ) -> None:
        self._site = site
        self._batch = batch
        self._request = request
        self._mounts = Mounts(site, actor)
        self._progress = progress
        self._outcomes: list[Outcome] = []
        self._counts = {"restored": 0, "others": 0}
        self._problem: str | None = None

    def run(self, items: Sequence[BatchItem]) -> None:
        """Read, verify and publish ``items``."""
        self._progress.stage(
            f"batch {self._batch.id}", len(items), sum(item.size or 0 for item in items)
        )
        with self._folder() as folder:
            publisher = Publisher(
                self._site.store(self._request.target),
                self._request.overwrite,
                [] if self._batch.kind is BatchKind.ALTERNATE else self._site.identities,
                folder,
            )
            todo = [item for item in items if not self._stands(publisher, item)]
            if todo and self._batch.kind is BatchKind.ALTERNATE:
                self._copy(publisher, todo)
            elif todo and self._batch.kind is BatchKind.READ:
                self._read(publisher, todo)
            elif todo:
                self._gather(publisher, todo, folder)

    def _stands(self, publisher: Publisher, item: BatchItem) -> bool:
        outcome = publisher.standing(item)
        if outcome is not None:
            self._note(item, outcome)
        return outcome is not None

    def _read(self, publisher: Publisher, items: Sequence[BatchItem]) -> None:
        """Read ``items`` from their one volume.

        After a few bad blocks the rest is left to parity; what comes here again is read through.
        """
        [barcode] = self._batch.volumes
        with self._mounts.reader(barcode) as reader:
            for item in items:
                payloads = (
                    (
                        extent,
                        BlockReader(reader.range(extent.stripe, extent.offset, extent.stored_size)),
                    )
                    for extent in item.extents
                )
                try:
                    self._note(item, publisher.publish(item, payloads, Way.TAPE))
                except (MediumError, DigestMismatch) as error:
                    self._mounts.mark(barcode, Health.SUSPECT, error.message)
                    self._elsewhere(item, error)
                    if len(reader.bad) >= _BAD_BLOCKS and not item.attempts:
                        raise

    def _gather(self, publisher: Publisher, items: Sequence[BatchItem], folder: Path) -> None:
        sourcing = self._sourcing(items)
        gathered = Gathered(folder)
        try:
            sourcing.gather(
                [extent for item in items for extent in item.extents],
                gathered,
                lambda barcode, wanted: self._collect(gathered, barcode, wanted),
            )
            for item in items:
                self._put_together(publisher, item, sourcing, gathered)
        finally:
            gathered.close()

    def _put_together(
        self, publisher: Publisher, item: BatchItem, sourcing: Sourcing, gathered: Gathered
    ) -> None:
        reached: list[BatchExtent] = []

        def payloads() -> Iterator[tuple[BatchExtent, BlockReader]]:
            for extent in item.extents:
                reached.append(extent)
                yield extent, BlockReader(sourcing.payload(extent, gathered))

        way = Way.PARITY if sourcing.is_rebuilt(item, gathered) else Way.TAPE
        try:
            self._note(item, publisher.publish(item, payloads(), way))
        except (MediumError, DigestMismatch) as error:
            if reached[-1].barcode in self._batch.volumes:
                self._mounts.mark(reached[-1].barcode, Health.SUSPECT, error.message)
            self._elsewhere(item, error)

    def _collect(self, gathered: Gathered, barcode: str, wanted: set[tuple[int, int]]) -> None:
        with self._mounts.reader(barcode) as reader:
            whole = gathered.collect(barcode, wanted, reader)
        if not whole:
            self._mounts.mark(barcode, Health.SUSPECT, "a block can't be read")

    def _sourcing(self, items: Sequence[BatchItem]) -> Sourcing:
        stripes: dict[str, set[int]] = {}
        for item in items:
            for extent in item.extents:
                stripes.setdefault(extent.tape_set, set()).add(extent.stripe)
        files: dict[tuple[str, int, int], tuple[str, int]] = {}
        shapes: dict[str, SetShape] = {}
        with self._site.catalog.read() as connection:
            for tape_set, numbers in stripes.items():
                shapes[tape_set] = SetShape(*batches.geometry(connection, tape_set))
                found = batches.stripe_files(connection, tape_set, numbers)
                files |= {(tape_set, *where): held for where, held in found.items()}
        return Sourcing(self._batch.volumes, shapes, files)

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
            self._note(item, outcome)

    def _elsewhere(self, item: BatchItem, error: MediumError | DigestMismatch) -> None:
        pending = Outcome(item.id, ItemState.PENDING, error_code=error.code, error=error.message)
        self._note(item, pending)

    def _note(self, item: BatchItem, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        ended = outcome.state is ItemState.RESTORED
        self._counts["restored" if ended else "others"] += 1
        if outcome.state is ItemState.PENDING:
            self._problem = outcome.error
        self._progress.advance(objects=1, size=item.size or 0)
        if len(self._outcomes) >= _FLUSH:
            self.flush()

    def flush(self) -> None:
        """Write down what became of the objects since the last time."""
        if not self._outcomes:
            return
        with self._site.catalog.write() as connection:
            at = self._site.clock.now()
            requests.settle_items(connection, self._batch.id, self._outcomes, at)
            if self._batch.wave_id is not None:
                waves.touch_wave(connection, self._batch.wave_id, at)
        self._outcomes.clear()

    def end(self, state: BatchState, error: str | None) -> None:
        """End the batch; what it did not finish goes back to be planned again."""
        self.flush()
        with self._site.catalog.write() as connection:
            batches.end_batch(connection, self._batch.id, state, self._site.clock.now(), error)

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
