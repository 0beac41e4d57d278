"""The differences between two catalogs of the same tapes, by a scratch database on disk."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from restore_lib.catalog.comparing import ONE_SIDED, facts, reclaimed_sets
from restore_lib.catalog.engine import Catalog
from restore_lib.integrity.scratch import fill, scratch_database

_FACT = ("VARCHAR", "VARCHAR", "VARCHAR")
_QUERY = """
SELECT kind, name, tapes.value, catalog.value
FROM tapes FULL OUTER JOIN catalog USING (kind, name)
WHERE tapes.value IS DISTINCT FROM catalog.value
ORDER BY kind, name
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """One fact that the tapes and the catalog tell differently, or that one of them lacks."""

    kind: str
    name: str
    tapes: str | None
    catalog: str | None


def differences(rebuilt: Catalog, live: Catalog, scratch: Path) -> Iterator[Difference]:
    """Yield how ``live`` differs from what was rebuilt from tapes, in order, streaming.

    What tapes can't tell, or may not, is no difference; nor are sets that ``live`` has reclaimed,
    of which volumes that are not yet written over still tell. Raises DiskFull when ``scratch`` has
    no room.
    """
    with live.read() as connection:
        reclaimed = frozenset(reclaimed_sets(connection))
    with scratch_database(scratch) as database:
        for table, catalog in (("tapes", rebuilt), ("catalog", live)):
            database.execute(f"CREATE TABLE {table} (kind VARCHAR, name VARCHAR, value VARCHAR)")
            with catalog.read() as connection:
                fill(database, table, _FACT, facts(connection, reclaimed))
        found = database.execute(_QUERY)
        while (row := found.fetchone()) is not None:
            difference = Difference(*row)
            if difference.tapes is not None or difference.kind not in ONE_SIDED:
                yield difference
