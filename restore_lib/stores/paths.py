"""Keys that are paths: what the local and the SFTP store have in common."""

import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from restore_lib.errors import ObjectNameRefused
from restore_lib.model.objects import display_key

TEMP_DIR = b".tapeflow-tmp"
_TEMP_AGE = timedelta(days=1)
MAX_COMPONENT = 255
_NOT_PLAIN = frozenset({b"", b".", b".."})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST = datetime.min.replace(tzinfo=UTC)
_LATEST = datetime.max.replace(tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MODE = re.compile(r"[0-7]{3,4}")
_TEMP_NAME = re.compile(rb"([0-9a-f]{1,15})-[0-9a-f]{32}")


def split_key(key: bytes, store: str) -> tuple[bytes, ...]:
    """Return the components of ``key``, a relative POSIX path.

    Raises ObjectNameRefused for a key that is no such path, whose name is too long, or that lies
    in the folder of unfinished files; every key that passes stays below the root it is applied to.
    """
    parts = tuple(key.split(b"/"))
    if not key:
        problem = "is empty"
    elif b"\0" in key:
        problem = "contains a NUL byte"
    elif not _NOT_PLAIN.isdisjoint(parts):
        problem = "is not a plain relative path"
    elif max(map(len, parts)) > MAX_COMPONENT:
        problem = f"has a part of more than {MAX_COMPONENT} bytes"
    elif parts[0] == TEMP_DIR:
        problem = f"lies in {TEMP_DIR.decode()}, which is kept for unfinished files"
    else:
        return parts
    raise name_refused(key, store, problem)


def name_refused(key: bytes, store: str, problem: str) -> ObjectNameRefused:
    """Return the error for a ``key`` that ``store`` can't hold because of ``problem``."""
    shown = display_key(key)
    return ObjectNameRefused(
        f"Store {store} can't hold {shown!r}: the name {problem}.", store=store, key=shown
    )


def temp_name(now: datetime) -> bytes:
    """Return a new name for an unfinished file, which tells when it was begun."""
    return f"{max(0, int(now.timestamp())):x}-{secrets.token_hex(16)}".encode()


def is_left_over(name: bytes, modified: float, now: datetime) -> bool:
    """Tell whether an unfinished file was begun, and last ``modified`` (seconds), a day ago.

    Its time of change alone does not tell: just before it gets its name, it is the object's.
    """
    found = _TEMP_NAME.fullmatch(name)
    begun = int(found[1], 16) if found else 0
    return max(begun, modified) < (now - _TEMP_AGE).timestamp()


def mode_of(metadata: Mapping[str, str] | None) -> int | None:
    """Return the permission bits of ``metadata["mode"]``, or None where there are none.

    The set-uid, set-gid and sticky bits are dropped: owners are not restored, so these would give
    the rights of whoever restores.
    """
    text = (metadata or {}).get("mode", "")
    return int(text, 8) & 0o777 if _MODE.fullmatch(text) else None


def from_microseconds(value: int) -> datetime:
    """Return the time ``value`` microseconds after 1970, or the nearest that a datetime holds."""
    try:
        return _EPOCH + timedelta(microseconds=value)
    except OverflowError:
        return _LATEST if value > 0 else _EARLIEST


def to_microseconds(moment: datetime) -> int:
    """Return the whole microseconds from 1970 to ``moment``, which is aware."""
    return (moment - _EPOCH) // _MICROSECOND
