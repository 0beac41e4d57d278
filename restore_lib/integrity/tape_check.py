"""Reading a mounted volume through, and saying what is wrong with it; needs no key."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from typing import Any

from restore_lib.catalog.verifications import ExpectedFile, ExpectedMember, ExpectedVolume
from restore_lib.errors import (
    CorruptTapeFile,
    EndOfData,
    ForeignTape,
    MediumError,
    UnknownFormat,
)
from restore_lib.integrity.member_check import MemberCheck
from restore_lib.library.base import Drive
from restore_lib.tape.mounted import read_label
from restore_lib.tape.segment_reader import verify_segment
from restore_lib.tape.streams import BlockReader
from restore_lib.tape.volume_index import (
    begins_closing_file,
    decode_stripe_table,
    read_volume_index,
)

MAX_BAD_BLOCKS = 16
NOT_READ = "it, and what lies behind it in its tape file, was not read"
Members = Callable[[int], Sequence[ExpectedMember]]


def _no_members(_number: int) -> Sequence[ExpectedMember]:
    return ()


class Damage(StrEnum):
    """How much of a volume is wrong, or that another volume, or none, is in its place."""

    NONE = "none"
    SOME = "some"
    ALL = "all"
    STRANGER = "stranger"
    MISLABELLED = "mislabelled"
    ABSENT = "absent"


@dataclass
class Findings:
    """What reading a volume has shown so far; ``files`` and ``bytes`` were read to their end."""

    damage: Damage = Damage.NONE
    files: int = 0
    bytes: int = 0
    problems: list[dict[str, Any]] = field(default_factory=list)

    def add(self, file: int | None, member: str | None, what: str) -> None:
        """Add a problem of a tape file, or of one member of it."""
        self.problems.append({"file": file, "member": member, "what": what})


def check_volume(
    drive: Drive,
    cluster: str,
    expected: ExpectedVolume,
    done: Callable[[int, int], None],
    members: Members = _no_members,
) -> Findings:
    """Read the label and every tape file of the mounted volume and compare them with the catalog.

    Data volumes are checked member by member against the tape's own manifests and against
    ``members``, the objects that the catalog has in a tape file; parity volumes as whole tape
    files; both against the catalog's digests; a closed volume's last tape file, if it has one, by
    itself and against the catalog. ``done`` is told the tape files and bytes read. What
    is wrong with the tape is in the result; what the drive raises for other reasons (LeaseLost,
    LibraryOffline) passes.
    """
    findings = Findings()
    findings.damage = _check_label(drive, cluster, expected, findings)
    if findings.damage is not Damage.NONE:
        return findings
    unreadable = 0
    for file in expected.files:
        before = len(findings.problems)
        try:
            blocks = _check_file(drive, expected, file, members, findings)
        except (MediumError, EndOfData) as error:
            unreadable += 1
            findings.add(file.number, None, f"it can't be read to its end: {error.message}")
        else:
            findings.files += 1
            findings.bytes += blocks * expected.block_size
            done(1, blocks * expected.block_size)
        if len(findings.problems) > before:
            findings.damage = Damage.SOME
    if unreadable and unreadable == len(expected.files):
        findings.damage = Damage.ALL
    elif expected.closed and not _closing_file_is_sound(drive, expected, findings):
        findings.damage = Damage.SOME
    return findings


def _check_label(
    drive: Drive, cluster: str, expected: ExpectedVolume, findings: Findings
) -> Damage:
    try:
        label = read_label(drive)
    except (ForeignTape, UnknownFormat, MediumError) as error:
        findings.add(0, None, error.message)
        damaged = isinstance(error, MediumError) or isinstance(error.__cause__, CorruptTapeFile)
        return Damage.ALL if damaged else Damage.STRANGER
    if label is None:
        findings.add(0, None, "the tape is blank")
        return Damage.ALL
    ours = (cluster, expected.barcode, expected.tape_set, expected.position)
    found = (label.cluster, label.barcode, label.tape_set, label.position)
    if found != ours:
        what = "the label is of cluster {}, volume {}, set {}, position {}".format(*found)
        findings.add(0, None, what)
        return Damage.MISLABELLED
    return Damage.NONE


def _check_file(
    drive: Drive, volume: ExpectedVolume, file: ExpectedFile, members: Members, findings: Findings
) -> int:
    """Read one tape file to its end, add what is wrong with it, and return its blocks."""
    if volume.position < volume.k:
        known = members(file.number)
        check = MemberCheck((), known)
        try:
            reading = _Reading(drive, file.number, volume.block_size)
            check = MemberCheck(reading, known)
            sha256 = _check_members(check, file, findings)
        finally:
            _add_objects(check, file, findings)
    else:
        reading = _Reading(drive, file.number, volume.block_size)
        sha256 = _digest(reading)
    if reading.bad:
        blocks = ", ".join(map(str, reading.bad))
        findings.add(file.number, None, f"these blocks can't be read: {blocks}")
    elif reading.blocks != file.blocks:
        what = f"it has {reading.blocks} blocks; the catalog has {file.blocks}"
        findings.add(file.number, None, what)
    elif sha256 not in {None, file.sha256}:
        what = f"its SHA-256 is {sha256}; the catalog has {file.sha256}"
        findings.add(file.number, None, what)
    return reading.blocks


def _closing_file_is_sound(drive: Drive, expected: ExpectedVolume, findings: Findings) -> bool:
    """Check volume index or stripe table.

    A volume that had no room for one has none. Nor has one of a set that was closed as committed,
    where something may follow that never was, as after a kill or when another volume failed.
    """
    number = len(expected.files) + 1
    try:
        reading = _Reading(drive, number, expected.block_size)
        first = next(reading, b"")
        is_parity = expected.position >= expected.k
        closes = not first or bool(reading.bad) or begins_closing_file(first, is_parity=is_parity)
    except EndOfData:
        closes = False
    except MediumError as error:
        findings.add(number, None, f"the closing tape file: {error.message}")
        return False
    if not closes:
        return True
    if not first:
        findings.add(number, None, "the closing tape file is empty")
        return False
    try:
        listed = _listed_files(expected, BlockReader(chain([first], reading)))
    except (CorruptTapeFile, UnknownFormat, MediumError, EndOfData) as error:
        findings.add(number, None, f"the closing tape file: {error.message}")
        return False
    if listed != [(file.number, file.blocks, file.sha256) for file in expected.files]:
        findings.add(number, None, "the closing tape file lists other tape files than the catalog")
        return False
    return True


def _listed_files(expected: ExpectedVolume, stream: BlockReader) -> list[tuple[int, int, str]]:
    """Return number, blocks and SHA-256 of this volume's tape files by its closing tape file."""
    if expected.position < expected.k:
        index, sealed = read_volume_index(stream)
        for _ in sealed:
            pass
        return [(file.file, file.blocks, file.sha256) for file in index.files]
    return [
        (stripe.stripe, member.blocks, member.sha256)
        for stripe in decode_stripe_table(stream).stripes
        for member in stripe.members
        if member.barcode == expected.barcode
    ]


