"""Gathering: a batch of several volumes, each mounted once for all that it has of the objects."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Self

from restore_lib.catalog import batches
from restore_lib.catalog.batches import Batch, BatchExtent, BatchItem
from restore_lib.errors import DigestMismatch, DriveBusy, MediumError
from restore_lib.model.progress import Progress
from restore_lib.model.states import Way
from restore_lib.model.volume import Health
from restore_lib.restore.assembly import Assembly
from restore_lib.restore.gather import Gathered, SetShape, Sourcing
from restore_lib.restore.mount import Mounts
from restore_lib.restore.publish import Publisher
from restore_lib.site import Site

_BUSY_SECONDS = 0.2
_BUSY_PATIENCE = timedelta(minutes=1)


class Gathering:
    """Puts the objects of one batch together; a context manager, which removes what is left.

    Large objects are put together at their target where it can take them so. All others pass over
    ``folder`` on the staging disk, where what could not be read is rebuilt by the rest of its row.
    """

    def __init__(
        self,
        site: Site,
        batch: Batch,
        items: Sequence[BatchItem],
        publisher: Publisher,
        folder: Path,
        mounts: Mounts,
        progress: Progress,
    ) -> None:
        self._site = site
        self._batch = batch
        self._items = items
        self._publisher = publisher
        self._mounts = mounts
        self._progress = progress
        self._sourcing = self._sources()
        self._gathered = Gathered(folder)
        self._assembly = Assembly(publisher, items, batch.volumes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.closing(self._gathered):
            self._assembly.close()

    def collect(self) -> None:
        """Read what the objects need; DriveBusy when a volume of it is in use for too long."""
        begun = [item for item in self._items if self._assembly.holds(item)]
        self._collect(_extents(item for item in self._items if not self._assembly.holds(item)))
        self._collect(_extents(item for item in begun if not self._assembly.holds(item)))

    def add(self, item: BatchItem) -> None:
        """Add an object to what the publisher brings in.

        Raises as ``Publisher.add``, and MediumError when too little could be read; the volume is
        marked.
        """
        if self._assembly.holds(item):
            try:
                self._assembly.add(item)
            except DigestMismatch:
                self._collect(item.extents)
            else:
                return
        reached: BatchExtent | None = None

        def read(extent: BatchExtent) -> Iterator[bytes]:
            nonlocal reached
            reached = extent
            return self._sourcing.payload(extent, self._gathered)

        rebuilt = self._sourcing.is_rebuilt(item, self._gathered)
        try:
            self._publisher.add(item, read, Way.PARITY if rebuilt else Way.TAPE)
        except (MediumError, DigestMismatch) as error:
            if reached is not None and reached.barcode in self._batch.volumes:
                self._mounts.mark(reached.barcode, Health.SUSPECT, error.message)
            raise

    def _collect(self, extents: Sequence[BatchExtent]) -> None:
        """Gather; what is in use elsewhere is waited for, so that nothing is read twice."""
        until = self._site.clock.now() + _BUSY_PATIENCE
        while True:
            try:
                self._sourcing.gather(
                    extents, self._gathered, self._read_volume, self._assembly.awaits
                )
            except DriveBusy:
                if self._site.clock.now() >= until:
                    raise
                self._progress.advance()
                self._site.clock.sleep(_BUSY_SECONDS)
            else:
                return

    def _read_volume(self, barcode: str, wanted: set[tuple[int, int]]) -> None:
        with self._mounts.reader(barcode) as reader:
            whole = self._gathered.collect(barcode, wanted, reader)
            if self._assembly.awaits(barcode):
                whole = self._assembly.take(barcode, reader) and whole
        if not whole:
            self._mounts.mark(barcode, Health.SUSPECT, "a block can't be read")

    def _sources(self) -> Sourcing:
        """Have the volumes gathered first that others wait for: they then read beside the rest.

        Volumes that stand in for others keep their order, behind those.
        """
        extents = _extents(self._items)
        stripes: dict[str, set[int]] = {}
        for extent in extents:
            stripes.setdefault(extent.tape_set, set()).add(extent.stripe)
        files: dict[tuple[str, int, int], tuple[str, int]] = {}
        shapes: dict[str, SetShape] = {}
        with self._site.catalog.read() as connection:
            for tape_set, numbers in stripes.items():
                shapes[tape_set] = SetShape(*batches.geometry(connection, tape_set))
                found = batches.stripe_files(connection, tape_set, numbers)
                files |= {(tape_set, *where): held for where, held in found.items()}
            waiting = batches.waiting_reads(connection, self._batch.volumes)
        own = {extent.barcode for extent in extents}

        def turn(barcode: str) -> tuple[bool, float]:
            return (False, -waiting.get(barcode, 0.0)) if barcode in own else (True, 0.0)

        return Sourcing(sorted(self._batch.volumes, key=turn), shapes, files)


def _extents(items: Iterable[BatchItem]) -> list[BatchExtent]:
    return [extent for item in items for extent in item.extents]
