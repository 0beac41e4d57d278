"""Write: staged tape files onto one volume, each read back before anything is committed."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from restore_lib.errors import ForeignTape, MediumError, TapeLostData
from restore_lib.library.base import Drive
from restore_lib.tape.label import Label, encode_label
from restore_lib.tape.mounted import blocks, read_label


def label_volume(drive: Drive, label: Label) -> None:
    """Write ``label`` to a blank volume; nothing happens when it is there already.

    ForeignTape when the volume is not blank and has another label, or none of ours.
    """
    found = read_label(drive)
    if found is None:
        drive.rewind()
        data = encode_label(label)
        for start in range(0, len(data), label.block_size):
            drive.write(data[start : start + label.block_size])
        drive.write_filemark()
        found = read_label(drive)
    check_label(found, label)


def check_label(found: Label | None, expected: Label) -> None:
    """Raise ForeignTape unless ``found`` is the label that the catalog expects."""
    if found is None:
        raise TapeLostData(f"Volume {expected.barcode} is blank; the catalog has data on it.")
    ours = (expected.cluster, expected.barcode, expected.tape_set, expected.position)
    theirs = (found.cluster, found.barcode, found.tape_set, found.position)
    if ours != theirs:
        raise ForeignTape(
            f"The volume with barcode {expected.barcode} has the label of {found.barcode}, "
            f"position {found.position} of set {found.tape_set} of cluster {found.cluster}; "
            f"expected position {expected.position} of set {expected.tape_set}."
        )


def append_files(drive: Drive, label: Label, committed: int, paths: Sequence[Path]) -> None:
    """Write tape files behind the last committed one, over whatever a crash left there.

    ``committed`` is the number of tape files behind the label that the catalog knows. On return all
    are on the medium. TapeLostData when the tape ends before them, VolumeFull when they don't fit.
    """
    end = drive.space_to_end()
    if end.file < committed + 1:
        raise TapeLostData(
            f"Volume {label.barcode} ends after tape file {end.file - 1}; the catalog has "
            f"{committed} tape files on it."
        )
    drive.locate(committed + 1)
    for path in paths:
        with path.open("rb") as staged:
            while block := staged.read(label.block_size):
                drive.write(block)
        drive.write_filemark()


def read_back(
    drive: Drive, label: Label, committed: int, expected: Sequence[tuple[int, str]]
) -> None:
    """Read written tape files again; MediumError unless (blocks, SHA-256) are as expected."""
    drive.locate(committed + 1)
    for number, wanted in enumerate(expected, committed + 1):
        digest, count = hashlib.sha256(), 0
        for block in blocks(drive):
            digest.update(block)
            count += 1
        if (count, digest.hexdigest()) != wanted:
            raise MediumError(
                f"Tape file {number} of volume {label.barcode} does not read back as written.",
                volume=label.barcode,
            )