def _add_objects(check: MemberCheck, file: ExpectedFile, findings: Findings) -> None:
    """Add the objects whose bytes are not those that were written, once each."""
    named = {each["member"] for each in findings.problems if each["file"] == file.number}
    for name in check.wrong:
        if name not in named:
            findings.add(file.number, name, "its bytes are not those that were written")
    if check.unread is not None and check.unread not in named:
        findings.add(file.number, check.unread, NOT_READ)


def _check_members(reading: Iterator[bytes], file: ExpectedFile, findings: Findings) -> str | None:
    """Check a segment by its own manifest; return its digest, None when it does not parse."""
    try:
        check = verify_segment(reading)
    except CorruptTapeFile as error:
        findings.add(file.number, None, error.message)
        for _ in reading:
            pass
        return None
    for name in check.bad:
        findings.add(file.number, name, "its bytes are not those of the manifest")
    for name in check.missing:
        findings.add(file.number, name, "it is not there")
    return check.sha256


def _digest(reading: "_Reading") -> str:
    digest = hashlib.sha256()
    for block in reading:
        digest.update(block)
    return digest.hexdigest()


class _Reading(Iterator[bytes]):
    """The blocks of a tape file; zeros stand in for unreadable ones, whose numbers are ``bad``.

    So the members around an unreadable block are still checked. MediumError when there are more
    than ``MAX_BAD_BLOCKS``, since each costs a drive minutes.
    """

    def __init__(self, drive: Drive, file: int, block_size: int) -> None:
        self.blocks = 0
        self.bad: list[int] = []
        self._drive = drive
        self._file = file
        self._zeros = bytes(block_size)
        self._ended = False
        drive.locate(file)

    def __next__(self) -> bytes:
        if self._ended:
            raise StopIteration
        try:
            block = self._drive.read()
        except MediumError:
            if len(self.bad) == MAX_BAD_BLOCKS:
                raise
            self._drive.locate(self._file, self.blocks + 1)
            self.bad.append(self.blocks)
            block = self._zeros
        if block is None:
            self._ended = True
            raise StopIteration
        self.blocks += 1
        return block
