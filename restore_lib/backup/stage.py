"""Protect: pieces of objects into segments on the staging disk, stripe by stripe, with parity."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

from restore_lib.backup.pack import Geometry, bound
from restore_lib.backup.seal import Sealed, Sealing, SegmentOrder, Selected, StagedFile
from restore_lib.catalog.stripes import NewExtent
from restore_lib.model.progress import Progress
from restore_lib.tape.parity import ParitySummary
from restore_lib.tape.segment import empty_size

_MOST_PIECES = 100_000
"""Bounds what is held in memory of staged pieces, and the transaction that commits them."""
_AHEAD = 2
"""Stripes under way at once, so that no process waits for the last segment of a stripe."""


@dataclass(frozen=True, slots=True)
class StagedStripe:
    """All tape files of one stripe, by position, and the extents in them."""

    number: int
    files: tuple[StagedFile, ...]
    extents: tuple[NewExtent, ...]

    def renumbered(self, number: int) -> "StagedStripe":
        """Return the same stripe as number ``number`` of another set; its files stay the same."""
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

    number: int
    serial: int
    size: int
    segments: tuple["Future[Sealed]", ...]


@dataclass(frozen=True)
class _Protected:
    """A stripe whose segments are sealed and whose parity is being computed."""

    number: int
    sealed: tuple[Sealed, ...]
    parity_paths: tuple[Path, ...]
    parity: "Future[list[ParitySummary]]"


class Stager:
    """Stages the stripes of one tape set, as many as its volumes have room for.

    Segments are dealt out by what their objects can take at most, and sealed side by side.
    ``failures`` tells, by key, why objects could not be read.
    """

    def __init__(
        self,
        folder: Path,
        store_name: str,
        geometry: Geometry,
        recipients: int,
        sealing: Sealing,
        progress: Progress,
    ) -> None:
        self._folder = folder
        self._store_name = store_name
        self._geometry = geometry
        self._recipients = recipients
        self._sealing = sealing
        self._progress = progress
        self._made = 0
        self.failures: dict[bytes, str] = {}

    def stage(
        self, work: Pieces, *, first: int, used: int, target: int, most: int
    ) -> tuple[list[StagedStripe], bool]:
        """Stage pieces from ``work`` until it is empty, the set is full or ``most`` stripes are.

        Stripes of very many small objects are fewer, and end early. ``first`` is the number of the
        first stripe, ``used`` the bytes already on each volume, ``target`` the wanted size of a
        segment in bytes. Return the stripes, and whether the set is full while there is more work.
        """
        staged: list[StagedStripe] = []
        begun: deque[_Begun] = deque()
        protected: deque[_Protected] = deque()
        geometry = self._geometry
        held, full = 0, False
        while True:
            under_way = len(begun) + len(protected)
            more = work.next is not None and len(staged) + under_way < most and held < _MOST_PIECES
            worst = used + (under_way + 1) * geometry.segment_size
            crowded = (first > 1 or bool(staged) or under_way > 0) and worst > geometry.volume_size
            if more and not crowded and len(begun) < _AHEAD:
                one, pieces = self._begin(work, first + len(staged) + under_way, target)
                begun.append(one)
                held += pieces
            elif protected and (not begun or len(protected) >= _AHEAD):
                stripe = self._end(protected.popleft(), first + len(staged))
                if stripe.extents:
                    staged.append(stripe)
                    used += max(self._bytes(file) for file in stripe.files)
                else:
                    stripe.remove()
            elif begun:
                protected.append(self._protect(begun.popleft()))
            else:
                full = more and crowded
                return staged, full

    def _bytes(self, file: StagedFile) -> int:
        return file.blocks * self._geometry.block_size + 2 * len(file.sealed_index or b"")

    def _begin(self, work: Pieces, number: int, target: int) -> tuple[_Begun, int]:
        """Deal the next pieces out to a stripe's segments; return it and how many they are."""
        self._made += 1
        orders = [
            SegmentOrder(self._path(self._made, position), number, position, pieces)
            for position in range(self._geometry.k)
            for pieces in [self._deal(work, target)]
        ]
        size = sum(order.size for order in orders)
        segments = tuple(self._sealing.seal(order) for order in orders)
        return _Begun(number, self._made, size, segments), sum(len(o.selected) for o in orders)

    def _deal(self, work: Pieces, target: int) -> tuple[Selected, ...]:
        dealt: list[Selected] = []
        size = empty_size(self._recipients)
        most = max(1, _MOST_PIECES // self._geometry.k)
        while (upcoming := work.next) is not None and len(dealt) < most:
            size += bound(self._store_name, upcoming.piece, self._recipients)
            if dealt and size > target:
                break
            dealt.append(work.take())
        return tuple(dealt)

    def _protect(self, stripe: _Begun) -> _Protected:
        """Wait for the segments, and begin their parity."""
        sealed = []
        for future in stripe.segments:
            one = future.result()
            ended = sum(extent.part == extent.parts for extent in one.extents)
            self._progress.advance(ended, sum(extent.size for extent in one.extents))
            self.failures.update(one.failures)
            sealed.append(one)
        k, m = self._geometry.k, self._geometry.m
        outputs = tuple(self._path(stripe.serial, k + i) for i in range(m))
        parity = self._sealing.protect([one.file.path for one in sealed], outputs, stripe.size)
        return _Protected(stripe.number, tuple(sealed), outputs, parity)

    def _end(self, stripe: _Protected, number: int) -> StagedStripe:
        """Wait for the parity; stripes without an object before this one shift its number."""
        parity = [
            StagedFile(self._geometry.k + i, path, summary.blocks, summary.sha256, None, None)
            for i, (path, summary) in enumerate(
                zip(stripe.parity_paths, stripe.parity.result(), strict=True)
            )
        ]
        files = (*(one.file for one in stripe.sealed), *parity)
        extents = tuple(extent for one in stripe.sealed for extent in one.extents)
        whole = StagedStripe(stripe.number, files, extents)
        return whole if number == stripe.number else whole.renumbered(number)

    def _path(self, serial: int, position: int) -> Path:
        return self._folder / f"stripe-{serial:06d}-{position:02d}"
