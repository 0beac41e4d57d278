"""Assembly: large objects that lie on several volumes, put together at their target.

While a volume is mounted, all of its extents are decrypted to their places in the unfinished
objects, which spares the staging disk their bytes and the time for them.
"""

import contextlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from restore_lib.catalog.batches import BatchExtent, BatchItem
from restore_lib.errors import DigestMismatch, KeyUnusable, MediumError
from restore_lib.model.states import Way
from restore_lib.restore.publish import Publisher
from restore_lib.restore.read import TapeReader
from restore_lib.stores.base import Draft

_LARGE = 8 << 20
"""Smaller objects are not worth a file held open, in bytes."""
_MOST = 64
"""How many unfinished objects there are at once; others are gathered on the staging disk."""


@dataclass
class _Begun:
    """An object, the byte of it at which each extent begins, and why it can't be had."""

    draft: Draft
    places: dict[BatchExtent, int]
    error: MediumError | None = None


class Assembly:
    """The unfinished objects of a batch.

    Killed at any instant, it leaves nothing in sight; what the store sweeps later is bounded by
    ``Group.draft``.
    """

    def __init__(
        self, publisher: Publisher, items: Iterable[BatchItem], volumes: Collection[str]
    ) -> None:
        """Begin those of ``items`` for which no other of ``volumes`` is to stand in."""
        self._publisher = publisher
        self._begun: dict[int, _Begun] = {}
        self._taken: set[str] = set()
        with contextlib.ExitStack() as held:
            for item in islice((item for item in items if _is_cut(item, volumes)), _MOST):
                if (draft := publisher.draft(item)) is not None:
                    entered = held.enter_context(draft)
                    self._begun[item.id] = _Begun(entered, dict(_places(item)))
            self._held = held.pop_all()

    def holds(self, item: BatchItem) -> bool:
        """Whether an object is put together here."""
        return item.id in self._begun

    def awaits(self, barcode: str) -> bool:
        """Whether a volume is still to be mounted for ``take``."""
        return barcode not in self._taken and any(True for _ in self._on(barcode))

    def take(self, barcode: str, reader: TapeReader) -> bool:
        """Place the extents on a mounted volume; return whether all could be read.

        An object that is not what was backed up, or does not open, is not put together any more.
        """
        self._taken.add(barcode)
        whole = True
        for item_id, extent in sorted(self._on(barcode), key=lambda found: _lies(found[1])):
            begun = self._begun.get(item_id)
            if begun is None or begun.error is not None:
                continue
            try:
                self._publisher.place(begun.draft, extent, begun.places[extent], reader.payload)
            except MediumError as error:
                begun.error = error
                whole = False
            except (DigestMismatch, KeyUnusable):
                del self._begun[item_id]
        return whole

    def add(self, item: BatchItem) -> None:
        """Add an object of which all was taken to what the publisher brings in.

        Raises the MediumError of its first bad block, and DigestMismatch when it is not what was
        backed up; it is not put together here any more.
        """
        begun = self._begun.pop(item.id)
        if begun.error is not None:
            raise begun.error
        self._publisher.add_draft(item, begun.draft, Way.TAPE)

    def close(self) -> None:
        """Remove what was not added."""
        self._held.close()

    def _on(self, barcode: str) -> Iterator[tuple[int, BatchExtent]]:
        for item_id, begun in self._begun.items():
            if begun.error is None:
                yield from ((item_id, one) for one in begun.places if one.barcode == barcode)


def _is_cut(item: BatchItem, volumes: Collection[str]) -> bool:
    held = {extent.barcode for extent in item.extents}
    return (item.size or 0) > _LARGE and len(held) > 1 and held == set(volumes)


def _places(item: BatchItem) -> Iterator[tuple[BatchExtent, int]]:
    offset = 0
    for extent in item.extents:
        yield extent, offset
        offset += extent.size


def _lies(extent: BatchExtent) -> tuple[int, int]:
    return extent.stripe, extent.offset
