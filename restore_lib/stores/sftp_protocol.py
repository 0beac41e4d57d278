"""SFTP version 3 (draft-ietf-secsh-filexfer-02) over a paramiko channel, names in bytes.

paramiko's own SFTPClient decodes names as UTF-8, and loses the errors of pipelined writes that are
answered after the last one; both would lose objects.
"""

import contextlib
import stat
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import paramiko

POSIX_RENAME = b"posix-rename@openssh.com"
FSYNC = b"fsync@openssh.com"
STATVFS = b"statvfs@openssh.com"
EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE = 1, 2, 3, 4, 5
BLOCK = 32768
IN_FLIGHT = 64
_VERSION = 3
_MAX_PACKET = 1 << 20
_INIT, _HELLO, _OPEN, _CLOSE, _READ, _WRITE, _LSTAT, _FSTAT = 1, 2, 3, 4, 5, 6, 7, 8
_FSETSTAT, _OPENDIR, _READDIR, _REMOVE, _MKDIR = 10, 11, 12, 13, 14
_RMDIR, _STAT, _RENAME = 15, 17, 18
_STATUS, _EXTENDED = 101, 200
_FLAG_READ, _FLAG_WRITE, _FLAG_CREATE, _FLAG_NEW = 0x1, 0x2, 0x8, 0x20
_HAS_SIZE, _HAS_OWNER, _HAS_MODE, _HAS_TIMES, _HAS_MORE = 0x1, 0x2, 0x4, 0x8, 0x80000000
_NEEDED = _HAS_SIZE | _HAS_MODE | _HAS_TIMES


class SftpStatus(Exception):
    """A request that the server refused, with its code and text."""

    def __init__(self, code: int, text: bytes) -> None:
        super().__init__(text.decode("utf-8", "replace") or f"status {code}")
        self.code = code


class ProtocolError(Exception):
    """An answer that SFTP does not allow; the channel is of no more use."""


