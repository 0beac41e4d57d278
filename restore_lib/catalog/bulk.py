"""Bulk statements: many rows in few of them, with little work for each row."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar

from sqlalchemy import Connection, Dialect, Table
from sqlalchemy.types import TypeEngine

T = TypeVar("T")
CHUNK = 5000
_PARAMETERS = 30_000
"""Of one statement; SQLite takes 32,766."""


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut ``values`` into pieces that one statement can name."""
    return (values[start : start + CHUNK] for start in range(0, len(values), CHUNK))


def insert_rows(
    connection: Connection,
    table: Table,
    columns: Mapping[str, Sequence[object]],
    *,
    skip_known: bool = False,
    returning: Sequence[str] = (),
) -> list[tuple[Any, ...]]:
    """Insert rows that are given column by column, thousands with each statement.

    A row that a unique constraint forbids is left out with ``skip_known``. Return the columns named
    in ``returning``, as the driver gives them, of the rows inserted, in no order.
    """
    dialect = connection.dialect
    quote = dialect.identifier_preparer.quote
    names = ", ".join(quote(name) for name in columns)
    tail = " ON CONFLICT DO NOTHING" if skip_known else ""
    if returning:
        tail += f" RETURNING {', '.join(quote(name) for name in returning)}"
    types = [table.c[name].type for name in columns]
    bound = [
        _bound(type_, dialect, values)
        for type_, values in zip(types, columns.values(), strict=True)
    ]
    step = _PARAMETERS // len(columns)
    returned: list[tuple[Any, ...]] = []
    for start in range(0, len(bound[0]), step):
        page = [values[start : start + step] for values in bound]
        source, parameters = _source(dialect, types, page)
        text = f"INSERT INTO {quote(table.name)} ({names}) {source}{tail}"
        result = connection.exec_driver_sql(text, parameters)
        if returning:
            returned += (tuple(row) for row in result)
    return returned


def _bound(type_: TypeEngine[Any], dialect: Dialect, values: Sequence[object]) -> Sequence[object]:
    """Return the values as the driver takes them."""
    convert = type_.dialect_impl(dialect).bind_processor(dialect)
    return values if convert is None else [convert(value) for value in values]


def _source(
    dialect: Dialect, types: Sequence[TypeEngine[Any]], page: Sequence[Sequence[object]]
) -> tuple[str, tuple[object, ...]]:
    """Return what gives the rows of a page of columns in SQL, and its parameters."""
    if dialect.name == "postgresql":  # one array for each column, since each parameter is slow
        arrays = ", ".join(f"%s::{type_.compile(dialect)}[]" for type_ in types)
        text = f"SELECT * FROM unnest({arrays})"  # noqa: S608 - names of types alone
        return text, tuple(list(values) for values in page)
    rows = list(zip(*page, strict=True))
    row = f"({', '.join('?' * len(types))})"
    return f"VALUES {', '.join([row] * len(rows))}", tuple(chain.from_iterable(rows))
