"""Write: staged tape files onto one volume, each read back before anything is committed."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from restore_lib.catalog.tape_sets import TapeSet
from restore_lib.errors import (
    CorruptTapeFile,
    EndOfData,
    ForeignTape,
    MediumError,
    TapeLostData,
    UnknownFormat,
    VolumeFull,
)
from restore_lib.library.base import Drive
from restore_lib.tape.label import Label, decode_label, encode_label
from restore_lib.tape.mounted import blocks, first_file, read_label


def label_of(cluster: str, tape_set: TapeSet, position: int, barcode: str) -> Label:
    """Return the label of the volume that is member ``position`` of a set."""
    return Label(
        barcode=barcode,
        cluster=cluster,
        tape_set=tape_set.id,
        k=tape_set.k,
        m=tape_set.m,
        position=position,
        block_size=tape_set.block_size,
        created_at=tape_set.created_at,
        recipients=tape_set.recipients,
    )


def label_volume(drive: Drive, label: Label, former_set: str | None = None) -> None:
    """Write ``label`` to a blank volume; nothing happens when it is there already.

    A part of this very label, as a crash leaves it, is written over; so is the label that this
    volume had in ``former_set``, which is reclaimed. Raises ForeignTape when the volume has another
    label, or none of ours, and MediumError when the label does not read back.
    """
    data = encode_label(label)
    begun, ended = first_file(drive)
    if (not ended and data.startswith(begun)) or (
        ended and former_set is not None and _is_of(begun, label, former_set)
    ):
        drive.rewind()
        for start in range(0, len(data), label.block_size):
            drive.write(data[start : start + label.block_size])
        drive.write_filemark()
        if first_file(drive) != (data, True):
            raise MediumError(
                f"The label of volume {label.barcode} does not read back as written.",
                volume=label.barcode,
            )
    check_label(read_label(drive), label)


def _is_of(data: bytes, label: Label, tape_set: str) -> bool:
    """Return whether tape file 0 is the label that this very volume had in a set."""
    try:
        found = decode_label(data)
    except (CorruptTapeFile, UnknownFormat):
        return False
    expected = (label.cluster, label.barcode, tape_set)
    return (found.cluster, found.barcode, found.tape_set) == expected


def check_label(found: Label | None, expected: Label) -> None:
    """Raise ForeignTape unless ``found`` is the label that the catalog expects."""
    if found is None:
        raise TapeLostData(f"Volume {expected.barcode} is blank; the catalog has a label on it.")
    ours = (expected.cluster, expected.barcode, expected.tape_set, expected.position)
    theirs = (found.cluster, found.barcode, found.tape_set, found.position)
    if ours != theirs:
        raise ForeignTape(
            f"The volume with barcode {expected.barcode} has the label of {found.barcode}, "
            f"position {found.position} of set {found.tape_set} of cluster {found.cluster}; "
            f"expected position {expected.position} of set {expected.tape_set}."
        )


def append_files(drive: Drive, label: Label, committed: int, paths: Sequence[Path]) -> int:
    """Write tape files behind the last committed one, over whatever a crash left there.

    ``committed`` is the number of tape files behind the label that the catalog knows. Return how
    many of ``paths`` are on the medium now: fewer than all when the volume has no room for more.
    TapeLostData when the tape ends before the committed files; nothing is then written.
    """
    end = drive.space_to_end()
    if end.file < committed + 1:
        raise TapeLostData(
            f"Volume {label.barcode} ends after tape file {end.file - 1}; the catalog has "
            f"{committed} tape files on it."
        )
    drive.locate(committed + 1)
    for written, path in enumerate(paths):
        try:
            _append(drive, label.block_size, path)
        except VolumeFull:
            return written
    return len(paths)


class Digest(Protocol):
    """A digest or checksum that is fed block by block."""

    def update(self, data: bytes, /) -> None:
        """Take ``data`` behind all before."""
        ...

    def hexdigest(self) -> str:
        """Return the digest of all so far."""
        ...


def read_back(
    drive: Drive,
    label: Label,
    committed: int,
    expected: Sequence[tuple[int, str]],
    new_digest: Callable[[], Digest] = hashlib.sha256,
) -> None:
    """Read written tape files again; MediumError unless (blocks, digest) are as expected."""
    for number, wanted in enumerate(expected, committed + 1):
        if _digest(drive, number, new_digest()) != wanted:
            raise MediumError(
                f"Tape file {number} of volume {label.barcode} does not read back as written.",
                volume=label.barcode,
            )


def _append(drive: Drive, block_size: int, path: Path) -> None:
    with path.open("rb") as staged:
        while block := staged.read(block_size):
            drive.write(block)
    drive.write_filemark()


def _digest(drive: Drive, number: int, digest: Digest) -> tuple[int, str] | None:
    count = 0
    try:
        drive.locate(number)
        for block in blocks(drive):
            digest.update(block)
            count += 1
    except EndOfData:
        return None
    return count, digest.hexdigest()
