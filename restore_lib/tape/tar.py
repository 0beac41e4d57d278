"""Tape files as plain tar archives: headers to write, a strict reader for streams.

All members are regular files with short names, so the POSIX pax form needs no extended headers.
"""

import hashlib
import tarfile
from collections.abc import Iterator

from restore_lib.errors import CorruptTapeFile
from restore_lib.tape.streams import CHUNK, Readable, read_exactly

RECORD = 512
END = bytes(2 * RECORD)
MANIFEST = "MANIFEST.sha256"
_MTIME = 315_532_800  # 1980-01-01; real times are private and in the index
_NAME, _SIZE, _DIGITS, _CHECKSUM = 100, 124, 11, 148


def _bare_header() -> bytes:
    info = tarfile.TarInfo()
    info.mtime = _MTIME
    return info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")


_BARE = _bare_header()
"""A header without name and size, which stand at the bytes 0 and 124, as its checksum at 148."""
_SUM = int(_BARE[_CHECKSUM : _CHECKSUM + 6], 8) - sum(b"0" * _DIGITS)


def header(name: str, size: int) -> bytes:
    """Return the 512 bytes that precede ``size`` (< 8 GiB) bytes of member ``name``."""
    field, digits = name.encode(), b"%011o" % size
    if len(field) > _NAME or len(digits) > _DIGITS:
        raise ValueError(f"member {name} of {size} bytes does not fit a header")
    checksum = b"%06o" % (_SUM + sum(field) + sum(digits))
    return b"".join(
        (
            field.ljust(_NAME, b"\0"),
            _BARE[_NAME:_SIZE],
            digits,
            _BARE[_SIZE + _DIGITS : _CHECKSUM],
            checksum,
            _BARE[_CHECKSUM + len(checksum) :],
        )
    )


def padding(size: int) -> bytes:
    """Return the zeros that fill ``size`` bytes of payload up to a whole tar record."""
    return bytes(-size % RECORD)


def archive(members: dict[str, bytes], block_size: int) -> bytes:
    """Return a tape file with ``members`` in order, padded with zeros to whole blocks."""
    parts: list[bytes] = []
    for name, data in members.items():
        parts += [header(name, len(data)), data, padding(len(data))]
    whole = b"".join([*parts, END])
    return whole + bytes(-len(whole) % block_size)


def sha256_of(data: bytes) -> str:
    """Return the SHA-256 (hex) of ``data``."""
    return hashlib.sha256(data).hexdigest()


def manifest_line(name: str, sha256: str) -> str:
    """Return the line on ``name`` for ``sha256sum -c``."""
    return f"{sha256}  {name}\n"


def parse_manifest(data: bytes) -> dict[str, str]:
    """Return the digests (hex) by member name; CorruptTapeFile names the bad line."""
    listed: dict[str, str] = {}
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            sha256, name = line.decode("ascii").split("  ")
            valid = len(bytes.fromhex(sha256)) == 32 and name not in listed
        except ValueError:
            valid = False
        if not valid:
            raise CorruptTapeFile(f"Line {number} of {MANIFEST} is damaged.")
        listed[name] = sha256
    if data and not data.endswith(b"\n"):
        raise CorruptTapeFile(f"{MANIFEST} is cut short.")
    return listed


class Entry:
    """One member while its archive is read: ``offset`` is where its payload begins."""

    def __init__(self, stream: Readable, name: str, size: int, offset: int) -> None:
        self.name = name
        self.size = size
        self.offset = offset
        self._stream = stream
        self._left = size

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes of the payload; CorruptTapeFile when it is cut short."""
        if size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        wanted = min(size, self._left)
        if not wanted:
            return b""
        data = self._stream.read(wanted)
        if not data:
            raise CorruptTapeFile(f"The tape file ends {self._left} bytes short in {self.name}.")
        self._left -= len(data)
        return data

    def sha256(self) -> str:
        """Read the rest of the payload and return its SHA-256 (hex)."""
        digest = hashlib.sha256()
        while data := self.read(CHUNK):
            digest.update(data)
        return digest.hexdigest()


def entries(stream: Readable) -> Iterator[Entry]:
    """Yield the members of an archive in order; each is read before the next is taken, or skipped.

    Reads ``stream`` to its end. Raises CorruptTapeFile for anything but regular files, an end of
    archive and zeros.
    """
    offset = 0
    while True:
        record = read_exactly(stream, RECORD)
        if record == bytes(RECORD):
            break
        entry = _entry(stream, record, offset)
        yield entry
        while entry.read(CHUNK):
            pass
        if any(read_exactly(stream, -entry.size % RECORD)):
            raise CorruptTapeFile(f"There is data in the padding behind {entry.name}.")
        offset = entry.offset + entry.size + (-entry.size % RECORD)
    _check_zeros(stream, offset + RECORD)


def _entry(stream: Readable, record: bytes, offset: int) -> Entry:
    try:
        info = tarfile.TarInfo.frombuf(record, "utf-8", "strict")
    except (tarfile.HeaderError, ValueError) as error:
        raise CorruptTapeFile(f"There is no tar header at byte {offset}: {error}.") from error
    if not info.isreg() or info.size < 0:
        raise CorruptTapeFile(f"The tar member at byte {offset} is not a regular file.")
    return Entry(stream, info.name, info.size, offset + RECORD)


def _check_zeros(stream: Readable, offset: int) -> None:
    second = read_exactly(stream, RECORD)
    if second != bytes(RECORD):
        raise CorruptTapeFile(f"The tar archive does not end as it should at byte {offset}.")
    while data := stream.read(CHUNK):
        if data.count(0) != len(data):
            raise CorruptTapeFile(f"There is data behind the end of the archive, byte {offset}.")
