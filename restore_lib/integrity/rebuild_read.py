"""Reading one volume for a rebuild of the catalog: its label, its closing file or its segments."""

import io
from collections.abc import Iterator, Sequence
from itertools import chain

from restore_lib.catalog.findings import Findings, Found, FoundFile, FoundVolume
from restore_lib.catalog.leases import CatalogLeases
from restore_lib.errors import (
    CorruptTapeFile,
    EndOfData,
    ForeignTape,
    KeyUnusable,
    MediumError,
    UnknownFormat,
    VolumeAbsent,
)
from restore_lib.library.base import Drive
from restore_lib.library.mounting import mounted
from restore_lib.model.progress import Progress, Silent
from restore_lib.site import Site
from restore_lib.tape import tar
from restore_lib.tape.age import Identity
from restore_lib.tape.label import Label
from restore_lib.tape.members import INDEX, Member
from restore_lib.tape.mounted import blocks, read_label
from restore_lib.tape.segment_reader import decode_index, read_index
from restore_lib.tape.streams import CHUNK, BlockReader
from restore_lib.tape.volume_index import (
    begins_closing_file,
    decode_stripe_table,
    read_volume_index,
)

_DAMAGED = (CorruptTapeFile, EndOfData, MediumError)


def read_volume(
    site: Site, findings: Findings, barcode: str, progress: Progress | None = None
) -> None:
    """Mount a volume, and note in ``findings`` what it is and what it holds.

    A closed volume tells all by its last tape file; of others, or where that is damaged, each tape
    file is read through. What can't be read is noted as such. Killed and run again, it goes on
    behind the last tape file that is noted. A volume that has left the library is passed over.

    Raises KeyUnusable when no identity opens an index that is sound, and DriveBusy, LibraryOffline
    or LeaseLost when the library can't serve now; the call may then be made again.
    """
    progress = progress or Silent()
    progress.stage(f"reading {barcode}", objects=1)
    leases = CatalogLeases(site.catalog, site.clock)
    holder = f"catalog rebuild of {barcode}"
    findings.forgive(barcode)
    try:
        with mounted(site.library, leases, barcode, holder, ttl=site.config.library.lease) as drive:
            found = _read(drive, site, findings, barcode)
    except VolumeAbsent:
        return
    except (MediumError, EndOfData) as error:
        found = FoundVolume(barcode, Found.UNREADABLE, problem=error.message)
    findings.note_volume(found)
    progress.advance(objects=1)


def index_offset(members: Sequence[Member]) -> int:
    """Return where in its segment the index of these members begins, in bytes."""
    manifest = sum(len(tar.manifest_line("0" * 64, member.name)) for member in members)
    manifest += len(tar.manifest_line("0" * 64, INDEX))
    last = members[-1] if members else None
    end = last.offset + last.stored_size if last else 0
    return _padded(_padded(end) + tar.RECORD + manifest) + tar.RECORD


def _padded(size: int) -> int:
    return size + -size % tar.RECORD


def _read(drive: Drive, site: Site, findings: Findings, barcode: str) -> FoundVolume:
    try:
        label = read_label(drive)
    except (ForeignTape, UnknownFormat) as error:
        damaged = isinstance(error.__cause__, CorruptTapeFile)
        state = Found.UNREADABLE if damaged else Found.FOREIGN
        return FoundVolume(barcode, state, problem=error.message)
    if label is None:
        return FoundVolume(barcode, Found.BLANK)
    if (label.cluster, label.barcode) != (site.config.cluster.id, barcode):
        problem = f"its label is that of volume {label.barcode} of cluster {label.cluster}"
        return FoundVolume(barcode, Found.FOREIGN, problem=problem)
    findings.note_label(label)
    return _Volume(drive, label, findings, site.identities).read()


