"""Writing segments: many objects into one tape file, staged on disk.

The write order of docs/tape-format.md: objects, then the manifest, then the index. Reading is in
``segment_reader``.
"""

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import zstandard

from restore_lib.errors import DigestMismatch, ObjectUnreadable, TapeflowError
from restore_lib.model.objects import display_key
from restore_lib.tape import tar
from restore_lib.tape.age import Recipients, ciphertext_size, encrypt
from restore_lib.tape.members import (
    INDEX,
    MAX_ORDINAL,
    MAX_PART_SIZE,
    Member,
    MemberMeta,
    encode_line,
    line_bound,
    member_name,
)
from restore_lib.tape.payload import SMALL, Compressor, stored_bound
from restore_lib.tape.streams import CHUNK, Readable, Writable, disk_errors

_LINE_SIZE = len(tar.manifest_line("0" * 64, member_name(0, compressed=True)))


@dataclass(frozen=True, slots=True)
class SegmentSummary:
    """A finished segment: the whole zero-padded tape file, and what is in it.

    ``size`` is in bytes, a whole number of ``blocks``; its digests come with its stripe's parity.
    ``sealed_index`` is the encrypted index as stored, for the volume index; ``index_offset`` is its
    distance in bytes from the start of the tape file.
    """

    blocks: int
    size: int
    members: tuple[Member, ...]
    sealed_index: bytes
    index_offset: int


def projected_size(meta: MemberMeta, size: int, recipients: int) -> int:
    """Return a bound of what an object or part of ``size`` bytes adds to a segment, in bytes.

    It counts header and padding, payload, manifest line and index line. A segment is never larger
    than ``empty_size`` plus the sum over its members, rounded up to whole blocks.
    """
    stored = stored_bound(size, recipients)
    line = line_bound(meta)
    return 2 * tar.RECORD + stored + _LINE_SIZE + line + line // 128 + 1


def empty_size(recipients: int) -> int:
    """Return a bound of the bytes in a segment without members, before padding to a block."""
    manifest = len(tar.manifest_line("0" * 64, INDEX))
    headers = 2 * (2 * tar.RECORD)
    return headers + manifest + ciphertext_size(64, recipients) + len(tar.END)


