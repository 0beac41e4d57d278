"""The catalog's database: migrations, transactions, and what goes wrong with databases."""

import contextlib
import multiprocessing
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import QueuePool, inspect, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InternalError

from restore_lib.catalog import engine
from restore_lib.catalog.engine import Catalog
from restore_lib.catalog.tables import metadata
from restore_lib.errors import (
    CatalogMismatch,
    CatalogUnavailable,
    ConfigError,
    DiskFull,
    TapeflowError,
)
from tests.support.postgres import PostgresServer

INSERT = text("INSERT INTO drive_leases (drive, token) VALUES (:drive, 0)")
COUNT = text("SELECT count(*) FROM drive_leases")


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    """A database without any table, once on each kind."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'catalog.db'}"
    else:
        url = str(request.getfixturevalue("empty_postgres_url"))
    opened = Catalog(url)
    yield opened
    opened.close()


def run(catalog: Catalog, statement: str) -> None:
    with catalog.write() as connection:
        connection.execute(text(statement))


def insert_while(catalog: Catalog, something: Callable[[], None], then: int = 2) -> None:
    """Insert drive 1, let something happen, and insert drive ``then``, in one transaction."""
    with catalog.write() as connection:
        connection.execute(INSERT, {"drive": 1})
        something()
        connection.execute(INSERT, {"drive": then})


def fail_with(error: Exception) -> None:
    raise error


def test_migrating_makes_the_tables_of_the_code(empty: Catalog) -> None:
    empty.migrate()
    empty.check()
    with empty.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_migrating_again_keeps_all_rows(empty: Catalog) -> None:
    empty.migrate()
    with empty.write() as connection:
        connection.execute(INSERT, {"drive": 1})
    empty.migrate()
    with empty.read() as connection:
        assert connection.execute(COUNT).scalar_one() == 1


def test_a_migration_that_fails_leaves_nothing(
    empty: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("alembic.operations.Operations.execute", _fail)
        with pytest.raises(RuntimeError):
            empty.migrate()
    assert inspect(empty.engine).get_table_names() == []
    empty.migrate()
    empty.check()


def _fail(*_: object, **__: object) -> None:
    raise RuntimeError


def test_migrating_twice_at_once_is_one_migration(empty: Catalog) -> None:
    url = empty.engine.url.render_as_string(hide_password=False)
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.map(_migrate, [url] * 3) == ["", "", ""]
    empty.check()


def _migrate(url: str) -> str:
    catalog = Catalog(url)
    try:
        catalog.migrate()
    except (TapeflowError, DBAPIError) as error:
        return str(error)
    finally:
        catalog.close()
    return ""


def test_a_catalog_that_is_not_set_up(empty: Catalog) -> None:
    with pytest.raises(CatalogMismatch) as caught:
        empty.check()
    assert "tapeflow catalog migrate" in caught.value.remedy


def test_a_catalog_newer_than_the_code(catalog: Catalog) -> None:
    run(catalog, "UPDATE alembic_version SET version_num = '9999'")
    for use in (catalog.check, catalog.migrate):
        with pytest.raises(CatalogMismatch, match="9999") as caught:
            use()
        assert "install the version" in caught.value.remedy


def test_a_database_of_something_else_is_left_alone(empty: Catalog) -> None:
    run(empty, "CREATE TABLE customers (id INTEGER)")
    for use in (empty.check, empty.migrate):
        with pytest.raises(CatalogMismatch, match="no tapeflow catalog") as caught:
            use()
        assert "of its own" in caught.value.remedy
    assert inspect(empty.engine).get_table_names() == ["customers"]


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    path.write_bytes(b"a letter to a friend, " * 100)
    catalog = Catalog(f"sqlite:///{path}")
    with pytest.raises(CatalogMismatch, match=r"catalog\.db"):
        catalog.migrate()
    assert path.read_bytes() == b"a letter to a friend, " * 100


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    catalog = Catalog(f"sqlite:///{tmp_path}/missing/catalog.db")
    with pytest.raises(CatalogUnavailable, match="missing/catalog") as caught:
        catalog.check()
    assert caught.value.retryable


def test_a_server_that_goes_away_and_comes_back(postgres: PostgresServer) -> None:
    with postgres.database("migrated") as url:
        catalog = Catalog(url)
        with pytest.raises(CatalogUnavailable) as caught:
            insert_while(catalog, postgres.stop)
        assert caught.value.retryable
        with pytest.raises(CatalogUnavailable), catalog.read():
            pass
        postgres.start()
        with catalog.read() as connection:
            assert connection.execute(COUNT).scalar_one() == 0
        catalog.close()


def test_a_server_that_was_never_there() -> None:
    catalog = Catalog("postgresql://ann:hunter2@127.0.0.1:1/catalog")
    with pytest.raises(CatalogUnavailable, match=r"ann:\*\*\*@127") as caught:
        catalog.check()
    assert "hunter2" not in f"{caught.value}{caught.value.remedy}{caught.value.context}"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "catalog.db",
        "mysql://ann:hunter2@host/catalog",
        "postgresql+hunter2://host/catalog",
        "postgresql://ann:hunter2@host:hunter2/catalog",
        "sqlite+aiosqlite:///catalog.db",
    ],
)
def test_a_wrong_url(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Catalog(url)
    assert "sqlite:///" in caught.value.remedy
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def outgrow(catalog: Catalog) -> None:
    insert = text("INSERT INTO objects (store, key) VALUES (:name, zeroblob(4000))")
    with catalog.write() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 4}")
        connection.execute(insert, [{"name": str(number)} for number in range(100)])


def test_a_disk_that_is_full(sqlite_url: str) -> None:
    catalog = Catalog(sqlite_url)
    with pytest.raises(DiskFull) as caught:
        outgrow(catalog)
    assert "free space" in caught.value.remedy
    with catalog.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM objects")).scalar_one() == 0
    catalog.close()


def test_a_transaction_is_whole_or_nothing(catalog: Catalog) -> None:
    with pytest.raises(IntegrityError):
        insert_while(catalog, lambda: None, then=1)
    with catalog.read() as connection:
        assert connection.execute(COUNT).scalar_one() == 0


def test_our_own_errors_pass_and_undo(catalog: Catalog) -> None:
    own = ConfigError("Mine.")
    with pytest.raises(ConfigError) as caught:
        insert_while(catalog, lambda: fail_with(own))
    assert caught.value is own
    with catalog.read() as connection:
        assert connection.execute(COUNT).scalar_one() == 0


def test_a_reader_sees_one_state(catalog: Catalog) -> None:
    with catalog.read() as reader:
        assert reader.execute(COUNT).scalar_one() == 0
        with catalog.write() as writer:
            writer.execute(INSERT, {"drive": 1})
        assert reader.execute(COUNT).scalar_one() == 0
    with catalog.read() as reader:
        assert reader.execute(COUNT).scalar_one() == 1


def test_what_a_reader_writes_is_not_kept(catalog: Catalog) -> None:
    with contextlib.suppress(InternalError), catalog.read() as reader:
        reader.execute(INSERT, {"drive": 1})
    with catalog.read() as reader:
        assert reader.execute(COUNT).scalar_one() == 0


def test_writers_at_once_wait_for_each_other(catalog: Catalog) -> None:
    def write(worker: int) -> None:
        for number in range(10):
            with catalog.write() as connection:
                connection.execute(COUNT).scalar_one()
                connection.execute(INSERT, {"drive": worker * 100 + number})

    failures: list[BaseException] = []
    before = threading.excepthook
    threading.excepthook = lambda hook: failures.append(hook.exc_value or Exception())
    try:
        threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        threading.excepthook = before
    assert failures == []
    with catalog.read() as connection:
        assert connection.execute(COUNT).scalar_one() == 40


def test_foreign_keys_hold(catalog: Catalog) -> None:
    with pytest.raises(IntegrityError):
        run(
            catalog,
            "INSERT INTO custody_events (barcode, at, field, before, after, place, actor, reason)"
            " VALUES ('none', '2030-01-01', 'custody', '', '', '', '', '')",
        )


def test_the_names_of_the_scripts_tell_their_revisions() -> None:
    scripts = ScriptDirectory(str(Path(engine.__file__).parent / "migrations"))
    assert engine._revisions() == {script.revision for script in scripts.walk_revisions()}
    assert max(engine._revisions()) == scripts.get_current_head()


def test_connections_that_are_all_busy_are_an_error_that_passes(catalog: Catalog) -> None:
    pool = catalog.engine.pool
    assert isinstance(pool, QueuePool)
    pool._timeout = 0.05
    with contextlib.ExitStack() as held:
        for _ in range(pool.size() + pool._max_overflow):
            held.enter_context(catalog.read())
        with pytest.raises(CatalogUnavailable, match="have been busy"), catalog.read():
            pass
    with catalog.read():
        pass


@pytest.mark.parametrize("code", [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY])
def test_a_catalog_whose_log_another_process_recovers_is_waited_for(code: int) -> None:
    tries: list[int] = []

    def step() -> None:
        tries.append(code)
        if len(tries) < 3:
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = code
            raise error

    engine._when_free(step)
    assert len(tries) == 3
