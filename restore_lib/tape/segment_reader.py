"""Reading segments: the index with a key, and the check of every payload without one."""

import io
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, cast

from restore_lib.errors import CorruptTapeFile, DigestMismatch
from restore_lib.tape import tar
from restore_lib.tape.age import Identity
from restore_lib.tape.members import INDEX, Member, decode_lines
from restore_lib.tape.payload import decode_payload
from restore_lib.tape.streams import BlockReader, Readable

_SPOOL = 16 << 20


@dataclass(frozen=True, slots=True)
class SegmentCheck:
    """What reading a segment without a key showed.

    ``blocks`` and ``sha256`` (hex) are of the whole tape file. ``checked`` counts the members whose
    stored bytes agree with the manifest. ``bad`` names members whose bytes do not, or that it does
    not list; ``missing`` names those that it lists and that are not there.
    """

    blocks: int
    sha256: str
    checked: int
    bad: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether something was checked and nothing is bad or missing."""
        return self.checked > 0 and not self.bad and not self.missing


def verify_segment(blocks: Iterable[bytes]) -> SegmentCheck:
    """Check every member's stored bytes against the segment's own manifest; needs no key.

    Streaming. What ``blocks`` raises passes unchanged; CorruptTapeFile when the archive or the
    manifest can't be parsed, or one of manifest and index is not there.
    """
    reader = BlockReader(blocks)
    found: dict[str, str] = {}
    listed: dict[str, str] | None = None
    for entry in tar.entries(reader):
        if entry.name == tar.MANIFEST and listed is None:
            listed = tar.parse_manifest(entry.read())
        elif entry.name in found:
            raise CorruptTapeFile(f"Member {entry.name} comes twice.")
        else:
            found[entry.name] = entry.sha256()
    if listed is None or INDEX not in found:
        raise CorruptTapeFile(
            f"The segment has no {INDEX if listed is not None else tar.MANIFEST}."
        )
    bad = tuple(name for name, sha256 in found.items() if listed.get(name) != sha256)
    missing = tuple(name for name in listed if name not in found)
    return SegmentCheck(reader.blocks, reader.sha256, len(found) - len(bad), bad, missing)


def read_index(stream: Readable, identities: Sequence[Identity]) -> list[Member]:
    """Read a segment through and return its members in order.

    Raises CorruptTapeFile when the archive or index does not parse, its digest is not the
    manifest's, or index and members disagree; KeyUnusable when no identity opens a sound index.
    """
    sealed, stored = _read_through(stream)
    members = decode_index(io.BytesIO(sealed), identities, what=INDEX)
    indexed = {member.name: (member.offset, member.stored_size) for member in members}
    if indexed != stored:
        names = sorted(name for name, _ in indexed.items() ^ stored.items())
        raise CorruptTapeFile(f"The segment and its index disagree on {names[0]}.")
    return members


def read_sealed_index(stream: Readable) -> bytes:
    """Read a segment through and return its index as stored; needs no key.

    Raises CorruptTapeFile when it is not there or its digest is not the manifest's.
    """
    return _read_through(stream)[0]


def decode_index(sealed: Readable, identities: Sequence[Identity], *, what: str) -> list[Member]:
    """Decrypt and parse an index as stored; ``what`` names it in messages.

    Raises CorruptTapeFile when it is damaged, and KeyUnusable when no identity opens it.
    """
    with tempfile.SpooledTemporaryFile(max_size=_SPOOL) as plain:
        try:
            decode_payload(sealed, plain, identities, compressed=True, what=what)
        except DigestMismatch as error:
            raise CorruptTapeFile(f"{what} is damaged: {error.message}") from error
        plain.seek(0)
        return decode_lines(_lines(cast("BinaryIO", plain)), what)


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    while line := stream.readline():
        yield line


def _read_through(stream: Readable) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """Return the sealed index, and offset and size of each payload by name."""
    payloads: dict[str, tuple[int, int]] = {}
    listed: dict[str, str] = {}
    sealed: bytes | None = None
    for entry in tar.entries(stream):
        if entry.name == tar.MANIFEST:
            listed = tar.parse_manifest(entry.read())
        elif entry.name == INDEX:
            sealed = entry.read()
        else:
            payloads[entry.name] = (entry.offset, entry.size)
    if sealed is None:
        raise CorruptTapeFile(f"The segment has no {INDEX}.")
    if listed.get(INDEX) != tar.sha256_of(sealed):
        raise CorruptTapeFile(f"{INDEX} is not what {tar.MANIFEST} says.")
    return sealed, payloads
