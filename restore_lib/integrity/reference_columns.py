"""The columns of a reference table: which types they may have, and what makes a value wrong."""

from collections.abc import Mapping
from dataclasses import dataclass

TEXT = "VARCHAR"
_BYTES = "BLOB"
_INTEGERS = frozenset(
    {"TINYINT", "SMALLINT", "INTEGER", "BIGINT"}
    | {"UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT", "UHUGEINT"}
)
_ZONED = "TIMESTAMP WITH TIME ZONE"
_BASE64 = "([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
_RFC3339 = (
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)"  # the zone is not optional
)


@dataclass(frozen=True, slots=True)
class Column:
    """One column as the file has it, in SQL.

    ``value`` is what it means, null where the file has nothing. ``wrong`` holds for values that
    mean nothing; ``what`` says what each value should be.
    """

    name: str
    value: str
    wrong: str
    what: str


def column(name: str, kind: str) -> Column | None:
    """Return the column ``name`` of DuckDB type ``kind``, None when that type can't hold it."""
    given = f"nullif({name}, '')" if kind == TEXT else name
    made = _MAKERS[name](given, kind)
    if made is None:
        return None
    value, wrong = made
    return Column(name, value, f"{given} IS NOT NULL AND ({wrong})", WHAT[name])


def key_of(columns: Mapping[str, Column]) -> str:
    """Return the SQL of an object's key: ``key_b64`` where the row has it, else ``key``."""
    return f"coalesce({', '.join(columns[n].value for n in ('key_b64', 'key') if n in columns)})"


def _key(text: str, kind: str) -> tuple[str, str] | None:
    if kind == _BYTES:
        return "nullif(key, ''::BLOB)", "false"
    return (f"encode({text})", "false") if kind == TEXT else None


def _key_b64(text: str, kind: str) -> tuple[str, str] | None:
    if kind != TEXT:
        return None
    return f"from_base64({text})", f"NOT regexp_full_match({text}, '{_BASE64}')"


def _size(text: str, kind: str) -> tuple[str, str] | None:
    if kind in _INTEGERS:
        return "CAST(size AS BIGINT)", "size < 0 OR try_cast(size AS BIGINT) IS NULL"
    if kind != TEXT:
        return None
    digits = f"regexp_full_match({text}, '[0-9]+')"
    return f"CAST({text} AS BIGINT)", f"NOT {digits} OR try_cast({text} AS BIGINT) IS NULL"


def _sha256(text: str, kind: str) -> tuple[str, str] | None:
    if kind != TEXT:
        return None
    return f"unhex({text})", f"NOT regexp_full_match({text}, '[0-9A-Fa-f]{{64}}')"


def _modified_at(text: str, kind: str) -> tuple[str, str] | None:
    seconds = "(epoch_us({0}) - (epoch_us({0}) % 1000000 + 1000000) % 1000000) // 1000000"
    if kind == _ZONED:
        return seconds.format("modified_at"), "NOT isfinite(modified_at)"
    if kind != TEXT:
        return None
    parsed = f"try_cast(upper({text}) AS TIMESTAMPTZ)"
    wrong = f"NOT regexp_full_match({text}, '{_RFC3339}') OR {parsed} IS NULL"
    return seconds.format(parsed), wrong


_MAKERS = {
    "key": _key,
    "key_b64": _key_b64,
    "size": _size,
    "sha256": _sha256,
    "modified_at": _modified_at,
}
WHAT = {
    "key": "the object's name as text",
    "key_b64": "the base64 of the object's name",
    "size": "a whole number of bytes",
    "sha256": "64 hexadecimal digits",
    "modified_at": "a time with its zone, as in 2030-01-31T12:00:00Z",
}
