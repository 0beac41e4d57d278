"""The last tape file of a closed volume: volume index on data, stripe table on parity volumes."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from restore_lib.errors import CorruptTapeFile, UnknownFormat
from restore_lib.tape import tar
from restore_lib.tape.fields import Fields, to_json
from restore_lib.tape.label import FORMAT
from restore_lib.tape.members import INDEX
from restore_lib.tape.streams import Readable, digest_of, disk_errors

VOLUME_INDEX = "VOLUME-INDEX.json"
STRIPES = "STRIPES.json"


@dataclass(frozen=True, slots=True)
class TapeFile:
    """A tape file's number on its volume, its length in blocks and its SHA-256 (hex)."""

    file: int
    blocks: int
    sha256: str


@dataclass(frozen=True, slots=True)
class VolumeIndex:
    """The segments of one data volume."""

    barcode: str
    tape_set: str
    files: tuple[TapeFile, ...]


@dataclass(frozen=True, slots=True)
class StripeMember:
    """One tape file of a stripe: where it is, its length in blocks and its SHA-256 (hex)."""

    position: int
    barcode: str
    blocks: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Stripe:
    """Tape file ``stripe`` of every volume of a set that has one, parity volumes included."""

    stripe: int
    members: tuple[StripeMember, ...]


@dataclass(frozen=True, slots=True)
class StripeTable:
    """All stripes of a tape set, as a parity volume tells them."""

    barcode: str
    tape_set: str
    k: int
    m: int
    position: int
    block_size: int
    stripes: tuple[Stripe, ...]


def sealed_name(file: int) -> str:
    """Return the name in the volume index of the index of tape file ``file``."""
    return f"segments/{file:08d}/{INDEX}"


