"""Tape files of one member of a set, brought onto the staging disk from the set's volumes."""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from restore_lib.catalog.batches import BatchExtent
from restore_lib.catalog.tape_sets import SetFile, TapeSet
from restore_lib.errors import DigestMismatch, DiskFull, MediumError, VolumeAbsent
from restore_lib.model.volume import Health
from restore_lib.restore.gather import Gathered, SetShape, Sourcing
from restore_lib.restore.mount import Mounts
from restore_lib.tape.streams import disk_errors

MOST_BLOCKS = 1 << 20
"""So many blocks are held at most at once, since each costs memory for its place."""
_PATIENCE = 64
"""After so many bad blocks on a volume the others are asked first, as each costs minutes."""


@dataclass(frozen=True, slots=True)
class Member:
    """One position of a tape set, with the tape files of the whole set."""

    tape_set: TapeSet
    position: int
    files: Sequence[SetFile]

    @property
    def own(self) -> list[SetFile]:
        """Its own tape files in order."""
        return [file for file in self.files if file.position == self.position]


def groups(
    member: Member, done: int, sources: int, folder: Path, reserve: int
) -> Iterator[list[SetFile]]:
    """Yield the member's tape files behind the first ``done`` in groups for one mount each.

    As many as half of the free disk holds, with the same of all ``sources``; DiskFull when
    there is no room for one.
    """
    group: list[SetFile] = []
    size = member.tape_set.block_size
    left = 0
    for file in member.own[done:]:
        needed = file.blocks * (sources + 1)
        if group and (needed > left or sum(f.blocks for f in group) * sources > MOST_BLOCKS):
            yield group
            group = []
        if not group:
            free = shutil.disk_usage(folder).free - reserve
            if free < needed * size:
                raise DiskFull(
                    f"The staging disk has {max(free, 0):,} bytes free beside its reserve; writing "
                    f"tape file {file.stripe} anew needs {needed * size:,}."
                )
            left = max(free // 2 // size, needed)
        group.append(file)
        left -= needed
    if group:
        yield group


def collector(mounts: Mounts, gathered: Gathered) -> Callable[[str, set[tuple[int, int]]], None]:
    """Return what collects blocks of a volume for ``Sourcing.gather``.

    A volume that can't be mounted gives nothing; one with bad blocks is marked as suspect, and read
    to the end only when it is asked again, after all others.
    """
    asked: set[str] = set()

    def collect(barcode: str, wanted: set[tuple[int, int]]) -> None:
        patience = None if barcode in asked else _PATIENCE
        asked.add(barcode)
        try:
            with mounts.reader(barcode) as reader:
                whole = gathered.collect(barcode, wanted, reader, patience)
        except (MediumError, VolumeAbsent):
            return
        if not whole:
            mounts.mark(barcode, Health.SUSPECT, "a block can't be read")

    return collect


def stage(
    mounts: Mounts, member: Member, sources: Sequence[str], group: Sequence[SetFile], folder: Path
) -> list[Path]:
    """Bring a group of the member's tape files onto the disk, each with the catalog's digest.

    Blocks that no drive can read are rebuilt row by row from any k others. Where the digest differs
    all the same, a volume gives wrong bytes without its drive noticing: the member itself is left
    out then, and one of the others after the other. MediumError when a row has too few blocks;
    DigestMismatch when nothing helps.
    """
    wrong: DigestMismatch | None = None
    member_itself = {file.barcode for file in group}
    for left_out in _suspicions(sources, member_itself):
        used = [barcode for barcode in sources if barcode not in left_out]
        try:
            return _stage(mounts, member, used, group, folder)
        except DigestMismatch as error:
            wrong = error
        except MediumError as error:
            if wrong is None:
                raise
            wrong.add_note(error.message)
    raise wrong or DigestMismatch(f"Set {member.tape_set.id} has no volume to read.")


def _suspicions(sources: Sequence[str], member_itself: set[str]) -> Iterator[set[str]]:
    """Yield the volumes to leave out in one try after the other."""
    yield set()
    if not member_itself.isdisjoint(sources):
        yield member_itself
    yield from (member_itself | {barcode} for barcode in sources if barcode not in member_itself)


def _stage(
    mounts: Mounts, member: Member, sources: Sequence[str], group: Sequence[SetFile], folder: Path
) -> list[Path]:
    held = member.tape_set
    sourcing = Sourcing(
        sources,
        {held.id: SetShape(held.k, held.m, held.block_size)},
        {(held.id, f.stripe, f.position): (f.barcode, f.blocks) for f in member.files},
    )
    extents = [_whole(held, file) for file in group]
    blocks = folder / "blocks"
    blocks.mkdir()
    gathered = Gathered(blocks)
    try:
        sourcing.gather(extents, gathered, collector(mounts, gathered))
        return [
            _write(folder / f"file-{file.stripe:08d}", file, sourcing.payload(extent, gathered))
            for file, extent in zip(group, extents, strict=True)
        ]
    finally:
        gathered.close()
        shutil.rmtree(blocks, ignore_errors=True)


def _whole(held: TapeSet, file: SetFile) -> BatchExtent:
    size = file.blocks * held.block_size
    return BatchExtent(
        part=1,
        stripe=file.stripe,
        position=file.position,
        barcode=file.barcode,
        tape_set=held.id,
        member="",
        offset=0,
        size=size,
        sha256=file.sha256,
        stored_size=size,
        stored_sha256=file.sha256,
    )


def _write(path: Path, file: SetFile, blocks: Iterator[bytes]) -> Path:
    digest = hashlib.sha256()
    with disk_errors(path), path.open("wb") as out:
        for block in blocks:
            digest.update(block)
            out.write(block)
    if digest.hexdigest() != file.sha256:
        raise DigestMismatch(
            f"Tape file {file.stripe} of volume {file.barcode} is rebuilt with other bytes than "
            f"were written.",
            remedy="verify the volumes of its set; one gives wrong bytes",
            volume=file.barcode,
        )
    return path