class SegmentWriter:
    """Writes one segment to a staging file; a context manager.

    The file is a segment only once ``finish`` has returned; leaving the context before removes it.
    Nothing is flushed to the disk: what a crash leaves is staged anew. DiskFull when the staging
    disk has no room; the writer is then of no more use.
    """

    def __init__(
        self, path: Path, *, block_size: int, recipients: Recipients, first_ordinal: int = 0
    ) -> None:
        if block_size <= 0 or block_size % tar.RECORD:
            raise ValueError(f"block size {block_size} is not a multiple of {tar.RECORD}")
        self._path = path
        self._block_size = block_size
        self._recipients = recipients
        self._next = first_ordinal
        self._compressor = Compressor()
        self._members: list[Member] = []
        self._index = zstandard.ZstdCompressor(level=3).compressobj()
        self._packed_index: list[bytes] = []
        self._end = 0
        self._bound = empty_size(len(recipients.names))
        self._usable = True
        self._finished = False
        with disk_errors(path):
            self._file = path.open("wb", buffering=1 << 20)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._finished:
            with contextlib.suppress(OSError):
                self._file.close()
            self._path.unlink(missing_ok=True)

    @property
    def members(self) -> tuple[Member, ...]:
        """The members added so far."""
        return tuple(self._members)

    @property
    def size_bound(self) -> int:
        """Bytes, before padding to a block, that the segment can't exceed if finished now."""
        return self._bound

    def add(
        self,
        meta: MemberMeta,
        source: Readable,
        *,
        size: int | None = None,
        object_digest: Callable[[], str] | None = None,
    ) -> Member:
        """Read ``source`` to its end and append it as one member.

        ``size`` is the plaintext's announced size in bytes. ``object_digest`` is asked behind the
        last byte of a cut object's last part, and takes the place of ``meta.object_sha256``. When
        the source fails or has another size, ObjectUnreadable is raised; errors of Tapeflow's own,
        such as StoreUnavailable, pass unchanged. In each case the segment is as it was before.
        ValueError for a part of more than ``MAX_PART_SIZE`` bytes.
        """
        self._check_room()
        reader = _SourceReader(source, meta, size)
        start = self._end
        try:
            with disk_errors(self._path):
                member = self._store(meta, reader)
                if object_digest is not None:
                    whole = replace(meta, object_sha256=object_digest())
                    member = replace(member, meta=whole)
                line = encode_line(member)
        except BaseException:
            self._roll_back(start)
            raise
        return self._enter(member, line, start)

    def add_stored(self, payload: Member, stored: Iterable[bytes]) -> Member:
        """Append a payload that another segment holds, as it is stored there; needs no key.

        ``stored`` yields its stored bytes; its ordinal and offset are new here, all else stays.
        DigestMismatch when the bytes are others; the segment is then as it was before.
        """
        self._check_room()
        start = self._end
        member = replace(payload, ordinal=self._next, offset=start + tar.RECORD)
        line = encode_line(member)
        try:
            with disk_errors(self._path):
                self._file.write(tar.header(member.name, member.stored_size))
                sink = _Sink(self._file)
                for data in stored:
                    sink.write(data)
                self._file.write(tar.padding(sink.size))
            if (sink.size, sink.digest.hexdigest()) != (member.stored_size, member.stored_sha256):
                name = f"{display_key(member.meta.key)} in {member.meta.store}"
                raise DigestMismatch(f"The stored bytes of {name} are not those that were written.")
        except BaseException:
            self._roll_back(start)
            raise
        self._end = start + tar.RECORD + sink.size + len(tar.padding(sink.size))
        return self._enter(member, line, start)

    def finish(self) -> SegmentSummary:
        """Append manifest, index, end and padding; on return the segment can be read."""
        self._check_usable()
        self._usable = False
        self._packed_index.append(self._index.flush())
        sealed = encrypt(b"".join(self._packed_index), self._recipients)
        listed = [(member.name, member.stored_sha256) for member in self._members]
        listed.append((INDEX, hashlib.sha256(sealed).hexdigest()))
        manifest = "".join(tar.manifest_line(name, sha256) for name, sha256 in listed).encode()
        with disk_errors(self._path):
            self._append(tar.MANIFEST, manifest)
            index_offset = self._end + tar.RECORD
            self._append(INDEX, sealed)
            self._file.write(tar.END)
            self._end += len(tar.END)
            padding = bytes(-self._end % self._block_size)
            self._file.write(padding)
            self._end += len(padding)
            self._file.close()
        self._finished = True
        return SegmentSummary(
            blocks=self._end // self._block_size,
            size=self._end,
            members=tuple(self._members),
            sealed_index=sealed,
            index_offset=index_offset,
        )

    def _enter(self, member: Member, line: bytes, start: int) -> Member:
        """Enter what was appended from ``start`` on into manifest and index."""
        self._members.append(member)
        self._packed_index.append(self._index.compress(line))
        self._next += 1
        self._bound += self._end - start + _LINE_SIZE + len(line) + len(line) // 128 + 1
        return member

    def _check_room(self) -> None:
        self._check_usable()
        if self._next > MAX_ORDINAL:
            raise ValueError("a segment holds no more members")

    def _check_usable(self) -> None:
        if not self._usable:
            raise ValueError(f"segment {self._path} takes nothing more")

    def _store(self, meta: MemberMeta, reader: "_SourceReader") -> Member:
        head = reader.head()
        if len(head) <= SMALL:
            reader.check_size()
            sealed, compressed = self._compressor.seal(head, self._recipients)
            name = member_name(self._next, compressed=compressed)
            offset = self._end + tar.RECORD
            stored_size, stored_sha256 = len(sealed), hashlib.sha256(sealed).hexdigest()
            self._append(name, sealed)
        else:
            compressed = self._compressor.worthwhile(head)
            offset = self._end + tar.RECORD
            stored_size, stored_sha256 = self._append_stream(reader, compressed=compressed)
            reader.check_size()
        return Member(
            ordinal=self._next,
            compressed=compressed,
            size=reader.size,
            sha256=reader.digest.hexdigest(),
            stored_size=stored_size,
            stored_sha256=stored_sha256,
            offset=offset,
            meta=meta,
        )

    def _append(self, name: str, data: bytes) -> None:
        record = b"".join((tar.header(name, len(data)), data, tar.padding(len(data))))
        self._file.write(record)
        self._end += len(record)

    def _append_stream(self, reader: "_SourceReader", *, compressed: bool) -> tuple[int, str]:
        """Write a member whose size is known only afterwards; the header is filled in last."""
        start = self._end
        name = member_name(self._next, compressed=compressed)
        self._file.write(bytes(tar.RECORD))
        sink = _Sink(self._file)
        self._compressor.seal_stream(reader, sink, self._recipients, compressed=compressed)
        self._file.write(tar.padding(sink.size))
        end = self._file.tell()
        self._file.seek(start)
        self._file.write(tar.header(name, sink.size))
        self._file.seek(end)
        self._end = end
        return sink.size, sink.digest.hexdigest()

    def _roll_back(self, start: int) -> None:
        try:
            self._file.seek(start)
            self._file.truncate()
        except OSError:
            self._usable = False
        self._end = start


