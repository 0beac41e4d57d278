"""The bytes of an upload, cut in parts that can be sent again."""

import base64
import contextlib
import errno
import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO

from restore_lib.errors import DiskFull

MIB = 1 << 20
MULTIPART_THRESHOLD = 64 * MIB
PART_SIZE = 16 * MIB
MAX_PARTS = 10_000
MEMORY = 64 * MIB


def part_size(size: int) -> int:
    """Return the bytes of a part, so that an object of ``size`` bytes has at most MAX_PARTS."""
    return max(PART_SIZE, -(-size // MAX_PARTS))


class Part:
    """One part: a file that can be read again, its length and its SHA-256.

    Up to MEMORY bytes are held in memory, more in a file without a name in the temporary folder,
    which no crash leaves behind. The file is closed by ``close``.
    """

    def __init__(self) -> None:
        self._spool = tempfile.SpooledTemporaryFile(max_size=MEMORY)  # noqa: SIM115 - see close
        self._digest = hashlib.sha256()
        self.size = 0

    def add(self, data: bytes | memoryview) -> None:
        """Append ``data``; DiskFull when the temporary folder has no room."""
        try:
            self._spool.write(data)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            raise DiskFull(
                f"The temporary folder {tempfile.gettempdir()} has no room for an upload.",
                remedy="free space there, or name another folder in TMPDIR",
            ) from error
        self._digest.update(data)
        self.size += len(data)

    @property
    def body(self) -> IO[bytes]:
        """The file, at its start."""
        self._spool.seek(0)
        return self._spool

    @property
    def checksum(self) -> str:
        """The SHA-256 as S3 writes it: in base64."""
        return base64.b64encode(self._digest.digest()).decode()

    def close(self) -> None:
        """Give memory and disk back."""
        self._spool.close()


def cut(chunks: Iterable[bytes], limit: int) -> Iterator[Part]:
    """Yield ``chunks`` as parts of ``limit`` bytes, the last one shorter; at least one.

    A part is closed when the next is asked for. An error in ``chunks`` comes before the part that
    it falls in.
    """
    with contextlib.ExitStack() as held:
        part = Part()
        held.callback(part.close)
        for chunk in chunks:
            rest = memoryview(chunk)
            while rest:
                if part.size == limit:
                    yield part
                    held.close()
                    part = Part()
                    held.callback(part.close)
                head, rest = rest[: limit - part.size], rest[limit - part.size :]
                part.add(head)
        yield part


def whole_sha256(checksum: str | None, etag: str) -> str | None:
    """Return the SHA-256 of the whole object in hex, where S3 has it.

    Of an object put in parts, which its ETag tells, S3 has only a digest of the parts' digests.
    """
    if checksum is None or "-" in etag:
        return None
    return base64.b64decode(checksum).hex()