class Attributes(NamedTuple):
    """What the server tells of a file; ``mtime`` is in seconds since 1970."""

    size: int
    mode: int
    mtime: int

    @property
    def is_dir(self) -> bool:
        """Whether it is a folder."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode)


_FOLDER = Attributes(0, stat.S_IFDIR, 0)
_Answer = tuple[int, paramiko.Message]


class SftpChannel:
    """One conversation with an SFTP server; requests may overlap, callers may not.

    Raises SftpStatus for a refusal, which leaves the channel usable, and ProtocolError, EOFError,
    OSError or paramiko's SSHException when the conversation itself fails.
    """

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._number = 0
        self._waiting: set[int] = set()
        self._answers: dict[int, _Answer] = {}
        self._broken = False
        self._extensions = self._greet()

    @property
    def broken(self) -> bool:
        """Whether the conversation has failed."""
        return self._broken or self._channel.closed

    @property
    def reusable(self) -> bool:
        """Whether nothing is under way and nothing has failed."""
        return not (self._waiting or self._answers or self.broken)

    def offers(self, extension: bytes) -> bool:
        """Tell whether the server has named ``extension`` in its greeting."""
        return extension in self._extensions

    def close(self) -> None:
        """End the conversation, if it has not ended; the server closes the files of it."""
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.close()

    def stat(self, path: bytes) -> Attributes | None:
        """Return what ``path`` is, links followed; None when it is not there."""
        return _found(self._wait_for(self._send(_STAT, _text(path))))

    def lstat_path(self, root: bytes, parts: Sequence[bytes]) -> list[Attributes | None]:
        """Return what each of ``parts`` is, going down from ``root``, in about one round trip.

        Links are not followed. What is missing, or below something that is not a folder, is None.
        """
        paths = [b"/".join((root, *parts[: depth + 1])) for depth in range(len(parts))]
        numbers = [self._send(_LSTAT, _text(path)) for path in paths]
        answers = [self._wait_for(number) for number in numbers]
        found: list[Attributes | None] = []
        for answer in answers:
            above = found[-1] if found else _FOLDER
            found.append(_found(answer) if above and above.is_dir else None)
        return found

    def list_folder(self, path: bytes) -> Iterator[tuple[bytes, Attributes]]:
        """Yield the names in the folder ``path`` in any order, without "." and ".."."""
        handle = self._ask(_OPENDIR, _text(path)).get_string()
        try:
            while True:
                try:
                    answer = self._ask(_READDIR, _text(handle))
                except SftpStatus as status:
                    if status.code != EOF:
                        raise
                    return
                for _ in range(answer.get_int()):
                    name = answer.get_string()
                    answer.get_string()
                    attributes = _attributes(answer)
                    if not name or b"/" in name or b"\0" in name:
                        self._broken = True
                        raise ProtocolError(f"the server lists an impossible name, {name!r}")
                    if name not in {b".", b".."}:
                        yield name, attributes
        finally:
            if not self.broken:
                self.close_file(handle)

    def open_file(self, path: bytes) -> bytes:
        """Open ``path`` for reading and return its handle."""
        return self._ask(_OPEN, _text(path), _int(_FLAG_READ), _NO_ATTRIBUTES).get_string()

    def create_file(self, path: bytes) -> bytes:
        """Create ``path``, which must not exist, for writing, and return its handle."""
        flags = _FLAG_WRITE | _FLAG_CREATE | _FLAG_NEW
        return self._ask(_OPEN, _text(path), _int(flags), _packed(mode=0o666)).get_string()

    def close_file(self, handle: bytes) -> None:
        """Close ``handle``."""
        self._ask(_CLOSE, _text(handle))

    def fstat(self, handle: bytes) -> Attributes:
        """Return what the open file is now."""
        return _attributes(self._ask(_FSTAT, _text(handle)))

    def set_attributes(self, handle: bytes, *, mode: int | None, mtime: int | None) -> None:
        """Set permission bits and time of change (and of access) of the open file."""
        self._ask(_FSETSTAT, _text(handle), _packed(mode=mode, mtime=mtime))

    def fsync(self, handle: bytes) -> None:
        """Flush the open file to the server's disk; only where FSYNC is offered."""
        self._ask(_EXTENDED, _text(FSYNC), _text(handle))

    def free_bytes(self, path: bytes) -> int:
        """Return the bytes that its users may still write at ``path``; needs STATVFS."""
        fields = self._ask(_EXTENDED, _text(STATVFS), _text(path))
        _, fragment, _, _, free = (fields.get_int64() for _ in range(5))
        return fragment * free

    def make_folder(self, path: bytes, mode: int = 0o777) -> None:
        """Create the folder ``path``, with ``mode`` less what the server masks."""
        self._ask(_MKDIR, _text(path), _packed(mode=mode))

    def remove_folder(self, path: bytes) -> None:
        """Remove the empty folder ``path``."""
        self._ask(_RMDIR, _text(path))

    def remove_file(self, path: bytes) -> None:
        """Remove the file ``path``."""
        self._ask(_REMOVE, _text(path))

    def rename(self, old: bytes, new: bytes) -> None:
        """Rename ``old`` to ``new``, replacing it atomically if POSIX_RENAME is offered.

        Without it, the server refuses when ``new`` exists.
        """
        if self.offers(POSIX_RENAME):
            self._ask(_EXTENDED, _text(POSIX_RENAME), _text(old), _text(new))
        else:
            self._ask(_RENAME, _text(old), _text(new))

    def read_all(self, handle: bytes, size: int) -> Iterator[bytes]:
        """Yield the first ``size`` bytes of the open file, IN_FLIGHT requests ahead.

        Ends early where the file does.
        """
        asked: deque[tuple[int, int, int]] = deque()
        position = ahead = 0
        while position < size:
            while ahead < size and len(asked) < IN_FLIGHT:
                length = min(BLOCK, size - ahead)
                asked.append((self._ask_block(handle, ahead, length), ahead, length))
                ahead += length
            number, start, length = asked.popleft()
            try:
                data = self._receive(number).get_string()
            except SftpStatus as status:
                self._drain(asked)
                if status.code == EOF:
                    return
                raise
            position = start + len(data)
            if len(data) < length:
                self._drain(asked)
                ahead = position
            yield data

    def send_block(self, handle: bytes, offset: int, block: bytes) -> int:
        """Begin to write ``block`` at ``offset`` and return the number for ``confirm``."""
        return self._send(_WRITE, _text(handle), _long(offset), _text(block))

    def confirm(self, number: int) -> None:
        """Wait for the answer to request ``number``."""
        self._receive(number)

    def _ask_block(self, handle: bytes, offset: int, length: int) -> int:
        return self._send(_READ, _text(handle), _long(offset), _int(length))

    def _drain(self, asked: deque[tuple[int, int, int]]) -> None:
        """Take the answers to requests that are of no more interest."""
        while asked:
            self._wait_for(asked.popleft()[0])

    def _ask(self, kind: int, *fields: bytes) -> paramiko.Message:
        return self._receive(self._send(kind, *fields))

    def _send(self, kind: int, *fields: bytes) -> int:
        self._number = (self._number + 1) & 0xFFFFFFFF
        self._waiting.add(self._number)
        self._send_packet(kind, _int(self._number), *fields)
        return self._number

    def _receive(self, number: int) -> paramiko.Message:
        """Return the answer to request ``number``; raise SftpStatus when it is a refusal."""
        return _accepted(self._wait_for(number))

    def _wait_for(self, number: int) -> _Answer:
        while number not in self._answers:
            kind, message = self._receive_packet()
            answered = message.get_int()
            if answered not in self._waiting:
                self._broken = True
                raise ProtocolError("the server answers what was not asked")
            self._waiting.remove(answered)
            self._answers[answered] = kind, message
        return self._answers.pop(number)

    def _greet(self) -> frozenset[bytes]:
        self._send_packet(_INIT, _int(_VERSION))
        kind, message = self._receive_packet()
        if kind != _HELLO or message.get_int() < _VERSION:
            raise ProtocolError("the server does not speak SFTP version 3")
        names = set()
        while message.get_remainder():
            names.add(message.get_string())
            message.get_string()
        return frozenset(names)

    def _send_packet(self, kind: int, *fields: bytes) -> None:
        body = b"".join(fields)
        try:
            self._channel.sendall(struct.pack(">IB", len(body) + 1, kind) + body)
        except BaseException:
            self._broken = True
            raise

    def _receive_packet(self) -> _Answer:
        try:
            length = struct.unpack(">I", self._receive_bytes(4))[0]
            if not 1 <= length <= _MAX_PACKET:
                raise ProtocolError(f"the server sends a packet of {length} bytes")
            packet = self._receive_bytes(length)
        except BaseException:
            self._broken = True
            raise
        return packet[0], paramiko.Message(packet[1:])

    def _receive_bytes(self, count: int) -> bytes:
        pieces = []
        while count:
            piece = self._channel.recv(count)
            if not piece:
                raise EOFError("the server has closed the connection")
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)


