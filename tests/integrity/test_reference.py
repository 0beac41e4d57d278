"""Reference tables: every name survives byte for byte, and every bad table is refused by place."""

import base64
import csv
import hashlib
import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from restore_lib.errors import Refused
from restore_lib.integrity.reference import load_reference, write_reference
from restore_lib.integrity.scratch import scratch_database
from restore_lib.model.objects import StoredObject

DIGEST = hashlib.sha256(b"").hexdigest()
AT = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
SECONDS = 1893553445
KEYS = st.binary(min_size=1, max_size=40)
HOSTILE = [
    b"plain",
    b"with space ",
    b" leading",
    b"a\nb",
    b"a\r\nb\r",
    b'quo"te""s',
    b"'single'",
    b"comma,comma",
    b"tab\t;|",
    b"\\x41\\",
    b"NULL",
    b"\xef\xbb\xbfbom",
    b"\xff\xfe not utf-8",
    b"nul\0nul",
    "ünï©ode/😀".encode(),
    b"e" * 255,
    b"0x00",
    b"#comment",
]
SHARED = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

Rows = list[tuple[Any, ...]]


def loaded(path: Path) -> Rows:
    with scratch_database(path.parent) as database:
        load_reference(database, path)
        return database.execute("SELECT * FROM expected ORDER BY key").fetchall()


def write_csv(path: Path, *rows: list[str]) -> Path:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    path.write_bytes(text.getvalue().encode())
    return path


def write_parquet(path: Path, query: str) -> Path:
    duckdb.connect().sql(query).write_parquet(str(path))
    return path


def b64(key: bytes) -> str:
    return base64.b64encode(key).decode()


def refused(path: Path) -> str:
    with pytest.raises(Refused) as caught:
        loaded(path)
    assert str(path) in caught.value.message
    assert caught.value.remedy
    return caught.value.message


def is_text(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in key


def test_every_column_of_a_csv(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "table.csv",
        ["modified_at", "etag", "sha256", "size", "key"],
        ["2030-01-02T03:04:05.678901Z", "e1", DIGEST.upper(), "12", "a"],
        ["2030-01-02t05:04:05+02:00", "e2", "", "0", "b"],
        ["", "", "", "", "c"],
    )
    assert loaded(path) == [
        (b"a", 12, bytes.fromhex(DIGEST), SECONDS),
        (b"b", 0, None, SECONDS),
        (b"c", None, None, None),
    ]


def test_every_column_of_a_parquet_file(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "table",
        f"SELECT 'a' AS key, 12::UINTEGER AS size, '{DIGEST}' AS sha256,"
        " TIMESTAMPTZ '2030-01-02 04:04:05.9+01' AS modified_at, [1, 2] AS other",
    )
    assert loaded(path) == [(b"a", 12, bytes.fromhex(DIGEST), SECONDS)]


@pytest.mark.parametrize("kind", ["BLOB", "VARCHAR"])
def test_a_key_of_parquet_is_text_or_bytes(tmp_path: Path, kind: str) -> None:
    path = write_parquet(tmp_path / "table", f"SELECT 'a/b'::{kind} AS key")
    assert loaded(path) == [(b"a/b", None, None, None)]


def test_hostile_names_in_csv(tmp_path: Path) -> None:
    rows = [["", key.decode()] if is_text(key) else [b64(key), ""] for key in HOSTILE]
    path = write_csv(tmp_path / "table.csv", ["key_b64", "key"], *rows)
    assert [row[0] for row in loaded(path)] == sorted(HOSTILE)


@SHARED
@given(keys=st.sets(KEYS, min_size=1))
def test_any_names_in_csv(tmp_path: Path, keys: set[bytes]) -> None:
    path = write_csv(tmp_path / "table.csv", ["key_b64"], *[[b64(key)] for key in keys])
    assert [row[0] for row in loaded(path)] == sorted(keys)


@SHARED
@given(keys=st.sets(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)))
def test_any_text_in_csv(tmp_path: Path, keys: set[str]) -> None:
    path = write_csv(tmp_path / "table.csv", ["size", "key"], *[["7", key] for key in keys])
    assert [row[0] for row in loaded(path)] == sorted(key.encode() for key in keys)


def test_a_byte_order_mark_and_unix_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"\xef\xbb\xbfkey,size\na,1\nb,2")
    assert loaded(path) == [(b"a", 1, None, None), (b"b", 2, None, None)]


def test_columns_that_nobody_reads_may_have_any_name(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "table.csv", ["row", "KEY", "", "key", "", "Size"], ["9", "K", "", "a", "x", "z"]
    )
    assert loaded(path) == [(b"a", None, None, None)]


def test_a_path_with_wildcards_is_one_file(tmp_path: Path) -> None:
    folder = tmp_path / "it's [a] *?"
    folder.mkdir()
    assert loaded(write_csv(folder / "t*.csv", ["key"], ["a"])) == [(b"a", None, None, None)]
    parquet = write_parquet(folder / "p[q]*", "SELECT 'a' AS key")
    write_parquet(folder / "p[q]other", "SELECT 'b' AS key")
    assert loaded(parquet) == [(b"a", None, None, None)]


