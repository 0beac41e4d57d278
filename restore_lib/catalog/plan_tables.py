"""The temporary tables in which a plan is made; they end with ``planning``."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.schema import SchemaItem

from restore_lib.catalog.columns import Digest, Id

_POSTGRESQL = (
    "work_mem = '64MB'",
    # What belongs together was written together, so that its pages and the way to them are at hand:
    # with the usual costs, all versions are read for the sake of one in twenty.
    "random_page_cost = 0.5",
    "cpu_operator_cost = 0.001",
    # Nothing is looked up twice.
    "enable_memoize = off",
    # A plan is too short to be compiled.
    "jit = off",
)
# In KiB: what a plan needs, so that a page is written once and not each time that it is filled
# further, and what SQLite takes without being told.
_SQLITE = ("temp.cache_size = -131072", "main.cache_size = -65536")
_SQLITE_AFTER = ("temp.cache_size = -2000", "main.cache_size = -2000")
_temporary = MetaData()


def _table(name: str, *items: SchemaItem) -> Table:
    return Table(name, _temporary, *items, prefixes=["TEMPORARY"], postgresql_on_commit="DROP")


wanted = _table(
    "plan_wanted",
    Column("id", Id, Identity(cache=10_000), nullable=False),
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
    PrimaryKeyConstraint("id").ddl_if(dialect="sqlite"),
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
contents = _table(
    "plan_contents",
    Column("sha256", Digest),
    Column("own_id", BigInteger, nullable=False),
    Column("item_id", BigInteger, nullable=False),
    Column("version_id", BigInteger, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("error", Text, nullable=False),
)
"""What is looked for as copies, in the order of its content."""

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
    Column("item_id", Id, nullable=False, autoincrement=False),
    Column("version_id", BigInteger),
    Column("route", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("place", BigInteger, nullable=False),
    # PostgreSQL joins by hash, and would take longer for the index than for the rows.
    PrimaryKeyConstraint("item_id").ddl_if(dialect="sqlite"),
)
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
    """Have the tables of a plan until the end, which an error leaves to the transaction's.

    What SQLite is told is taken back in any case.
    """
    sqlite = connection.dialect.name == "sqlite"
    for setting in _SQLITE if sqlite else _POSTGRESQL:
        connection.execute(text(f"PRAGMA {setting}" if sqlite else f"SET LOCAL {setting}"))
    try:
        _temporary.create_all(connection, checkfirst=False)
        yield
        _temporary.drop_all(connection, checkfirst=False)
    finally:
        for setting in _SQLITE_AFTER if sqlite else ():
            connection.execute(text(f"PRAGMA {setting}"))


def index_wanted(connection: Connection) -> None:
    """Let the wanted be found by their ids, once all are there: SQLite keeps them by these."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("ALTER TABLE plan_wanted ADD PRIMARY KEY (id)"))


def index_routes(connection: Connection) -> None:
    """Let the picks of one route be found without reading them all, once all are there."""
    connection.execute(text("CREATE INDEX ix_plan_picks ON plan_picks (route)"))


def analyze(connection: Connection, table: Table) -> None:
    """Let the database know how large a table has become; SQLite guesses well enough."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"ANALYZE {table.name}"))
