"""SIMH magnetic-tape images: a tape as one file, in a format that other tools read.

A record is its length (4 bytes, little-endian), its data padded to an even number of bytes, and its
length again; a filemark is a zero length; 0xFFFFFFFF, or the end of the file, is the end of data.
"""

import contextlib
import errno
import os
import struct
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from types import TracebackType
from typing import Self

from restore_lib.errors import (
    DiskFull,
    EndOfData,
    LibraryOffline,
    MediumError,
    Refused,
    TapeflowError,
    VolumeAbsent,
)
from restore_lib.library.base import Position

WORD = struct.Struct("<I")
FILEMARK = WORD.pack(0)
END_OF_MEDIUM = 0xFFFFFFFF
MAX_RECORD = 0xFFFFFF
"""Bytes that one record may hold: lengths have 24 bits, the rest of the word is its class."""


def framed_size(length: int) -> int:
    """Return the bytes that a record of ``length`` bytes takes in an image."""
    return 2 * WORD.size + length + length % 2


class _Mark(Enum):
    FILEMARK = auto()
    END = auto()


@dataclass(slots=True)
class _TapeFile:
    """What the framing of one tape file has shown so far.

    ``end`` is the offset behind the last of its ``blocks`` records that were seen; ``length`` is
    the length of each, or None when they differ.
    """

    start: int
    end: int
    blocks: int = 0
    length: int | None = None

    def add(self, length: int) -> None:
        """Count one more record at the end."""
        self.length = length if self.blocks == 0 or self.length == length else None
        self.blocks += 1
        self.end += framed_size(length)

    def cut(self, blocks: int, end: int) -> None:
        """Forget all records from number ``blocks`` on."""
        self.blocks, self.end = blocks, end


