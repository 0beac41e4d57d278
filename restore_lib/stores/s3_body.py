"""An S3 object, read once through over as many connections as that takes."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from restore_lib.stores.s3_errors import BROKEN

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

_TRIES = 3


class Body:
    """The bytes of one object; where the connection breaks, it goes on behind what was read.

    A backup that waits for its tapes reads nothing for hours, and few connections outlast that.
    Only the same object is gone on with: one that was written over ends in the service's refusal.
    The checksum that the service keeps of the object is not checked once a connection has broken.
    """

    def __init__(self, get: "Callable[..., GetObjectOutputTypeDef]") -> None:
        """``get`` is a client's ``get_object`` of this object and version."""
        self._get = get
        answer = get()
        self._body = answer["Body"]
        self._etag = answer["ETag"]
        self._size = answer["ContentLength"]
        self._offset = 0

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes, none at the end; raises what the third connection raises."""
        for left in reversed(range(_TRIES)):
            try:
                data = self._body.read(size)
            except BROKEN:
                if not left or self._offset == self._size:
                    raise
                self._body.close()
                rest = f"bytes={self._offset}-"
                self._body = self._get(Range=rest, IfMatch=self._etag)["Body"]
            else:
                self._offset += len(data)
                return data
        raise AssertionError("the last try returns or raises")

    def close(self) -> None:
        """Let go of the connection."""
        self._body.close()
