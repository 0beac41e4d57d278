import contextlib
import sqlite3
from pathlib import Path

from tests.support.commands import as_json, refused, succeeds


def contents(root: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(root / "catalog.db")) as database:
        return list(database.iterdump())


def revise(root: Path, revision: str) -> None:
    with contextlib.closing(sqlite3.connect(root / "catalog.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", [revision])


def test_a_catalog_is_made_and_checked(fresh: Path) -> None:
    (fresh / "catalog.db").unlink()
    assert "`tapeflow catalog migrate`" in refused(fresh, "catalog", "check", code=78)
    assert as_json(fresh, "catalog", "migrate") == {"catalog": "ready"}
    assert "ready" in succeeds(fresh, "catalog", "check").stdout
    succeeds(fresh, "catalog", "migrate")


def test_a_catalog_newer_than_the_code_is_left_alone(cluster: Path) -> None:
    revise(cluster, "9999")
    before = contents(cluster)
    for command in (["catalog", "migrate"], ["backup", "run", "live"], ["volumes"]):
        said = refused(cluster, *command, code=78)
        assert "newer than this code" in said
        assert "install the version of tapeflow" in said
    assert contents(cluster) == before


def test_a_foreign_database_is_left_alone(fresh: Path) -> None:
    (fresh / "catalog.db").unlink()
    with sqlite3.connect(fresh / "catalog.db") as database:
        database.execute("CREATE TABLE customers (id INTEGER)")
    said = refused(fresh, "catalog", "migrate", code=78)
    assert "no tapeflow catalog" in said
    assert "database of its own" in said
