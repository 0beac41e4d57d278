"""Protect: pieces of objects into segments on the staging disk, stripe by stripe, with parity."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from restore_lib.backup.pack import Geometry, bound
from restore_lib.backup.seal import Sealed, Sealing, SegmentOrder, Selected, StagedFile
from restore_lib.model.extents import NewExtent
from restore_lib.model.progress import Progress
from restore_lib.tape.parity import TapeFileSummary
from restore_lib.tape.segment import empty_size

MOST_PIECES = 50_000
"""Bounds what is held in memory of staged pieces, and the transaction that commits them."""
_AHEAD = 2
"""Stripes under way at once, so that no process waits for the last segment of a stripe."""
_NAMED = 1000


@dataclass(frozen=True, slots=True)
class StagedStripe:
    """All tape files of one stripe, by position, and the extents in them."""

    number: int
    files: tuple[StagedFile, ...]
    extents: tuple[NewExtent, ...]

    def size_on(self, block_size: int) -> int:
        """Return the bytes that it takes on its fullest volume, with its share of the index."""
        indexes = [len(file.sealed_index or b"") for file in self.files]
        sizes = [file.blocks * block_size for file in self.files]
        return max(size + 2 * index for size, index in zip(sizes, indexes, strict=True))

    def renumbered(self, number: int) -> "StagedStripe":
        """Return the same stripe as number ``number`` of another set; its files stay the same."""
        if number == self.number:
            return self
        extents = tuple(replace(extent, stripe=number) for extent in self.extents)
        return replace(self, number=number, extents=extents)

    def remove(self) -> None:
        """Remove its files from the staging disk."""
        for file in self.files:
            file.path.unlink()


class Pieces:
    """The pieces of a job, one after the other, with a look at the next one."""

    def __init__(self, selected: Iterator[Selected]) -> None:
        self._selected = selected
        self.next = next(selected, None)

    def take(self) -> Selected:
        """Return the next piece and go on."""
        taken = self.next
        if taken is None:
            raise IndexError("no piece is left")
        self.next = next(self._selected, None)
        return taken


@dataclass(frozen=True)
class _Begun:
    """A stripe whose segments are being sealed."""

    serial: int
    pieces: int
    size: int
    segments: tuple["Future[Sealed]", ...]


@dataclass(frozen=True)
class _Protected:
    """A stripe whose segments are sealed and whose parity is being computed."""

    serial: int
    pieces: int
    sealed: tuple[Sealed, ...]
    parity_paths: tuple[Path, ...]
    parity: "Future[list[TapeFileSummary]]"


def _wait(begun: Sequence[_Begun], protected: Sequence[_Protected]) -> None:
    """Wait until the oldest stripe of either kind is a step further."""
    futures: list[Future[Any]] = [stripe.parity for stripe in [*protected][:1]]
    futures += [segment for stripe in [*begun][:1] for segment in stripe.segments]
    wait([future for future in futures if not future.done()], return_when=FIRST_COMPLETED)


class Stager:
    """Stages pieces as stripes, whichever set they will be of.

    Segments are dealt out by what their objects can take at most, and sealed side by side.
    ``unreadable`` counts the objects that could not be read, and ``failures`` tells, by key, why
    the first of them could not.
    """

    def __init__(
        self,
        folder: Path,
        store_name: str,
        geometry: Geometry,
        target: int,
        recipients: int,
        sealing: Sealing,
        progress: Progress,
    ) -> None:
        """``target`` is the wanted size of a segment in bytes."""
        self._folder = folder
        self._store_name = store_name
        self._geometry = geometry
        self._target = target
        self._recipients = recipients
        self._sealing = sealing
        self._progress = progress
        self._made = 0
        self.unreadable = 0
        self.failures: dict[bytes, str] = {}

    def stripes(
        self, work: Pieces, may_begin: Callable[[int, int], bool]
    ) -> Generator[tuple[StagedStripe, bool]]:
        """Yield the stripes of all pieces in ``work``, each with whether more may follow.

        They are numbered from 1, as on an empty set. Some are sealed while those before are being
        protected; none is begun unless ``may_begin``, which is given how many stripes are under
        way and how many pieces are in them, agrees.
        """
        begun: deque[_Begun] = deque()
        protected: deque[_Protected] = deque()
        number = 1
        while True:
            pieces = sum(one.pieces for one in begun) + sum(one.pieces for one in protected)
            free = work.next is not None and len(begun) < _AHEAD and len(protected) < _AHEAD
            if free and may_begin(len(begun) + len(protected), pieces):
                begun.append(self._begin(work))
            elif protected and protected[0].parity.done():
                stripe = self._end(protected.popleft(), number)
                if stripe.extents:
                    number += 1
                    yield stripe, bool(begun or protected or work.next)
                else:
                    stripe.remove()
            elif begun and all(segment.done() for segment in begun[0].segments):
                protected.append(self._protect(begun.popleft()))
            elif begun or protected:
                _wait(begun, protected)
            elif work.next is None:
                return

    def _begin(self, work: Pieces) -> _Begun:
        """Deal the next pieces out to a stripe's segments."""
        self._made += 1
        orders = [
            SegmentOrder(self._path(self._made, position), self._made, position, self._deal(work))
            for position in range(self._geometry.k)
        ]
        size = sum(order.size for order in orders)
        segments = tuple(self._sealing.seal(order) for order in orders)
        pieces = sum(len(order.selected) for order in orders)
        return _Begun(self._made, pieces, size, segments)

    def _deal(self, work: Pieces) -> tuple[Selected, ...]:
        dealt: list[Selected] = []
        size = empty_size(self._recipients)
        most = max(1, MOST_PIECES // self._geometry.k)
        while (upcoming := work.next) is not None and len(dealt) < most:
            size += bound(self._store_name, upcoming.piece, self._recipients)
            if dealt and size > self._target:
                break
            dealt.append(work.take())
        return tuple(dealt)

    def _protect(self, stripe: _Begun) -> _Protected:
        """Take what was sealed, and begin its parity."""
        sealed = []
        for future in stripe.segments:
            one = future.result()
            ended = sum(extent.part == extent.parts for extent in one.extents)
            self._progress.advance(ended, sum(extent.size for extent in one.extents))
            self._note(one.failures)
            sealed.append(one)
        k, m = self._geometry.k, self._geometry.m
        outputs = tuple(self._path(stripe.serial, k + i) for i in range(m))
        parity = self._sealing.protect([one.file.path for one in sealed], outputs, stripe.size)
        return _Protected(stripe.serial, stripe.pieces, tuple(sealed), outputs, parity)

    def _note(self, failures: Mapping[bytes, str]) -> None:
        self.unreadable += len(failures)
        self.failures.update(islice(failures.items(), _NAMED - len(self.failures)))

    def _end(self, stripe: _Protected, number: int) -> StagedStripe:
        """Wait for the parity; stripes without an object before this one shift its number."""
        paths = (*(one.file.path for one in stripe.sealed), *stripe.parity_paths)
        none: tuple[bytes | None, int | None] = (None, None)
        indexes = [
            *((one.file.sealed_index, one.file.index_offset) for one in stripe.sealed),
            *[none] * self._geometry.m,
        ]
        files = tuple(
            StagedFile(position, path, found.blocks, found.sha256, found.checksum, *index)
            for position, (path, found, index) in enumerate(
                zip(paths, stripe.parity.result(), indexes, strict=True)
            )
        )
        extents = tuple(extent for one in stripe.sealed for extent in one.extents)
        whole = StagedStripe(stripe.serial, files, extents)
        return whole if number == stripe.serial else whole.renumbered(number)

    def _path(self, serial: int, position: int) -> Path:
        return self._folder / f"stripe-{serial:06d}-{position:02d}"
