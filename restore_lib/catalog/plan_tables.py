"""The temporary tables in which a plan is made; they end with ``planning``."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

from restore_lib.catalog.columns import Digest, Id

_temporary = MetaData()


def _table(name: str, *columns: Column[Any]) -> Table:
    return Table(name, _temporary, *columns, prefixes=["TEMPORARY"], postgresql_on_commit="DROP")


wanted = _table(
    "plan_wanted",
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("request_id", BigInteger, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("version_id", BigInteger),
    Column("source_id", BigInteger),
    Column("loss_class", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("size", BigInteger),
    Column("sha256", Digest),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("error_code", String(32)),
)
"""The items to be planned, with the columns that new items have."""

ways = _table(
    "plan_ways",
    Column("item_id", BigInteger, nullable=False),
    Column("version_id", BigInteger),
    Column("own", Integer, nullable=False),
    Column("volumes", Text),
    Column("choices", Text),
    Column("size", BigInteger, nullable=False),
    Column("place", BigInteger, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("error", Text, nullable=False),
)
_is_copy = ways.c.own == 0
Index("ix_plan_ways", ways.c.item_id, sqlite_where=_is_copy, postgresql_where=_is_copy)
copies = _table(
    "plan_copies",
    Column("item_id", BigInteger, nullable=False),
    Column("version_id", BigInteger, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("error", Text, nullable=False),
)
routes = _table(
    "plan_routes",
    Column("choices", Text, primary_key=True),
    Column("tries", Integer, primary_key=True, autoincrement=False),
    Column("error", Text, primary_key=True),
    Column("volumes", Text, nullable=False),
    Column("route", BigInteger, nullable=False),
)
picks = _table(
    "plan_picks",
    Column("item_id", Id, primary_key=True, autoincrement=False),
    Column("version_id", BigInteger),
    Column("route", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("place", BigInteger, nullable=False),
)
Index("ix_plan_picks", picks.c.route)
cuts = _table(
    "plan_cuts",
    Column("item_id", Id, primary_key=True, autoincrement=False),
    Column("part", BigInteger, nullable=False),
)
parts = _table(
    "plan_parts",
    Column("part", Id, primary_key=True, autoincrement=False),
    Column("batch_id", BigInteger, nullable=False),
)


@contextmanager
def planning(connection: Connection) -> Iterator[None]:
    """Have the tables of a plan until the end, which an error leaves to the transaction's."""
    if connection.dialect.name == "postgresql":
        # What belongs together was written together, and a plan is too short to be compiled.
        connection.execute(text("SET LOCAL random_page_cost = 1.1"))
        connection.execute(text("SET LOCAL work_mem = '32MB'"))
        connection.execute(text("SET LOCAL jit = off"))
    _temporary.create_all(connection, checkfirst=False)
    yield
    _temporary.drop_all(connection, checkfirst=False)


def analyze(connection: Connection, table: Table) -> None:
    """Let the database know how large a table has become; SQLite guesses well enough."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"ANALYZE {table.name}"))
