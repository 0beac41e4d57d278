"""What S3 keeps beside the bytes: user metadata, which travels in HTTP headers."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.header import Header, decode_header, make_header

MODIFIED_AT = "tapeflow-modified-at"
DEFAULT_TYPE = "binary/octet-stream"
_UNFOLDED = 1 << 16


def to_headers(metadata: Mapping[str, str] | None, modified_at: datetime | None) -> dict[str, str]:
    """Return ``metadata`` as S3 can keep it, with the object's own time of change added.

    A time that is there already stays: it is older than the store the object was read from. Values
    that a header can't hold are written as RFC 2047 says, which is how S3 itself shows them.
    """
    headers = {name: _encode(value) for name, value in (metadata or {}).items()}
    if modified_at is not None:
        headers.setdefault(MODIFIED_AT, modified_at.astimezone(UTC).isoformat())
    return headers


def from_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata that ``to_headers`` wrote; the time of change is among it."""
    return {name: _decode(value) for name, value in headers.items()}


def _encode(value: str) -> str:
    plain = value.isascii() and value.isprintable() and value == value.strip()
    if plain and not value.startswith("=?"):
        return value
    return Header(value, "utf-8", maxlinelen=_UNFOLDED).encode(linesep="")


def _decode(value: str) -> str:
    if not (value.startswith("=?") and value.endswith("?=")):
        return value
    try:
        return str(make_header(decode_header(value)))
    except (HeaderParseError, LookupError, UnicodeDecodeError):
        return value
