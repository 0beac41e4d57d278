"""Reference tables: what should exist, as an application tells it in Parquet or CSV.

One row an object. Columns: ``key`` (text) or ``key_b64`` (base64 of the name's bytes, for names
that are not UTF-8); where known ``size`` (bytes), ``sha256`` (hex) and ``modified_at`` (RFC 3339,
or in Parquet a timestamp with time zone). Other columns are passed over. CSV is RFC 4180 in UTF-8
with a header line.
"""

import csv
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from glob import escape
from pathlib import Path

import duckdb

from restore_lib.errors import Refused
from restore_lib.integrity.reference_columns import TEXT, WHAT, Column, column, key_of
from restore_lib.integrity.scratch import disk_is_full, fill, scratch_database
from restore_lib.model.objects import StoredObject, display_key

_PARQUET = b"PAR1"
_KEYS = {"key", "key_b64"}
_PROBE = 64 << 10
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KEY_REMEDY = "give it a column key, or key_b64 for names that are not UTF-8"


def load_reference(database: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Create the table ``expected`` (key, size, sha256, modified) from a reference table.

    ``modified`` is in seconds since 1970. Refused, naming the file, and where they are known the
    line or row and the column, when the file is not there, is neither Parquet nor CSV, lacks a key
    column, holds a value that is not what its column says, or names one object twice.
    """
    with _explained(path):
        source = _open(database, path)
        columns = _columns(path, dict(zip(source.columns, map(str, source.types), strict=True)))
        source.project(", ".join(["row_number() OVER () AS row", *columns])).create("raw")
    raw = database.table("raw")
    for each in columns.values():
        _check_values(raw, path, each)
    key = key_of(columns)
    _check_keys(raw, path, key)
    size, sha256, modified = (
        columns[name].value if name in columns else f"CAST(NULL AS {kind})"
        for name, kind in (("size", "BIGINT"), ("sha256", "BLOB"), ("modified_at", "BIGINT"))
    )
    raw.project(f"{key} AS key, {size} AS size, {sha256} AS sha256, {modified} AS modified").create(
        "expected"
    )
    database.execute("DROP TABLE raw")


def write_reference(objects: Iterable[StoredObject], path: Path) -> int:
    """Write a reference table of ``objects`` to ``path`` as Parquet; return how many there are.

    The file appears whole or not at all, with key_b64, size, modified_at and etag.
    """
    rows = (
        (each.key, each.size, (each.modified_at - EPOCH) // timedelta(microseconds=1), each.etag)
        for each in objects
    )
    with (
        tempfile.TemporaryDirectory(prefix="tapeflow-reference-") as folder,
        scratch_database(Path(folder)) as database,
    ):
        database.execute("CREATE TABLE found (key BLOB, size BIGINT, modified BIGINT, etag TEXT)")
        written = fill(database, "found", ("BLOB", "BIGINT", "BIGINT", "TEXT"), rows)
        table = database.sql(
            "SELECT to_base64(key) AS key_b64, size, make_timestamptz(modified) AS modified_at,"
            " etag FROM found"
        )
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=".reference-", delete=False
        ) as new:
            os.fchmod(new.fileno(), 0o644)
        try:
            table.write_parquet(new.name)
            Path(new.name).replace(path)
        finally:
            Path(new.name).unlink(missing_ok=True)
    return written


def _open(database: duckdb.DuckDBPyConnection, path: Path) -> duckdb.DuckDBPyRelation:
    try:
        with path.open("rb") as file:
            start = file.read(_PROBE)
    except OSError as error:
        raise Refused(
            f"The reference table {path} can't be read: {error.strerror}.",
            remedy="check the path and its permissions",
        ) from error
    if start.startswith(_PARQUET):
        return database.read_parquet(escape(str(path)))
    if b"\0" in start:
        raise Refused(
            f"The reference table {path} is neither Parquet nor CSV.",
            remedy="write it as Parquet, or as CSV in UTF-8 with a header line",
        )
    return database.read_csv(
        escape(str(path)),
        columns=dict.fromkeys(_csv_names(path), TEXT),
        header=True,
        auto_detect=False,
        delimiter=",",
        quotechar='"',
        escapechar='"',
        strict_mode=True,
    )


def _csv_names(path: Path) -> list[str]:
    """Return the names of a CSV's columns; those that nobody reads get names that can't clash."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        try:
            names = next(csv.reader(file, strict=True), [])
        except csv.Error as error:
            raise Refused(
                f"The header line of {path} is not CSV: {error}.",
                remedy="write the table as CSV in UTF-8 with a header line, or as Parquet",
            ) from error
    if not _KEYS.intersection(names):
        raise _no_key(path)
    for name in WHAT:
        if names.count(name) > 1:
            raise Refused(f"{path} has two columns {name}.", remedy="leave one of them out")
    return [name if name in WHAT else f"unread_{n}" for n, name in enumerate(names)]


def _columns(path: Path, types: dict[str, str]) -> dict[str, Column]:
    found: dict[str, Column] = {}
    for name in WHAT:
        if name not in types:
            continue
        made = column(name, types[name])
        if made is None:
            raise Refused(
                f"Column {name} of {path} is of type {types[name]}.",
                remedy=f"it has to hold {WHAT[name]}",
            )
        found[name] = made
    if not _KEYS.intersection(found):
        raise _no_key(path)
    return found


def _no_key(path: Path) -> Refused:
    return Refused(f"{path} has no column key or key_b64.", remedy=_KEY_REMEDY)


def _check_values(raw: duckdb.DuckDBPyRelation, path: Path, each: Column) -> None:
    bad = raw.filter(each.wrong)
    found = bad.project(f"row, CAST({each.name} AS VARCHAR)").order("row").limit(1).fetchall()
    for row, value in found:
        raise Refused(
            f"Row {row} of {path}, column {each.name}: {value[:100]!r} is not {each.what}.",
            remedy="correct the row; where the value is not known, leave it empty",
        )


def _check_keys(raw: duckdb.DuckDBPyRelation, path: Path, key: str) -> None:
    nameless = raw.filter(f"{key} IS NULL").project("row").order("row").limit(1).fetchall()
    for (row,) in nameless:
        raise Refused(f"Row {row} of {path} has no key.", remedy=_KEY_REMEDY)
    named = raw.project(f"row, {key} AS name")
    twice = named.aggregate("name, min(row) AS one, max(row) AS other", "name").filter(
        "one <> other"
    )
    found = twice.order("one").limit(1).fetchall()
    for name, one, other in found:
        raise Refused(
            f"Rows {one} and {other} of {path} name the same object, {display_key(bytes(name))}.",
            remedy="name each object once, with the size and digest it should have now",
        )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what DuckDB says of a file that it can't parse into Refused."""
    try:
        yield
    except duckdb.Error as error:
        if disk_is_full(error):
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = " ".join(lines[:3])
        remedy = "correct it; CSV has to be RFC 4180 in UTF-8, and names that are not UTF-8 are"
        raise Refused(
            f"The reference table {path} can't be parsed: {said}", remedy=f"{remedy} for key_b64"
        ) from error