def write_volume_index(
    path: Path, index: VolumeIndex, sealed: Iterable[tuple[int, bytes]], block_size: int
) -> TapeFile:
    """Write the volume index as a tape file to ``path``, streaming, and return what it is.

    ``sealed`` gives, for each of ``index.files`` in order, its number and its index as stored
    (``SegmentSummary.sealed_index``); ValueError when it gives others. On return the file is on
    disk.
    """
    header = {
        "format": FORMAT,
        "barcode": index.barcode,
        "tape_set": index.tape_set,
        "segments": len(index.files),
        "files": [_plain(file) for file in index.files],
    }
    expected = [file.file for file in index.files]
    given: list[int] = []
    listed: list[str] = []
    with disk_errors(path), path.open("wb") as out:
        for name, data in _volume_members(to_json(header) + b"\n", sealed, given):
            listed.append(tar.manifest_line(name, tar.sha256_of(data)))
            out.write(b"".join((tar.header(name, len(data)), data, tar.padding(len(data)))))
        if given != expected:
            raise ValueError(f"indexes of tape files {given} are given, {expected} are needed")
        manifest = "".join(listed).encode()
        out.write(tar.archive({tar.MANIFEST: manifest}, tar.RECORD))
        out.write(bytes(-out.tell() % block_size))
        out.flush()
        os.fsync(out.fileno())
    with path.open("rb") as staged:
        size, sha256 = digest_of(staged)
    return TapeFile(len(index.files) + 1, size // block_size, sha256)


def read_volume_index(stream: Readable) -> tuple[VolumeIndex, Iterator[tuple[int, bytes]]]:
    """Read a volume index; return its header and an iterator over the indexes as stored.

    The iterator gives (tape file number, sealed index for ``decode_index``), one in memory at a
    time. Taking it to its end checks that all are there and that each digest agrees; until then an
    index that no identity opens may also be a damaged one. Both raise CorruptTapeFile;
    UnknownFormat for another version.
    """
    entries = tar.entries(stream)
    first = next(entries, None)
    if first is None or first.name != VOLUME_INDEX:
        raise CorruptTapeFile(f"The tape file does not begin with {VOLUME_INDEX}.")
    raw = first.read()
    fields = _checked_format(raw, VOLUME_INDEX)
    index = VolumeIndex(
        barcode=fields.text("barcode"),
        tape_set=fields.text("tape_set"),
        files=tuple(
            TapeFile(item.integer("file", least=1), item.integer("blocks"), item.digest("sha256"))
            for item in fields.objects("files")
        ),
    )
    if fields.integer("segments") != len(index.files):
        raise fields.bad("segments", f"the number of files, {len(index.files)}")
    return index, _sealed(entries, index, {VOLUME_INDEX: tar.sha256_of(raw)})


def begins_closing_file(block: bytes, *, is_parity: bool) -> bool:
    """Whether a tape file that begins with ``block`` is the volume index, or the stripe table.

    Behind the last tape file that is committed, something else may lie that never was.
    """
    name = block[:100].rstrip(b"\0")
    return name == (STRIPES if is_parity else VOLUME_INDEX).encode()


def encode_stripe_table(table: StripeTable) -> bytes:
    """Return the stripe table as a tape file, padded to whole blocks."""
    data = to_json(
        {
            "format": FORMAT,
            "barcode": table.barcode,
            "tape_set": table.tape_set,
            "k": table.k,
            "m": table.m,
            "position": table.position,
            "block_size": table.block_size,
            "stripes": [
                {"stripe": stripe.stripe, "members": [_plain(m) for m in stripe.members]}
                for stripe in table.stripes
            ],
        }
    )
    data += b"\n"
    manifest = tar.manifest_line(STRIPES, tar.sha256_of(data)).encode()
    return tar.archive({STRIPES: data, tar.MANIFEST: manifest}, table.block_size)


def decode_stripe_table(stream: Readable) -> StripeTable:
    """Parse a stripe table; CorruptTapeFile when it is damaged, UnknownFormat if of another."""
    members = {entry.name: entry.read() for entry in tar.entries(stream)}
    if set(members) != {STRIPES, tar.MANIFEST}:
        raise CorruptTapeFile(f"The tape file is not made of {STRIPES} and {tar.MANIFEST}.")
    listed = tar.parse_manifest(members[tar.MANIFEST])
    if listed != {STRIPES: tar.sha256_of(members[STRIPES])}:
        raise CorruptTapeFile(f"{STRIPES} is not what {tar.MANIFEST} says.")
    fields = _checked_format(members[STRIPES], STRIPES)
    return StripeTable(
        barcode=fields.text("barcode"),
        tape_set=fields.text("tape_set"),
        k=fields.integer("k", least=1),
        m=fields.integer("m"),
        position=fields.integer("position"),
        block_size=fields.integer("block_size", least=1),
        stripes=tuple(_stripe(item) for item in fields.objects("stripes")),
    )


def _plain(item: TapeFile | StripeMember) -> dict[str, object]:
    return {name: getattr(item, name) for name in item.__slots__}


def _volume_members(
    header: bytes, sealed: Iterable[tuple[int, bytes]], given: list[int]
) -> Iterator[tuple[str, bytes]]:
    yield VOLUME_INDEX, header
    for file, data in sealed:
        given.append(file)
        yield sealed_name(file), data


def _sealed(
    entries: Iterator[tar.Entry], index: VolumeIndex, digests: dict[str, str]
) -> Iterator[tuple[int, bytes]]:
    for file in index.files:
        entry = next(entries, None)
        if entry is None or entry.name != sealed_name(file.file):
            raise CorruptTapeFile(f"{sealed_name(file.file)} is missing.")
        data = entry.read()
        digests[entry.name] = tar.sha256_of(data)
        yield file.file, data
    manifest = next(entries, None)
    if manifest is None or manifest.name != tar.MANIFEST:
        raise CorruptTapeFile(f"{tar.MANIFEST} is missing.")
    listed = tar.parse_manifest(manifest.read())
    if listed != digests:
        names = sorted(name for name, _ in listed.items() ^ digests.items())
        raise CorruptTapeFile(f"{names[0]} is not what {tar.MANIFEST} says.")
    if next(entries, None) is not None:
        raise CorruptTapeFile(f"There are members behind {tar.MANIFEST}.")


def _checked_format(data: bytes, name: str) -> Fields:
    fields = Fields.parse(data, name)
    version = fields.integer("format")
    if version != FORMAT:
        raise UnknownFormat(f"{name} is written in format {version}; this code reads {FORMAT}.")
    return fields


def _stripe(fields: Fields) -> Stripe:
    return Stripe(
        stripe=fields.integer("stripe", least=1),
        members=tuple(
            StripeMember(
                position=item.integer("position"),
                barcode=item.text("barcode"),
                blocks=item.integer("blocks"),
                sha256=item.digest("sha256"),
            )
            for item in fields.objects("members")
        ),
    )
