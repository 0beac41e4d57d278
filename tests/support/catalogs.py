"""Empty catalogs for all tests, on SQLite and on PostgreSQL; tests/conftest.py loads them."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from restore_lib.catalog.engine import Catalog


@pytest.fixture(scope="session")
def _migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "catalog.db"
    catalog = Catalog(f"sqlite:///{path}")
    catalog.migrate()
    catalog.close()
    return path


@pytest.fixture
def sqlite_url(_migrated_sqlite: Path, tmp_path: Path) -> str:
    """The URL of a database file of its own, with an empty catalog in it."""
    path = tmp_path / "catalog.db"
    shutil.copy(_migrated_sqlite, path)
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgresql"])
def catalog_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty catalog, once on each database."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    return str(request.getfixturevalue(name))


@pytest.fixture
def catalog(catalog_url: str) -> Iterator[Catalog]:
    """An empty catalog, once on each database."""
    opened = Catalog(catalog_url)
    yield opened
    opened.close()
