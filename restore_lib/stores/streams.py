"""Objects on their way out of a store."""

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, BinaryIO, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BUFFER_SIZE = 1 << 20


class _Raw(io.RawIOBase):
    def __init__(
        self,
        read: Callable[[int], bytes],
        mapped: Callable[[], AbstractContextManager[None]],
        at_end: Callable[[], None] | None,
    ) -> None:
        super().__init__()
        self._read = read
        self._mapped = mapped
        self._at_end = at_end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer).cast("B")
        with self._mapped():
            data = self._read(len(view))
            if not data and self._at_end:
                self._at_end()
        view[: len(data)] = data
        return len(data)


def sequential(
    read: Callable[[int], bytes],
    mapped: Callable[[], AbstractContextManager[None]],
    at_end: Callable[[], None] | None = None,
) -> BinaryIO:
    """Return a file over ``read``, which gives at most that many bytes, and none at the end.

    Each read, and ``at_end`` when the end is reached, runs inside of a ``mapped()``, which turns a
    library's exceptions into Tapeflow's.
    """
    return cast("BinaryIO", io.BufferedReader(_Raw(read, mapped, at_end), BUFFER_SIZE))
