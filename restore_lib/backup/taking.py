"""What a tape set can still take: whether its volumes can be written to, and how much fits them."""

from collections.abc import Sequence

from sqlalchemy import Connection

from restore_lib.backup.stage import StagedStripe
from restore_lib.catalog import tape_sets
from restore_lib.catalog.tape_sets import TapeSet
from restore_lib.catalog.volumes import volumes
from restore_lib.model.volume import Custody, Health


def unusable(connection: Connection, tape_set: TapeSet) -> list[str]:
    """Return the volumes of a set that can't be written to."""
    return [
        volume.barcode
        for volume in volumes(connection, tape_set.barcodes)
        if volume.health is not Health.OK or volume.custody is not Custody.MOUNTABLE
    ]


def used(connection: Connection, tape_set: TapeSet) -> int:
    """Return the bytes that the fullest volume of a set holds already."""
    held = dict.fromkeys(tape_set.barcodes, 0)
    for file in tape_sets.files_of_set(connection, tape_set.id):
        held[file.barcode] += file.blocks * tape_set.block_size
    return max(held.values())


def fitting(
    tape_set: TapeSet, staged: Sequence[StagedStripe], used_bytes: int, volume_size: int
) -> int:
    """Return how many stripes have room on a set whose fullest volume holds ``used_bytes``.

    A blank set takes one of whatever size: its volumes tell whether that fits.
    """
    for count, stripe in enumerate(staged):
        used_bytes += stripe.size_on(tape_set.block_size)
        if used_bytes > volume_size and (count or tape_set.stripes):
            return count
    return len(staged)
