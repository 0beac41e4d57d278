"""The format as it is met on a mounted volume: its label, its tape files, its sealed indexes."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from restore_lib.errors import (
    CorruptTapeFile,
    EndOfData,
    ForeignTape,
    MediumError,
    TapeflowError,
    UnknownFormat,
)
from restore_lib.tape import tar
from restore_lib.tape.label import Label, decode_label
from restore_lib.tape.members import INDEX
from restore_lib.tape.streams import BlockReader, read_exactly

if TYPE_CHECKING:
    from restore_lib.library.base import Drive

_MAX_LABEL = 16 << 20


def read_label(drive: "Drive") -> Label | None:
    """Return the label of the volume in the drive, None when it is blank.

    Raises ForeignTape when tape file 0 is no label of ours, UnknownFormat when it is one of another
    version, and what the drive raises. The head is behind the label's filemark afterwards.
    """
    data, ended = first_file(drive)
    if not data and not ended:
        return None
    try:
        return decode_label(data)
    except UnknownFormat:
        raise
    except TapeflowError as error:
        raise ForeignTape(f"Volume {drive.barcode()}: {error.message}") from error


def first_file(drive: "Drive") -> tuple[bytes, bool]:
    """Return tape file 0, and whether a filemark ends it; of a huge one only the beginning.

    A blank volume has no bytes and no filemark; one that begins with a filemark has no bytes.
    """
    drive.rewind()
    data = bytearray()
    try:
        for block in blocks(drive):
            data += block
            if len(data) > _MAX_LABEL:
                break
    except EndOfData:
        return bytes(data), False
    return bytes(data), True


def blocks(drive: "Drive") -> Iterator[bytes]:
    """Yield the blocks from here to the next filemark, which is passed."""
    while (block := drive.read()) is not None:
        yield block


def sealed_index(drive: "Drive", block_size: int, file: int, offset: int) -> bytes:
    """Read the index, as stored, of a committed segment; ``offset`` is that of its payload.

    The last line of the manifest, which lies before it, proves it. MediumError when it is not
    there, or not as it was written.
    """
    start = max(0, offset - 3 * tar.RECORD)
    try:
        drive.locate(file, start // block_size)
        stream = BlockReader(blocks(drive))
        read_exactly(stream, start % block_size)
        manifest = read_exactly(stream, 2 * tar.RECORD).rstrip(b"\0")
        entry = next(tar.entries(stream), None)
        if entry is not None and entry.name == INDEX:
            sealed = entry.read()
            if manifest.endswith(tar.manifest_line(INDEX, tar.sha256_of(sealed)).encode()):
                return sealed
    except (EndOfData, CorruptTapeFile) as error:
        raise _no_index(drive, file) from error
    raise _no_index(drive, file)


def _no_index(drive: "Drive", file: int) -> MediumError:
    barcode = drive.barcode()
    return MediumError(
        f"Tape file {file} of volume {barcode} has no sound {INDEX}.", volume=barcode
    )