def _int(value: int) -> bytes:
    return struct.pack(">I", value)


def _long(value: int) -> bytes:
    return struct.pack(">Q", value)


def _text(value: bytes) -> bytes:
    return _int(len(value)) + value


def _packed(*, mode: int | None = None, mtime: int | None = None) -> bytes:
    flags, fields = 0, b""
    if mode is not None:
        flags, fields = flags | _HAS_MODE, fields + _int(mode)
    if mtime is not None:
        flags, fields = flags | _HAS_TIMES, fields + _int(mtime) * 2
    return _int(flags) + fields


_NO_ATTRIBUTES = _packed()


def _accepted(answer: _Answer) -> paramiko.Message:
    kind, message = answer
    if kind == _STATUS:
        code = message.get_int()
        if code:
            raise SftpStatus(code, message.get_string())
    return message


def _found(answer: _Answer) -> Attributes | None:
    try:
        return _attributes(_accepted(answer))
    except SftpStatus as status:
        if status.code == NO_SUCH_FILE:
            return None
        raise


def _attributes(message: paramiko.Message) -> Attributes:
    flags = message.get_int()
    if flags & _NEEDED != _NEEDED:
        raise ProtocolError("the server does not tell size, kind and time of its files")
    size = message.get_int64()
    if flags & _HAS_OWNER:
        message.get_int64()
    mode = message.get_int()
    message.get_int()
    mtime = message.get_int()
    if flags & _HAS_MORE:
        for _ in range(2 * message.get_int()):
            message.get_string()
    return Attributes(size, mode, mtime)


class BlockWriter:
    """Writes an open file from its start, IN_FLIGHT blocks ahead; no answer goes unchecked."""

    def __init__(self, channel: SftpChannel, handle: bytes) -> None:
        self._channel = channel
        self._handle = handle
        self._asked: deque[int] = deque()
        self._position = 0

    def write(self, data: bytes) -> None:
        """Send ``data``; SftpStatus tells that this or earlier data could not be written."""
        view = memoryview(data)
        for start in range(0, len(view), BLOCK):
            block = bytes(view[start : start + BLOCK])
            self._asked.append(self._channel.send_block(self._handle, self._position, block))
            self._position += len(block)
            if len(self._asked) >= IN_FLIGHT:
                self._channel.confirm(self._asked.popleft())

    def finish(self) -> None:
        """Wait until all data is taken."""
        while self._asked:
            self._channel.confirm(self._asked.popleft())
