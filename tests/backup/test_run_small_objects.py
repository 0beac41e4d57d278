"""What a backup of small objects costs must not grow with their number, but for reading them."""

import contextlib
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from restore_lib.site import Site
from tests.support.sites import back_up, make_site, write_files

FEW, MANY = 20, 2000
ROOM = 'k = 2\nm = 1\nblock_size = "4KiB"\nsegment_size = "8MiB"'
SPARE = 10


class Slow:
    """Counts what is slow: statements, each row of a repeated one, and flushes to the disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found: Counter[str] = Counter()
        for name in ("fsync", "fdatasync", "sync"):
            monkeypatch.setattr(os, name, self._counted(getattr(os, name)))

    def watch(self, site: Site) -> None:
        event.listen(site.catalog.engine, "before_cursor_execute", self._statement)

    def take(self) -> Counter[str]:
        found, self.found = self.found, Counter()
        return found

    def _counted(self, function: Any) -> Any:
        def count(*arguments: Any) -> Any:
            self.found["flushes"] += 1
            return function(*arguments)

        return count

    def _statement(self, *seen: Any) -> None:
        _connection, _cursor, _text, parameters, _context, repeated = seen
        self.found["statements"] += len(parameters) if repeated else 1


def costs(root: Path, url: str | None, count: int, slow: Slow) -> list[Counter[str]]:
    """Return what backups cost in which all objects are new, changed, the same and gone."""
    site = make_site(root, policy=ROOM, capacity="40MB", url=url)
    slow.watch(site)
    slow.take()
    found = []
    for content in (b"new", b"changed", None, b""):
        if content == b"":
            shutil.rmtree(root / "live")
            (root / "live").mkdir()
        elif content:
            write_files(
                root / "live", {b"d%d/%05d" % (n % 7, n): content + b"%d" % n for n in range(count)}
            )
        point = back_up(site)
        found.append(slow.take())
        assert point.summary["objects"] == (0 if content == b"" else count)
        assert point.summary["backed_up"] == (count if content else 0)
    site.close()
    return found


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_the_number_of_objects_costs_no_statement_and_no_flush(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    database: str,
) -> None:
    slow = Slow(monkeypatch)
    cost = {}
    for count in (FEW, MANY):
        with contextlib.ExitStack() as open_databases:
            url = None
            if database == "postgresql":
                server = request.getfixturevalue("postgres")
                url = open_databases.enter_context(server.database("migrated"))
            cost[count] = costs(tmp_path / str(count), url, count, slow)
    for few, many in zip(cost[FEW], cost[MANY], strict=True):
        assert few["statements"]
        assert many["statements"] <= few["statements"] + SPARE
        assert many["flushes"] <= few["flushes"] + SPARE
    assert cost[FEW][0]["flushes"]
