"""Live payloads of a set, brought onto the staging disk as they are stored: no key is needed."""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from restore_lib.backup.stage import MOST_PIECES
from restore_lib.catalog.batches import BatchExtent
from restore_lib.catalog.liveness import LiveExtent, live_extents
from restore_lib.catalog.tape_sets import SetFile, TapeSet
from restore_lib.errors import DigestMismatch, DiskFull, MediumError
from restore_lib.integrity.member_files import MOST_BLOCKS, collector
from restore_lib.model.volume import Health
from restore_lib.restore.gather import Gathered, SetShape, Sourcing
from restore_lib.restore.mount import Mounts
from restore_lib.site import Site

_FETCH = 5000


@dataclass(frozen=True, slots=True)
class Source:
    """A set that is read: its tape files, and its volumes that are here, the sound ones first."""

    held: TapeSet
    files: Sequence[SetFile]
    volumes: Sequence[str]

    @property
    def shapes(self) -> Mapping[str, SetShape]:
        """The set's geometry by its id."""
        held = self.held
        return {held.id: SetShape(held.k, held.m, held.block_size)}

    def without(self, barcodes: Iterable[str]) -> Sequence[str]:
        """Return its volumes without some of them."""
        left_out = set(barcodes)
        return [barcode for barcode in self.volumes if barcode not in left_out]


@dataclass
class Page:
    """Payloads on the staging disk, each with the SHA-256 that it was stored with.

    ``unreadable`` tells why others could not be read, by the id of the extent.
    """

    extents: list[LiveExtent] = field(default_factory=list)
    unreadable: dict[int, str] = field(default_factory=dict)
    _trays: dict[int, "_Tray"] = field(default_factory=dict)

    def payload(self, extent: LiveExtent) -> Iterator[bytes]:
        """Yield the stored bytes of one of its extents."""
        return self._trays[extent.id].payload(extent)

    def take(self, tray: "_Tray", sound: Iterable[LiveExtent]) -> None:
        """Add what a tray holds of payloads that have proved sound."""
        for extent in sound:
            self.extents.append(extent)
            self._trays[extent.id] = tray

    def close(self) -> None:
        """Remove its payloads from the staging disk."""
        for tray in dict.fromkeys(self._trays.values()):
            tray.close()
        self._trays.clear()


class _Tray:
    """What one pass over some volumes of a set has brought."""

    def __init__(self, source: Source, volumes: Sequence[str], folder: Path) -> None:
        self._held = source.held
        self._folder = folder
        folder.mkdir()
        files = {
            (source.held.id, f.stripe, f.position): (f.barcode, f.blocks) for f in source.files
        }
        self._sourcing = Sourcing(volumes, source.shapes, files)
        self._gathered = Gathered(folder)

    def gather(self, extents: Sequence[LiveExtent], mounts: Mounts) -> None:
        where = [_lies(self._held, extent) for extent in extents]
        self._sourcing.gather(where, self._gathered, collector(mounts, self._gathered))

    def payload(self, extent: LiveExtent) -> Iterator[bytes]:
        return self._sourcing.payload(_lies(self._held, extent), self._gathered)

    def check(self, extent: LiveExtent) -> None:
        """Raise DigestMismatch or MediumError unless the payload is as it was stored."""
        digest = hashlib.sha256()
        for piece in self.payload(extent):
            digest.update(piece)
        if digest.hexdigest() != extent.stored_sha256:
            raise DigestMismatch(
                f"{extent.member} in tape file {extent.stripe} of volume {extent.barcode} is not "
                f"what was written.",
                volume=extent.barcode,
            )

    def close(self) -> None:
        self._gathered.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def read_page(source: Source, extents: Sequence[LiveExtent], mounts: Mounts, folder: Path) -> Page:
    """Bring payloads of one set onto the disk below ``folder``.

    Blocks that no drive can read are rebuilt row by row from any k others. Where a payload is not
    what was stored all the same, a volume gives wrong bytes without its drive noticing: its own is
    left out then, and one of the others after the other. What nothing helps is named. DiskFull when
    there is no room.
    """
    page = Page()
    trays: list[_Tray] = []
    try:
        doubtful = _read(page, source, source.volumes, extents, mounts, trays, folder)
        for barcode in dict.fromkeys(extent.barcode for extent in doubtful):
            left = [extent for extent in doubtful if extent.barcode == barcode]
            mounts.mark(barcode, Health.SUSPECT, page.unreadable[left[0].id])
            for left_out in _suspicions(source, barcode):
                if left:
                    volumes = source.without(left_out)
                    left = _read(page, source, volumes, left, mounts, trays, folder)
    except BaseException:
        for tray in trays:
            tray.close()
        raise
    page.extents.sort(key=lambda extent: extent.place)
    return page


