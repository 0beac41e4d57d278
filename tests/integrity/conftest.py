"""A site with a local store, on SQLite and on PostgreSQL, and a library of blank volumes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from restore_lib.config import load_config
from restore_lib.site import Site
from restore_lib.tape.age import new_identity
from tests.integrity.repairs import build
from tests.support.clock import ManualClock

CONFIG = """
[cluster]
id = "test"
[catalog]
url = "{url}"
[keys]
recipients = ["{recipient}"]
[stores.live]
kind = "local"
path = "live"
[library]
path = "tapes"
slots = 8
drives = 2
import_export = 2
capacity = 100000000
"""


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """The folder of the store ``live``."""
    folder = tmp_path / "live"
    folder.mkdir()
    return folder


@pytest.fixture
def site(tmp_path: Path, live: Path, catalog_url: str) -> Iterator[Site]:
    """The site, with its time standing still, once on each database."""
    opened = make_site(tmp_path, catalog_url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_site(tmp_path: Path, live: Path, sqlite_url: str) -> Iterator[Site]:
    """The site on SQLite alone, where the catalog's part is tested on both elsewhere."""
    opened = make_site(tmp_path, sqlite_url)
    yield opened
    opened.close()


@pytest.fixture
def five(tmp_path: Path) -> Iterator[Site]:
    """A site whose backup lies on one set of 3+2 volumes, with two blank ones beside it."""
    opened = build(tmp_path)
    yield opened
    opened.close()


def make_site(folder: Path, url: str) -> Site:
    _, recipient = new_identity()
    path = folder / "tapeflow.toml"
    path.write_text(CONFIG.format(url=url, recipient=recipient))
    return Site(load_config(path), ManualClock())
