"""The closing tape file of a volume, written from what is known of its set's other tape files."""

from collections.abc import Callable, Iterable
from pathlib import Path

from restore_lib.tape.label import Label
from restore_lib.tape.streams import digest_of, disk_errors
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
    path: Path,
    label: Label,
    members: Iterable[tuple[int, StripeMember]],
    sealed: Callable[[int], bytes],
) -> TapeFile:
    """Write the volume index, or on a parity volume the stripe table, to ``path``.

    ``members`` are (stripe, tape file) of the whole set, in order of the stripes, and ``sealed``
    gives the index as stored of the volume's own tape file of a stripe. What ``sealed`` raises
    passes; DiskFull when there is no room for ``path``.
    """
    stripes: dict[int, list[StripeMember]] = {}
    for number, member in members:
        stripes.setdefault(number, []).append(member)
    if not label.is_parity:
        own = {
            number: member
            for number, found in stripes.items()
            for member in found
            if member.position == label.position
        }
        listed = tuple(TapeFile(number, m.blocks, m.sha256) for number, m in own.items())
        index = VolumeIndex(label.barcode, label.tape_set, listed)
        indexes = ((number, sealed(number)) for number in own)
        return write_volume_index(path, index, indexes, label.block_size)
    table = StripeTable(
        barcode=label.barcode,
        tape_set=label.tape_set,
        k=label.k,
        m=label.m,
        position=label.position,
        block_size=label.block_size,
        stripes=tuple(Stripe(number, tuple(found)) for number, found in stripes.items()),
    )
    with disk_errors(path):
        path.write_bytes(encode_stripe_table(table))
    with path.open("rb") as written:
        size, sha256 = digest_of(written)
    return TapeFile(len(stripes) + 1, size // label.block_size, sha256)