def _suspicions(source: Source, barcode: str) -> Iterator[set[str]]:
    """Yield the volumes to leave out in one try after the other."""
    yield {barcode}
    yield from ({barcode, other} for other in source.volumes if other != barcode)


def _read(
    page: Page,
    source: Source,
    volumes: Sequence[str],
    extents: Sequence[LiveExtent],
    mounts: Mounts,
    trays: list[_Tray],
    folder: Path,
) -> list[LiveExtent]:
    """Add what can be read from ``volumes`` to the page; return what gives wrong bytes."""
    tray = _Tray(source, volumes, folder / f"tray-{len(trays):03d}")
    trays.append(tray)
    tray.gather(extents, mounts)
    sound: list[LiveExtent] = []
    wrong: list[LiveExtent] = []
    for extent in extents:
        try:
            tray.check(extent)
        except DigestMismatch as error:
            page.unreadable[extent.id] = error.message
            wrong.append(extent)
        except MediumError as error:
            page.unreadable.setdefault(extent.id, error.message)
        else:
            page.unreadable.pop(extent.id, None)
            sound.append(extent)
    page.take(tray, sound)
    if not sound:
        tray.close()
    return wrong


def pages(
    site: Site, source: Source, room: Callable[[], int], skip: Callable[[LiveExtent], bool]
) -> Iterator[list[LiveExtent]]:
    """Yield the live extents of a set in the order in which they lie, as many as fit the disk.

    ``room`` gives the bytes that their blocks may take; DiskFull when one alone takes more. Those
    that ``skip`` accepts are left out.
    """
    page: list[LiveExtent] = []
    blocks = left = 0
    last: tuple[int, int, int] | None = None
    size = source.held.block_size
    for extent in _all_live(site, source.held.id):
        if skip(extent):
            continue
        first, end = extent.offset // size, -(-(extent.offset + extent.stored_size) // size)
        shared = last == (extent.position, extent.stripe, first)
        needed = end - first - shared
        if page and (needed > left or len(page) >= MOST_PIECES or blocks + needed > MOST_BLOCKS):
            yield page
            page, blocks, needed = [], 0, end - first
        if not page:
            left = room() // size
            if needed > left:
                raise DiskFull(
                    f"The staging disk {site.staging} has room for {left * size:,} bytes of "
                    f"payloads; one of set {source.held.id} takes {needed * size:,}."
                )
        page.append(extent)
        blocks += needed
        left -= needed
        last = (extent.position, extent.stripe, end - 1)
    if page:
        yield page


def _all_live(site: Site, tape_set: str) -> Iterator[LiveExtent]:
    after: tuple[int, int, int] | None = None
    while True:
        with site.catalog.read() as connection:
            found = live_extents(connection, tape_set, after, _FETCH)
        yield from found
        if len(found) < _FETCH:
            return
        after = found[-1].place


def _lies(held: TapeSet, extent: LiveExtent) -> BatchExtent:
    return BatchExtent(
        part=extent.part,
        stripe=extent.stripe,
        position=extent.position,
        barcode=extent.barcode,
        tape_set=held.id,
        member=extent.member,
        offset=extent.offset,
        size=extent.size,
        sha256=extent.sha256,
        stored_size=extent.stored_size,
        stored_sha256=extent.stored_sha256,
    )
