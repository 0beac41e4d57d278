"""The last tape file of a volume that is written anew, from what the catalog has of its set."""

from collections.abc import Sequence
from pathlib import Path

from restore_lib.catalog.tape_sets import SetFile
from restore_lib.library.base import Drive
from restore_lib.tape.label import Label
from restore_lib.tape.mounted import sealed_index
from restore_lib.tape.streams import digest_of
from restore_lib.tape.volume_index import (
    Stripe,
    StripeMember,
    StripeTable,
    TapeFile,
    VolumeIndex,
    encode_stripe_table,
    write_volume_index,
)


def write_closing_file(
    drive: Drive, path: Path, label: Label, files: Sequence[SetFile]
) -> TapeFile:
    """Write volume index or stripe table of the mounted volume to ``path``, and say what it is.

    ``files`` are those of the whole set, by stripe, the volume's own under its own barcode. The
    indexes of a data volume's segments are read from the volume; MediumError when one is not there.
    """
    if label.is_parity:
        path.write_bytes(encode_stripe_table(_stripe_table(label, files)))
        with path.open("rb") as closing:
            size, sha256 = digest_of(closing)
        number = len({file.stripe for file in files}) + 1
        return TapeFile(number, size // label.block_size, sha256)
    own = [file for file in files if file.position == label.position]
    listed = tuple(TapeFile(file.stripe, file.blocks, file.sha256) for file in own)
    sealed = (
        (file.stripe, sealed_index(drive, label.block_size, file.stripe, file.index_offset or 0))
        for file in own
    )
    index = VolumeIndex(label.barcode, label.tape_set, listed)
    return write_volume_index(path, index, sealed, label.block_size)


def _stripe_table(label: Label, files: Sequence[SetFile]) -> StripeTable:
    members: dict[int, list[StripeMember]] = {}
    for file in files:
        members.setdefault(file.stripe, []).append(
            StripeMember(file.position, file.barcode, file.blocks, file.sha256)
        )
    return StripeTable(
        barcode=label.barcode,
        tape_set=label.tape_set,
        k=label.k,
        m=label.m,
        position=label.position,
        block_size=label.block_size,
        stripes=tuple(Stripe(number, tuple(found)) for number, found in members.items()),
    )