class _Volume:
    """A mounted volume whose label is read."""

    def __init__(
        self, drive: Drive, label: Label, findings: Findings, identities: Sequence[Identity]
    ) -> None:
        self._drive = drive
        self._label = label
        self._findings = findings
        self._identities = identities

    def read(self) -> FoundVolume:
        count = max(0, self._drive.space_to_end().file - 1)
        closed, problem = (False, "") if not count else self._closing_file(count)
        files = count - closed
        if not closed or problem:
            for stripe in range(1, files + 1):
                problem = self._file(stripe) or problem
        return FoundVolume(
            self._label.barcode,
            Found.READ,
            self._label.tape_set,
            self._label.position,
            files,
            closed,
            problem,
        )

    def _closing_file(self, number: int) -> tuple[bool, str]:
        """Take the last tape file for a closing one; return whether it is, and what is wrong."""
        closing = False
        try:
            self._drive.locate(number)
            reading = blocks(self._drive)
            first = next(reading, b"")
            closing = begins_closing_file(first, is_parity=self._label.is_parity)
            if closing:
                stream = BlockReader(chain([first], reading))
                told = self._stripes(stream) if self._label.is_parity else self._segments(stream)
                if told != number - 1:
                    return True, f"its closing tape file tells of {told} tape files"
        except _DAMAGED as error:
            return closing, f"its closing tape file: {error.message}" if closing else ""
        except UnknownFormat as error:
            return closing, error.message
        return closing, ""

    def _stripes(self, stream: BlockReader) -> int:
        table = decode_stripe_table(stream)
        self._check_origin(table.barcode, table.tape_set)
        self._findings.note_hearsay(
            table.tape_set,
            (
                FoundFile(stripe.stripe, member.position, member.blocks, member.sha256)
                for stripe in table.stripes
                for member in stripe.members
            ),
            {(m.position, m.barcode) for stripe in table.stripes for m in stripe.members},
        )
        return len(table.stripes)

    def _segments(self, stream: BlockReader) -> int:
        index, sealed = read_volume_index(stream)
        self._check_origin(index.barcode, index.tape_set)
        held = {file.file: file for file in index.files}
        label = self._label
        for number, data in sealed:
            if self._findings.has(label.tape_set, number, label.position):
                continue
            what = f"{INDEX} of tape file {number} of volume {label.barcode}"
            members = self._opened(data, what, sealed)
            found = FoundFile(number, label.position, held[number].blocks, held[number].sha256)
            self._findings.note_segment(label.tape_set, found, index_offset(members), members)
        return len(held)

    def _opened(self, data: bytes, what: str, rest: Iterator[tuple[int, bytes]]) -> list[Member]:
        """Open an index; one that no key opens is damaged if the volume index says so."""
        try:
            return decode_index(io.BytesIO(data), self._identities, what=what)
        except KeyUnusable:
            for _ in rest:
                pass
            raise

    def _check_origin(self, barcode: str, tape_set: str) -> None:
        if (barcode, tape_set) != (self._label.barcode, self._label.tape_set):
            raise CorruptTapeFile(f"It is that of volume {barcode} of set {tape_set}.")

    def _file(self, stripe: int) -> str:
        """Read a tape file through and note it; return what is wrong with it."""
        label = self._label
        if self._findings.has(label.tape_set, stripe, label.position):
            return ""
        reader = BlockReader(blocks(self._drive))
        members: list[Member] = []
        try:
            self._drive.locate(stripe)
            if label.is_parity:
                while reader.read(CHUNK):
                    pass
            else:
                members = read_index(reader, self._identities)
        except _DAMAGED as error:
            why = f"tape file {stripe}: {error.message}"
            self._findings.note_spoiled(label.tape_set, stripe, label.position, label.barcode, why)
            return why
        found = FoundFile(stripe, label.position, reader.blocks, reader.sha256)
        if label.is_parity:
            self._findings.note_file(label.tape_set, found)
        else:
            self._findings.note_segment(label.tape_set, found, index_offset(members), members)
        return ""
