"""Strict reading of the JSON that is on tapes."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from restore_lib.errors import CorruptTapeFile

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_ASCII_ENCODER = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), allow_nan=False)


def to_json(value: Mapping[str, object]) -> bytes:
    """Return ``value`` as one line of JSON in UTF-8; lone surrogates are kept, as escapes."""
    try:
        return _ENCODER.encode(value).encode()
    except UnicodeEncodeError:
        return _ASCII_ENCODER.encode(value).encode()


def rfc3339(moment: datetime) -> str:
    """Return an aware time in UTC, such as 2012-11-05T09:00:00.25Z."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


class Fields:
    """One JSON object, read field by field; CorruptTapeFile names ``where`` and the field.

    Fields that nobody asks for are passed over, so that later minor versions may add some.
    """

    def __init__(self, data: object, where: str) -> None:
        if not isinstance(data, dict):
            raise CorruptTapeFile(f"{where} is not a JSON object.")
        self._data: dict[str, object] = data
        self._where = where

    @classmethod
    def parse(cls, text: bytes, where: str) -> "Fields":
        """Parse ``text`` as one JSON object."""
        try:
            data: object = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CorruptTapeFile(f"{where} is not JSON: {error}.") from error
        return cls(data, where)

    def __contains__(self, name: str) -> bool:
        return name in self._data

    def bad(self, name: str, wanted: str) -> CorruptTapeFile:
        """Return the error that says that field ``name`` is not ``wanted``."""
        state = f"is not {wanted}" if name in self._data else "is missing"
        return CorruptTapeFile(f"{self._where}: field {name!r} {state}.")

    def text(self, name: str) -> str:
        """Return a string."""
        value = self._data.get(name)
        if not isinstance(value, str):
            raise self.bad(name, "a string")
        return value

    def text_or_none(self, name: str) -> str | None:
        """Return a string, or None where the field is null; it has to be there."""
        if name in self._data and self._data[name] is None:
            return None
        return self.text(name)

    def integer(self, name: str, *, least: int = 0) -> int:
        """Return a whole number of at least ``least``."""
        value = self._data.get(name)
        if type(value) is not int or value < least:
            raise self.bad(name, f"a whole number of at least {least}")
        return value

    def digest(self, name: str) -> str:
        """Return a SHA-256 in lower-case hex."""
        value = self.text(name)
        if len(value) != 64 or not set(value) <= set("0123456789abcdef"):
            raise self.bad(name, "a SHA-256 in hex")
        return value

    def moment(self, name: str) -> datetime:
        """Return an RFC 3339 time as an aware one in UTC."""
        try:
            value = datetime.fromisoformat(self.text(name))
            if value.tzinfo is None:
                raise ValueError
            return value.astimezone(UTC)
        except (ValueError, OverflowError):
            raise self.bad(name, "an RFC 3339 time") from None

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of strings."""
        value = self._data.get(name)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.bad(name, "a list of strings")
        return tuple(value)

    def mapping(self, name: str) -> dict[str, str]:
        """Return an object whose values are strings."""
        value = self._data.get(name)
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise self.bad(name, "an object of strings")
        return value

    def objects(self, name: str) -> list["Fields"]:
        """Return a list of objects."""
        value = self._data.get(name)
        if not isinstance(value, list):
            raise self.bad(name, "a list")
        return [Fields(item, f"{self._where}, {name}[{n}]") for n, item in enumerate(value)]