def test_a_table_without_rows(tmp_path: Path) -> None:
    assert loaded(write_csv(tmp_path / "table.csv", ["key", "size"])) == []


@pytest.mark.parametrize(
    ("header", "rows", "said"),
    [
        (["name", "size"], [["a", "1"]], "no column key or key_b64"),
        (["Key"], [["a"]], "no column key or key_b64"),
        (["key;size"], [["a;1"]], "no column key or key_b64"),
        (["key", "key"], [["a", "b"]], "two columns key"),
        (["key", "size"], [["a", "1"], ["b", "1.5"]], "Row 2 of .*, column size: '1.5'"),
        (["key", "size"], [["a", "-1"]], "Row 1 of .*, column size"),
        (["key", "size"], [["a", "9" * 30]], "Row 1 of .*, column size"),
        (["key", "size"], [["a", " 1"]], "Row 1 of .*, column size"),
        (["key", "sha256"], [["a", "00ff"]], "Row 1 of .*, column sha256: '00ff'"),
        (["key", "sha256"], [["a", "g" * 64]], "column sha256"),
        (["key", "modified_at"], [["a", "2030-01-01"]], "column modified_at"),
        (["key", "modified_at"], [["a", "2030-01-01T00:00:00"]], "column modified_at"),
        (["key", "modified_at"], [["a", "2030-02-30T00:00:00Z"]], "column modified_at"),
        (["key_b64"], [["YQ=="], ["Y!=="]], "Row 2 of .*, column key_b64: 'Y!=='"),
        (["key_b64"], [["YQ"]], "Row 1 of .*, column key_b64"),
        (["key", "size"], [["a", "1"], ["", "2"]], "Row 2 of .* has no key"),
        (["key"], [["a"], ["b"], ["a"]], "Rows 1 and 3 of .* name the same object, a"),
        (["key", "key_b64"], [["a", ""], ["", "YQ=="]], "Rows 1 and 2 of .* name the same"),
        (["key", "size"], [["a", "1"], ["b"]], "Line: 3"),
        (["key", "size"], [["a", "1", "2"]], "Line: 2"),
    ],
)
def test_bad_csv(tmp_path: Path, header: list[str], rows: list[list[str]], said: str) -> None:
    message = refused(write_csv(tmp_path / "table.csv", header, *rows))
    assert re.search(said, message), message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no column key"),
        (b"\x7fELF\0\0\0", "neither Parquet nor CSV"),
        (b"key\nfine\nb\xff\xfe\n", "Line: 3"),
        (b'key,size\n"a,1\n', "can't be parsed"),
        (b"PAR1 and then nothing", "can't be parsed"),
        (b'"' + b"x" * 200_000, "not CSV"),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "table"
    path.write_bytes(content)
    assert said in refused(path)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("1 AS key", "Column key of .* is of type INTEGER"),
        ("'a' AS key, 1.5::DOUBLE AS size", "Column size of .* is of type DOUBLE"),
        ("'a' AS key, TIMESTAMP '2030-01-01' AS modified_at", "Column modified_at"),
        ("'a' AS key, unhex('00') AS sha256", "Column sha256"),
        ("'a' AS name", "no column key"),
        ("'a' AS key, -5 AS size", "Row 1 of .*, column size: '-5'"),
        ("'a' AS key, 'infinity'::TIMESTAMPTZ AS modified_at", "column modified_at: 'infinity'"),
        ("NULL::VARCHAR AS key", "Row 1 of .* has no key"),
    ],
)
def test_bad_parquet(tmp_path: Path, columns: str, said: str) -> None:
    message = refused(write_parquet(tmp_path / "table", f"SELECT {columns}"))
    assert re.search(said, message), message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "can't be read" in refused(tmp_path / "missing.csv")


@SHARED
@given(
    objects=st.lists(
        st.builds(
            StoredObject,
            key=KEYS,
            size=st.integers(0, 2**62),
            modified_at=st.datetimes(
                min_value=datetime(1902, 1, 1),  # noqa: DTZ001 - Hypothesis wants naive bounds
                timezones=st.just(UTC),
            ),
            etag=st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
        ),
        unique_by=lambda each: each.key,
    )
)
def test_what_is_written_is_read(tmp_path: Path, objects: list[StoredObject]) -> None:
    path = tmp_path / "reference.parquet"
    assert write_reference(objects, path) == len(objects)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert loaded(path) == sorted(
        (each.key, each.size, None, (each.modified_at - epoch) // timedelta(seconds=1))
        for each in objects
    )


def test_a_table_that_breaks_off_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "reference.parquet"
    write_reference([StoredObject(b"old", 1, AT)], path)

    def broken() -> Iterator[StoredObject]:
        yield StoredObject(b"new", 1, AT)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_reference(broken(), path)
    assert [row[0] for row in loaded(path)] == [b"old"]


def test_writing_a_table_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "reference.parquet"
    write_reference([], path)
    with pytest.raises(FileNotFoundError):
        write_reference([], tmp_path / "missing" / "reference.parquet")
    assert list(tmp_path.iterdir()) == [path]
