"""What a rebuild of the catalog can't read from a volume, computed from k others of its set.

Of a lost segment only its end, where its index is, is computed where its digest is known from
elsewhere; else all of it. The blocks that this takes are staged on disk, volume by volume, so one
drive is enough.
"""

import hashlib
import io
import mmap
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from restore_lib.catalog.findings import Findings, FoundFile, FoundSet
from restore_lib.catalog.leases import CatalogLeases
from restore_lib.errors import CorruptTapeFile, EndOfData, MediumError, VolumeAbsent
from restore_lib.integrity.rebuild_sets import KnownSet, Lost, state_of
from restore_lib.library.base import Drive
from restore_lib.library.mounting import mounted
from restore_lib.model.progress import Progress, Silent
from restore_lib.site import Site
from restore_lib.tape import tar
from restore_lib.tape.members import INDEX
from restore_lib.tape.parity import Rebuilder
from restore_lib.tape.segment_reader import decode_index
from restore_lib.tape.streams import disk_errors, read_exactly

_FIRST_TAIL = 1 << 20
_GROWTH = 16
_AT_ONCE = 1 << 20


def compute_lost(
    site: Site, findings: Findings, folder: Path, progress: Progress | None = None
) -> None:
    """Note all tape files and indexes that volumes did not tell and that parity can.

    A volume that fails at this is passed over for the tape files concerned, while others can do
    without it. Killed and run again, it goes on behind what is noted. Raises DiskFull when
    ``folder`` has no room for the blocks of one stripe, KeyUnusable when no identity opens an
    index, and what the library raises when it can't serve now.
    """
    progress = progress or Silent()
    for found in findings.sets():
        _Repair(site, findings, found, folder, progress).run()


@dataclass(frozen=True, slots=True)
class _Range:
    """Rows ``first`` up to, not including, ``end`` of a lost tape file, and where they are from."""

    lost: Lost
    first: int
    end: int
    sources: tuple[int, ...]

    @property
    def rows(self) -> int:
        return self.end - self.first


