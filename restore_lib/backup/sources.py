"""The objects of a store as a backup reads them: piece by piece, in order."""

import contextlib
from dataclasses import dataclass, field
from typing import BinaryIO

from restore_lib.backup.pack import Piece
from restore_lib.errors import ObjectUnreadable
from restore_lib.model.objects import display_key
from restore_lib.stores.base import Store
from restore_lib.tape.streams import Aside


@dataclass
class Sources:
    """Reads objects piece by piece; a cut object stays open from its first to its last piece.

    One whose name has more than ``longest_key`` bytes can't be read: the catalog can't hold it.
    """

    store: Store
    longest_key: int | None = None
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _stream: BinaryIO | None = None
    _whole: Aside | None = None

    def open(self, piece: Piece) -> "_Part":
        """Return a reader of the piece's bytes; ObjectUnreadable when its object can't be read."""
        key = piece.source.key
        if self.longest_key is not None and len(key) > self.longest_key:
            raise ObjectUnreadable(
                f"{display_key(key)} has a name of {len(key)} bytes; the catalog's database holds "
                f"names of up to {self.longest_key}."
            )
        if piece.part == 1:
            self.close()
            opened = self.store.open(key, version=piece.source.version)
            self._stream = self._open.enter_context(opened)
            self._whole = (
                self._open.enter_context(contextlib.closing(Aside())) if piece.parts > 1 else None
            )
        if self._stream is None:
            raise ObjectUnreadable(f"{display_key(key)} is not open any more.")
        return _Part(self._stream, piece, self._whole)

    def digest(self) -> str:
        """Return the SHA-256 (hex) of all that was read of the cut object that is open."""
        if self._whole is None:
            raise ValueError("no cut object is open")
        return self._whole.hexdigest()

    def close(self) -> None:
        """Close the object that is open, if any."""
        self._open.close()
        self._stream = self._whole = None


class _Part:
    """The bytes of one piece; the last piece reads on, so that a grown object is noticed."""

    def __init__(self, stream: BinaryIO, piece: Piece, whole: Aside | None) -> None:
        self._stream = stream
        self._left = piece.size
        self._last = piece.is_last
        self._whole = whole

    def read(self, size: int = -1, /) -> bytes:
        most = self._left + 1 if self._last else self._left
        size = most if size < 0 else min(size, most)
        data = self._stream.read(size)
        self._left -= len(data)
        if self._whole is not None:
            self._whole.update(data)
        return data
