"""Objects as stores know them, and their names as people read them."""

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple


class StoredObject(NamedTuple):
    """One object as its store describes it.

    ``key`` is the name, byte for byte. ``size`` is in bytes. ``version`` is the store's own version
    id and ``etag`` its opaque change token, where it has them. ``sha256`` (hex, of the content) is
    set only where the store itself vouches for it.
    """

    key: bytes
    size: int
    modified_at: datetime
    etag: str | None = None
    version: str | None = None
    content_type: str | None = None
    metadata: Mapping[str, str] = {}
    sha256: str | None = None


def display_key(key: bytes) -> str:
    r"""Return ``key`` on one printable line: UTF-8 where it is, else ``\xNN`` escapes."""
    text = key.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def key_fields(key: bytes) -> dict[str, str]:
    """Return a name for JSON: as people read it, and byte for byte where that differs."""
    shown = display_key(key)
    if shown.encode() == key:
        return {"key": shown}
    return {"key": shown, "key_b64": base64.b64encode(key).decode()}
