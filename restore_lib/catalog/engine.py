"""The catalog's database: connections, transactions, migrations."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    column,
    create_engine,
    event,
    inspect,
    make_url,
    select,
    table,
)
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from restore_lib.errors import (
    CatalogMismatch,
    CatalogUnavailable,
    ConfigError,
    DiskFull,
    TapeflowError,
)

_MIGRATIONS = Path(__file__).parent / "migrations"
_VERSION = table("alembic_version", column("version_num"))
_DRIVERS = {"sqlite", "sqlite+pysqlite", "postgresql+psycopg"}
_UNDEFINED_TABLE = "42P01"
"""What PostgreSQL says of a table that is not there."""
_BUSY_MILLISECONDS = 120_000
_POSTGRESQL_KEY = 2_600
"""An entry of an index has at most 2,704 bytes: a key, the name of its store and what is added."""


class Catalog:
    """A handle on the catalog; threads and processes may each have their own."""

    def __init__(self, url: str) -> None:
        """Connect lazily; ConfigError when ``url`` is not an SQLite or PostgreSQL one."""
        self.engine = _engine(url)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that sees one state, that of its first query, and writes nothing."""
        with _mapped(self.engine), self.engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a transaction: committed whole at the end, or not at all on an error or crash.

        On SQLite it is the only writer from its beginning; on PostgreSQL state changes must be
        compare-and-set.
        """
        with (
            _mapped(self.engine),
            self.engine.connect() as connection,
            connection.execution_options(tapeflow_write=True).begin(),
        ):
            yield connection

    @property
    def longest_key(self) -> int | None:
        """The most bytes that an object's name can have; None where there is no bound."""
        return _POSTGRESQL_KEY if self.engine.dialect.name == "postgresql" else None

    def migrate(self) -> None:
        """Create the catalog, or bring an older one to this code's schema, keeping all rows."""
        with _mapped(self.engine):
            self._refuse_newer(self._revision())
            _upgrade(self.engine)

    def check(self) -> None:
        """Raise CatalogMismatch unless the schema is exactly the one this code was written for."""
        with _mapped(self.engine):
            revision = self._revision()
            if revision == max(_revisions()):
                return
            self._refuse_newer(revision)
            raise CatalogMismatch(
                f"The catalog {self._name()} has not been set up for this version.",
                remedy="run `tapeflow catalog migrate`",
            )

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def _refuse_newer(self, revision: str | None) -> None:
        if revision is not None and revision not in _revisions():
            raise CatalogMismatch(
                f"The catalog {self._name()} is of revision {revision!r}, newer than this code."
            )
        if revision is None and inspect(self.engine).get_table_names():
            raise CatalogMismatch(
                f"The database {self._name()} holds tables, but is no tapeflow catalog.",
                remedy="give tapeflow a database of its own in [catalog] url",
            )

    def _revision(self) -> str | None:
        with self.engine.connect() as connection:
            try:
                return connection.execute(select(_VERSION.c.version_num)).scalar_one_or_none()
            except DatabaseError as error:
                unknown = getattr(error.orig, "sqlstate", None) == _UNDEFINED_TABLE
                if unknown or "no such table" in str(error.orig):
                    return None
                raise

    def _name(self) -> str:
        return self.engine.url.render_as_string(hide_password=True)


def _revisions() -> set[str]:
    """Return the revisions that this code knows: the numbers that its scripts' names begin with."""
    return {path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py")}


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.drivername not in _DRIVERS:
            raise ValueError(parsed.drivername)
    except (ValueError, ArgumentError):
        # The cause is not kept: its text may hold the password.
        raise ConfigError(
            "[catalog] url is not a URL of SQLite or PostgreSQL.",
            remedy="write sqlite:///catalog.db or postgresql+psycopg://USER@HOST/DATABASE",
        ) from None
    if parsed.get_backend_name() == "postgresql":
        engine = create_engine(parsed, pool_pre_ping=True, isolation_level="READ COMMITTED")
        event.listen(engine, "connect", _prepare_postgresql)
        return engine
    engine = create_engine(parsed, connect_args={"timeout": _BUSY_MILLISECONDS / 1000})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_postgresql(connection: Any, _record: object) -> None:
    """Set what holds for the whole session.

    Times are told in UTC: in another zone the last of year 9999 is more than Python can hold. The
    temporary tables of a plan stay in memory, which only sessions take that have such tables.
    """
    connection.execute("SET TIME ZONE 'UTC'")
    connection.execute("SET temp_buffers = '128MB'")
    connection.commit()


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout={_BUSY_MILLISECONDS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
    ):
        _when_free(partial(connection.execute, f"PRAGMA {pragma}"))


def _when_free(step: Callable[[], object]) -> None:
    """Do a step that SQLite refuses at once, without its own waiting, while another is at work."""
    until = time.monotonic() + _BUSY_MILLISECONDS / 1000
    while True:
        try:
            step()
        except sqlite3.OperationalError as error:
            # The lowest byte is the kind: busy, as while another process recovers the log.
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("tapeflow_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def _mapped(engine: Engine) -> Iterator[None]:
    """Map the database's errors to ours; constraint violations are bugs and stay as they are."""
    try:
        yield
    except TapeflowError:
        raise
    except OperationalError as error:
        name = engine.url.render_as_string(hide_password=True)
        text = str(error.orig)
        if (
            "disk is full" in text
            or "No space left" in text
            or "DiskFull" in type(error.orig).__name__
        ):
            raise DiskFull(f"The catalog {name} can't grow: {text}.") from error
        raise CatalogUnavailable(f"The catalog {name} does not answer: {text.strip()}.") from error
    except PoolTimeout as error:
        name = engine.url.render_as_string(hide_password=True)
        raise CatalogUnavailable(
            f"All connections of this process to the catalog {name} have been busy for long.",
            remedy="look what keeps the database, then run it again",
        ) from error
    except DatabaseError as error:
        if "file is not a database" not in str(error.orig):
            raise
        name = engine.url.render_as_string(hide_password=True)
        raise CatalogMismatch(
            f"The file of {name} is no SQLite database.",
            remedy="name the catalog's own file in [catalog] url, or a new one",
        ) from error


def _upgrade(engine: Engine) -> None:
    from alembic import command  # noqa: PLC0415 - takes longer than most tasks, which never migrate
    from alembic.config import Config  # noqa: PLC0415 - as above

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["engine"] = engine
    command.upgrade(config, "head")