class _Sink:
    """The staging file, counting and digesting one payload."""

    def __init__(self, file: Writable) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes, /) -> int:
        self._file.write(data)
        self.digest.update(data)
        self.size += len(data)
        return len(data)


class _SourceReader:
    """An object's source, counted and digested; its failures become ObjectUnreadable."""

    def __init__(self, source: Readable, meta: MemberMeta, announced: int | None) -> None:
        if announced is not None and announced > MAX_PART_SIZE:
            raise ValueError(f"a part of {announced} bytes is larger than {MAX_PART_SIZE}")
        self._source = source
        self._meta = meta
        self._announced = announced
        self._fetched = io.BytesIO()
        self.digest = hashlib.sha256()
        self.size = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._fetched.read(size)
        if not data:
            self._fetched = io.BytesIO(self._fetch())
            data = self._fetched.read(size)
        return data

    def head(self) -> bytes:
        """Return all if it is at most ``SMALL`` bytes, else more than that, to be read again."""
        parts: list[bytes] = []
        while self.size <= SMALL and (data := self._fetch()):
            parts.append(data)
        head = b"".join(parts)
        if len(head) > SMALL:
            self._fetched = io.BytesIO(head)
        return head

    def check_size(self) -> None:
        """Raise ObjectUnreadable when another size than this was announced."""
        if self._announced is not None and self.size != self._announced:
            raise ObjectUnreadable(
                f"{self._name()} has changed while it was read: {self._announced} bytes were"
                f" announced, {self.size} came."
            )

    def _name(self) -> str:
        return f"{display_key(self._meta.key)} in {self._meta.store}"

    def _fetch(self) -> bytes:
        try:
            data = self._source.read(CHUNK)
        except TapeflowError:
            raise
        except Exception as error:  # whatever a source raises concerns this object alone
            raise ObjectUnreadable(
                f"{self._name()} can't be read: {error}.", read=self.size
            ) from error
        self.digest.update(data)
        self.size += len(data)
        if self._announced is not None and self.size > self._announced:
            self.check_size()
        if self.size > MAX_PART_SIZE:
            raise ValueError(
                f"{self._name()} is larger than a part of {MAX_PART_SIZE} bytes may be"
            )
        return data
