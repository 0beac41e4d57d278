"""Columns of reference tables, as SQL over single values."""

import hashlib
from typing import Any

import duckdb
import pytest

from restore_lib.integrity.reference_columns import WHAT, column, key_of

WRONG = object()
DIGEST = hashlib.sha256(b"").digest()


def meaning(name: str, kind: str, value: str) -> Any:
    """Return what ``value`` means in a column of this type, WRONG when it means nothing."""
    made = column(name, kind)
    assert made is not None
    row = duckdb.connect().sql(f"SELECT {value}::{kind} AS {name}")
    if row.filter(made.wrong).fetchall():
        return WRONG
    return row.project(made.value).fetchall()[0][0]


@pytest.mark.parametrize(
    ("name", "kind", "value", "means"),
    [
        ("key", "VARCHAR", "'é'", "é".encode()),
        ("key", "VARCHAR", "''", None),
        ("key", "BLOB", "'\\xFF\\x00'", b"\xff\0"),
        ("key", "BLOB", "''", None),
        ("key_b64", "VARCHAR", "'/wA='", b"\xff\0"),
        ("key_b64", "VARCHAR", "''", None),
        ("size", "VARCHAR", "'007'", 7),
        ("size", "VARCHAR", "''", None),
        ("size", "HUGEINT", "9223372036854775807", 2**63 - 1),
        ("size", "UTINYINT", "255", 255),
        ("size", "INTEGER", "NULL", None),
        ("sha256", "VARCHAR", f"'{DIGEST.hex().upper()}'", DIGEST),
        ("modified_at", "VARCHAR", "'1970-01-01T01:00:01.999999+01:00'", 1),
        ("modified_at", "VARCHAR", "'1969-12-31T23:59:59.5Z'", -1),
        ("modified_at", "VARCHAR", "'2030-01-31 12:00:00z'", 1896091200),
        ("modified_at", "TIMESTAMP WITH TIME ZONE", "'1970-01-01 00:00:02.5+00'", 2),
    ],
)
def test_what_values_mean(name: str, kind: str, value: str, means: object) -> None:
    assert meaning(name, kind, value) == means


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("key_b64", "VARCHAR", "'YQ='"),
        ("key_b64", "VARCHAR", "'Y Q='"),
        ("key_b64", "VARCHAR", "'YQ==YQ=='"),
        ("size", "VARCHAR", "'1e3'"),
        ("size", "VARCHAR", "'+1'"),
        ("size", "VARCHAR", "'9223372036854775808'"),
        ("size", "HUGEINT", "9223372036854775808"),
        ("size", "BIGINT", "-1"),
        ("sha256", "VARCHAR", f"'{DIGEST.hex()}0'"),
        ("modified_at", "VARCHAR", "'2030-13-01T00:00:00Z'"),
        ("modified_at", "VARCHAR", "'2030-01-01T25:00:00Z'"),
        ("modified_at", "VARCHAR", "'2030-01-01T00:00:00 UTC'"),
        ("modified_at", "VARCHAR", "'infinity'"),
        ("modified_at", "TIMESTAMP WITH TIME ZONE", "'-infinity'"),
    ],
)
def test_what_is_wrong(name: str, kind: str, value: str) -> None:
    assert meaning(name, kind, value) is WRONG


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("key", "INTEGER"),
        ("key_b64", "BLOB"),
        ("size", "DOUBLE"),
        ("size", "DECIMAL(18,0)"),
        ("size", "BOOLEAN"),
        ("sha256", "BLOB"),
        ("modified_at", "TIMESTAMP"),
        ("modified_at", "DATE"),
        ("modified_at", "BIGINT"),
    ],
)
def test_types_that_can_not_hold_it(name: str, kind: str) -> None:
    assert column(name, kind) is None
    assert WHAT[name]


def test_the_bytes_of_a_name_go_before_its_text() -> None:
    columns = {name: made for name in ("key", "key_b64") if (made := column(name, "VARCHAR"))}
    rows = duckdb.connect().sql(
        "SELECT * FROM (VALUES ('text', ''), ('text', 'YQ=='), ('', 'YQ=='), ('', NULL))"
        " AS t (key, key_b64)"
    )
    found = [row[0] for row in rows.project(key_of(columns)).fetchall()]
    assert found == [b"text", b"a", b"a", None]