class TapeImage:
    """One tape image with a head.

    Opening puts the head at the beginning of the tape. Each call raises MediumError for damaged
    framing, and leaves the head before what it could not read. A record or filemark that a crash
    tore at the end of the image counts as not written, and the next write overwrites it. The
    constructor raises VolumeAbsent when there is no image at ``path``.

    Tape files are found by hopping over their records once; a block in a tape file whose records
    are all of one length is then reached by arithmetic. One object is for one thread, and only one
    object may write an image at a time.
    """

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        self.path = path
        self.writable = writable
        try:
            self._fd = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise VolumeAbsent(f"There is no tape image at {path}.") from error
        except OSError as error:
            raise LibraryOffline(
                f"The tape image {path} can't be opened: {error.strerror}.",
                remedy="check the permissions and the disk under the virtual library",
            ) from error
        self._files = [_TapeFile(0, 0)]
        self.rewind()

    def close(self) -> None:
        """Release the image; it is not used afterwards."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            self.close()

    @property
    def position(self) -> Position:
        """Where the head is."""
        return Position(self._file, self._block)

    @property
    def offset(self) -> int:
        """Bytes of the image before the head."""
        return self._offset

    def is_at(self, path: Path | str) -> bool:
        """Return whether ``path`` is this very image, not another one or none."""
        try:
            return os.path.samestat(os.stat(path), os.fstat(self._fd))  # noqa: PTH116 - the short way
        except FileNotFoundError:
            return False

    def rewind(self) -> None:
        """Go to the beginning of the tape."""
        self._seek(0, 0, 0)

    def locate(self, file: int, block: int = 0) -> None:
        """Go to block ``block`` of tape file ``file``.

        The place right behind the last block, or behind the last filemark, can be located too.
        EndOfData when the tape, or the tape file, ends before; the head is then at that end.
        """
        if file < 0 or block < 0:
            raise ValueError(f"no such place on a tape: file {file}, block {block}")
        while len(self._files) <= file:
            if self._survey() is _Mark.END:
                self._to_frontier()
                raise self._past_end(f"has {self._file} filemarks, file {file} was asked for")
        wanted = self._files[file]
        while wanted is self._files[-1] and wanted.blocks < block:
            if self._survey() is not None:
                break
        if block > wanted.blocks:
            self._seek(file, wanted.blocks, wanted.end)
            raise self._past_end(
                f"has {wanted.blocks} blocks in file {file}, block {block} was asked for"
            )
        self._seek(file, block, self._offset_of(file, block))

    def space_to_end(self) -> Position:
        """Go to the end of data and return where that is."""
        while self._survey() is not _Mark.END:
            pass
        self._to_frontier()
        return self.position

    def read(self) -> bytes | None:
        """Read one record; None at a filemark, which is passed; EndOfData at the end of data."""
        at_frontier = self._offset == self._files[-1].end
        length = self._record_at(self._offset)
        if length is _Mark.END:
            raise self._past_end(f"ends at file {self._file}, block {self._block}")
        if length is _Mark.FILEMARK:
            if at_frontier:
                self._files.append(_TapeFile(self._offset + WORD.size, self._offset + WORD.size))
            self._seek(self._file + 1, 0, self._offset + WORD.size)
            return None
        data = self._pread(length, self._offset + WORD.size)
        if at_frontier:
            self._files[-1].add(length)
        self._seek(self._file, self._block + 1, self._offset + framed_size(length))
        return data

    def write(self, record: bytes) -> None:
        """Write one record here; all that was behind is gone.

        It is on the medium for sure only after the next ``write_filemark``. Raises DiskFull when
        the disk under the image is full; nothing of the record is then on the tape.
        """
        if not 0 < len(record) <= MAX_RECORD:
            raise ValueError(f"a record has 1 to {MAX_RECORD} bytes, not {len(record)}")
        word = WORD.pack(len(record))
        self._overwrite([word, record, bytes(len(record) % 2) + word])
        self._files[-1].add(len(record))
        self._seek(self._file, self._block + 1, self._files[-1].end)

    def write_filemark(self) -> None:
        """End the tape file here and flush: on return all that was written is on the medium."""
        self._overwrite([FILEMARK])
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise self._failed("flush", error) from error
        start = self._offset + WORD.size
        self._files.append(_TapeFile(start, start))
        self._seek(self._file + 1, 0, start)

    def _seek(self, file: int, block: int, offset: int) -> None:
        self._file, self._block, self._offset = file, block, offset

    def _to_frontier(self) -> None:
        last = self._files[-1]
        self._seek(len(self._files) - 1, last.blocks, last.end)

    def _survey(self) -> _Mark | None:
        """Take one record or filemark behind the surveyed part of the tape into it."""
        last = self._files[-1]
        length = self._record_at(last.end)
        if length is _Mark.FILEMARK:
            self._files.append(_TapeFile(last.end + WORD.size, last.end + WORD.size))
        elif length is not _Mark.END:
            last.add(length)
            return None
        return length

    def _offset_of(self, file: int, block: int) -> int:
        """Return where a surveyed block, or the end of a surveyed file, is in the image."""
        wanted = self._files[file]
        if block == wanted.blocks:
            return wanted.end
        if wanted.length is not None:
            return wanted.start + block * framed_size(wanted.length)
        passed, offset = 0, wanted.start
        if self._file == file and self._block <= block:
            passed, offset = self._block, self._offset
        for _ in range(block - passed):
            length = self._record_at(offset)
            if isinstance(length, _Mark):
                raise MediumError(
                    f"Records of {self.path.name} have vanished since they were seen."
                )
            offset += framed_size(length)
        return offset

    def _record_at(self, offset: int) -> int | _Mark:
        """Return the length of the record that begins at ``offset``, its framing checked."""
        head = self._pread(WORD.size, offset)
        if len(head) < WORD.size:
            return _Mark.END
        (length,) = WORD.unpack(head)
        if length == 0:
            return _Mark.FILEMARK
        if length == END_OF_MEDIUM:
            return _Mark.END
        if length > MAX_RECORD:
            raise self._damaged(offset, f"{length:#010x} is not the length of a record")
        tail = self._pread(WORD.size, offset + framed_size(length) - WORD.size)
        if len(tail) < WORD.size:
            return _Mark.END
        if tail != head:
            raise self._damaged(offset, "the lengths before and behind a record differ")
        return int(length)

    def _pread(self, size: int, offset: int) -> bytes:
        try:
            data = os.pread(self._fd, size, offset)
            while len(data) < size and (
                more := os.pread(self._fd, size - len(data), offset + len(data))
            ):
                data += more
        except OSError as error:
            raise self._failed("read", error) from error
        return data

    def _overwrite(self, parts: list[bytes]) -> None:
        """Make ``parts`` the last bytes of the image, from the head on."""
        if not self.writable:
            raise Refused(
                f"The tape image {self.path.name} was opened for reading only.",
                remedy="open it for writing",
            )
        del self._files[self._file + 1 :]
        self._files[-1].cut(self._block, self._offset)
        try:
            if os.fstat(self._fd).st_size > self._offset:
                os.ftruncate(self._fd, self._offset)
            self._append(parts)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._offset)
            raise self._failed("write", error) from error

    def _append(self, parts: list[bytes]) -> None:
        written = os.pwritev(self._fd, parts, self._offset)
        if written < sum(map(len, parts)):
            rest = memoryview(b"".join(parts))
            while written < len(rest):
                written += os.pwrite(self._fd, rest[written:], self._offset + written)

    def _past_end(self, what: str) -> EndOfData:
        return EndOfData(f"The tape {self.path.stem} {what}.", volume=self.path.stem)

    def _damaged(self, offset: int, why: str) -> MediumError:
        return MediumError(
            f"The tape {self.path.stem} is damaged at byte {offset} of its image: {why}.",
            volume=self.path.stem,
        )

    def _failed(self, what: str, error: OSError) -> TapeflowError:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return DiskFull(f"The disk under the tape image {self.path} is full.")
        return MediumError(
            f"The tape {self.path.stem} failed to {what}: {error.strerror}.", volume=self.path.stem
        )