class _Repair:
    def __init__(
        self, site: Site, findings: Findings, found: FoundSet, folder: Path, progress: Progress
    ) -> None:
        self._site = site
        self._findings = findings
        self._set = found
        self._folder = folder
        self._progress = progress
        self._leases = CatalogLeases(site.catalog, site.clock)
        self._tail: dict[tuple[int, int], int] = {}
        self._hopeless: set[tuple[int, int]] = set()

    def run(self) -> None:
        while True:
            state = state_of(self._findings, self._set)
            todo = [
                lost
                for lost in state.lost
                if lost.possible and (lost.stripe, lost.position) not in self._hopeless
            ]
            if not todo:
                return
            self._progress.stage(f"parity of {self._set.id}", objects=len(todo))
            self._round(state, self._batch([self._range(lost) for lost in todo]))

    def _range(self, lost: Lost) -> _Range:
        end = lost.rows
        tail = self._tail.get((lost.stripe, lost.position), _FIRST_TAIL // self._set.block_size + 1)
        first = 0 if lost.whole else max(0, end - tail)
        return _Range(lost, first, end, lost.sources)

    def _batch(self, ranges: Sequence[_Range]) -> list[_Range]:
        """Return as many of ``ranges`` as half of the free disk holds, at least one."""
        reserve = self._site.config.staging.reserve
        room = max(0, shutil.disk_usage(self._folder).free - reserve) // 2
        batch: list[_Range] = []
        for one in ranges:
            room -= (len(one.sources) + 1) * one.rows * self._set.block_size
            if batch and room < 0:
                break
            batch.append(one)
        return batch

    def _round(self, state: KnownSet, batch: Sequence[_Range]) -> None:
        with self._scratch() as folder, ExitStack() as stack:
            staged: dict[int, BinaryIO] = {}
            for position in sorted({p for one in batch for p in one.sources}):
                file = staged[position] = stack.enter_context(
                    (folder / f"{position:02d}").open("w+b")
                )
                wanted = [one for one in batch if position in one.sources]
                with disk_errors(folder):
                    if not self._collect(state, position, wanted, file):
                        return
            offsets = dict.fromkeys(staged, 0)
            for one in batch:
                for position in one.sources:
                    staged[position].seek(offsets[position])
                    offsets[position] += one.rows * self._set.block_size
                with disk_errors(folder):
                    self._compute(one, staged, folder / "rebuilt")

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        for stale in self._folder.glob("parity-*"):
            shutil.rmtree(stale, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix="parity-", dir=self._folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _collect(
        self, state: KnownSet, position: int, wanted: Sequence[_Range], file: BinaryIO
    ) -> bool:
        """Stage the rows of one volume; False when it can't give them all, which is noted."""
        barcode = state.barcodes[position]
        holder = f"catalog rebuild of {self._set.id}"
        stripe = wanted[0].lost.stripe
        try:
            with mounted(
                self._site.library,
                self._leases,
                barcode,
                holder,
                ttl=self._site.config.library.lease,
            ) as drive:
                for one in wanted:
                    stripe = one.lost.stripe
                    self._copy(drive, one, state.blocks[stripe, position], file)
        except VolumeAbsent as error:
            for one in wanted:
                self._spoiled(one.lost.stripe, position, barcode, error.message)
            return False
        except (MediumError, EndOfData) as error:
            self._spoiled(stripe, position, barcode, error.message)
            return False
        file.flush()
        return True

    def _copy(self, drive: Drive, one: _Range, held: int, file: BinaryIO) -> None:
        size = self._set.block_size
        there = max(0, min(one.end, held) - one.first)
        if there:
            drive.locate(one.lost.stripe, one.first)
        for _ in range(there):
            block = drive.read()
            if block is None or len(block) != size:
                raise EndOfData(f"Tape file {one.lost.stripe} of {drive.barcode()} ends early.")
            file.write(block)
        file.seek((one.rows - there) * size, io.SEEK_CUR)
        file.truncate()

    def _spoiled(self, stripe: int, position: int, barcode: str, why: str) -> None:
        self._findings.note_spoiled(self._set.id, stripe, position, barcode, why)

    def _compute(self, one: _Range, staged: dict[int, BinaryIO], path: Path) -> None:
        lost, size = one.lost, self._set.block_size
        rebuilder = Rebuilder(self._set.k, self._set.m, size)
        at_once = max(1, _AT_ONCE // size)
        with path.open("w+b") as out:
            for first in range(0, one.rows, at_once):
                length = min(at_once, one.rows - first) * size
                row = {p: read_exactly(staged[p], length) for p in one.sources}
                out.write(rebuilder.rebuild(row, [lost.position])[lost.position])
            out.flush()
            if lost.position < self._set.k:
                self._segment(one, out)
            else:
                digest = _digest(out, one.rows * size)
                found = FoundFile(lost.stripe, lost.position, one.rows, digest)
                self._findings.note_file(self._set.id, found)
        self._progress.advance(objects=1)

    def _segment(self, one: _Range, out: BinaryIO) -> None:
        lost, size = one.lost, self._set.block_size
        where = (lost.stripe, lost.position)
        index = find_index(out)
        if index is None:
            if one.first == 0:
                self._give_up(lost, "no index is in what parity gives")
            self._tail[where] = one.rows * _GROWTH
            return
        offset, sealed = index
        end = offset + len(sealed) + -len(sealed) % tar.RECORD + len(tar.END)
        blocks = one.first + -(-end // size)
        what = f"{INDEX} of tape file {lost.stripe} of position {lost.position} of {self._set.id}"
        try:
            members = decode_index(io.BytesIO(sealed), self._site.identities, what=what)
        except CorruptTapeFile as error:
            self._give_up(lost, error.message)
            return
        known = self._findings.files(self._set.id, lost.stripe).get(lost.position)
        found = known or FoundFile(*where, blocks, _digest(out, blocks * size))
        at = one.first * size + offset
        self._findings.note_segment(self._set.id, found, at, members, parity=True)

    def _give_up(self, lost: Lost, why: str) -> None:
        self._hopeless.add((lost.stripe, lost.position))
        barcode = self._findings.named(self._set.id).get(lost.position, "")
        self._spoiled(lost.stripe, lost.position, barcode, f"rebuilt from parity: {why}")


def find_index(segment: BinaryIO) -> tuple[int, bytes] | None:
    """Return where the index begins in the end of a segment, in bytes, and the index as stored.

    ``segment`` begins at a whole block, and may have more zeros behind it than the segment had.
    None when the index, with its header, is not in it.
    """
    with mmap.mmap(segment.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = len(data)
        while (at := data.rfind(INDEX.encode() + b"\0", 0, at)) >= 0:
            if at % tar.RECORD:
                continue
            size = _size_in(data[at : at + tar.RECORD])
            start = at + tar.RECORD
            if size is not None and _zeros(data, start + size):
                return start, data[start : start + size]
    return None


def _size_in(header: bytes) -> int | None:
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except (tarfile.HeaderError, ValueError):
        return None
    return info.size if info.isreg() and info.name == INDEX else None


def _zeros(data: mmap.mmap, start: int) -> bool:
    """Return whether an end of archive begins at ``start``, and nothing but zeros follows."""
    if start + len(tar.END) > len(data):
        return False
    pieces: Iterator[bytes] = (data[at : at + _AT_ONCE] for at in range(start, len(data), _AT_ONCE))
    return all(piece.count(0) == len(piece) for piece in pieces)


def _digest(file: BinaryIO, size: int) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    read: Callable[[int], bytes] = file.read
    while size and (data := read(min(size, _AT_ONCE))):
        digest.update(data)
        size -= len(data)
    return digest.hexdigest()
