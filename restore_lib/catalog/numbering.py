"""Versions and recovery points, as they follow from the index lines that a rebuild has found.

Tapes tell neither when a backup was committed nor what was deleted. So the versions of an object
are put in order (by their time of change, then by the order of writing), and the n-th version of
each object belongs to the n-th recovery point of its store: the newest holds the newest version of
every object, an earlier one what came before.

A repack leaves a payload on two sets until the older one is reclaimed. The two are one and the
same, byte for byte as stored, which two backups never are: it counts as written where it lay first,
and is to be found where it lies last.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

_FETCH = 5000
_PIECES = """
CREATE TEMP TABLE pieces AS
WITH ranked AS (
    SELECT members.*, place,
        row_number() OVER (ORDER BY place, stripe, position, ordinal) AS rank
    FROM members JOIN kept USING (tape_set) WHERE stripe <= stripes
), payloads AS (
    SELECT *, min(rank) OVER same AS written, min(place) OVER same AS origin
    FROM ranked WINDOW same AS (PARTITION BY store, key, part, stored_sha256)
), turns AS (
    SELECT *, dense_rank() OVER (
        PARTITION BY store, key, version, modified_at, object_size, parts, part ORDER BY written
    ) AS turn FROM payloads
), runs AS (
    SELECT *, CASE WHEN max(turn) OVER object > 1 THEN sum(part = 1) OVER (
        PARTITION BY store, key, version, modified_at, object_size, parts ORDER BY written
    ) END AS run
    FROM turns WINDOW object AS (
        PARTITION BY store, key, version, modified_at, object_size, parts
    )
), firsts AS (
    SELECT *, min(written) OVER (
        PARTITION BY store, key, version, modified_at, object_size, parts, run
    ) AS first FROM runs
)
SELECT tape_set, stripe, position, ordinal, store, key, modified_at, origin, part, parts,
    object_sha256, first,
    row_number() OVER (PARTITION BY first, part ORDER BY written, rank DESC) AS copy
FROM firsts
"""
_VERSIONS = """
CREATE TEMP TABLE found AS
WITH grouped AS (
    SELECT first, store, key, modified_at, min(origin) AS place,
        count(*) = parts AS whole, max(object_sha256) AS object_sha256
    FROM pieces WHERE copy = 1 GROUP BY first, store, key, modified_at, parts
)
SELECT row_number() OVER (ORDER BY first) AS id, first, store,
    dense_rank() OVER (ORDER BY store, key) AS object_id, whole, place,
    CASE WHEN whole THEN object_sha256 END AS sha256,
    row_number() OVER (PARTITION BY store, key, whole ORDER BY modified_at, first) AS generation,
    count(*) OVER (PARTITION BY store, key, whole) AS generations
FROM grouped
"""


@dataclass(frozen=True, slots=True)
class RebuiltPoint:
    """A recovery point that follows from the versions on tape.

    ``at`` is when the newest tape set was made that holds a version of it, or of one before.
    """

    id: int
    store: str
    tape_set: str
    at: datetime


class Numbering:
    """Ids for all that goes into an empty catalog; reads ``database``, streaming."""

    def __init__(
        self, database: sqlite3.Connection, kept: Iterable[tuple[str, int, datetime]]
    ) -> None:
        """``kept`` gives each tape set's id, its stripes that count, and when it was made."""
        self._database = database
        for name in ("kept", "pieces", "found", "stores"):
            database.execute(f"DROP TABLE IF EXISTS temp.{name}")
        database.execute(
            "CREATE TEMP TABLE kept (tape_set TEXT PRIMARY KEY, stripes INT, at TEXT, place INT,"
            " before INT)"
        )
        base = 0
        for place, (at, tape_set, stripes) in enumerate(
            sorted((at, tape_set, stripes) for tape_set, stripes, at in kept)
        ):
            database.execute(
                "INSERT INTO kept VALUES (?, ?, ?, ?, ?)",
                (tape_set, stripes, at.isoformat(), place, base),
            )
            base += stripes
        database.execute(_PIECES)
        database.execute(_VERSIONS)
        database.execute("CREATE INDEX temp.by_first ON found (first)")
        database.execute(
            "CREATE TEMP TABLE stores AS SELECT store, depth, sum(depth) OVER (ORDER BY store)"
            " - depth AS rp_base FROM (SELECT store,"
            " max(CASE WHEN whole THEN generation ELSE 1 END) AS depth FROM found GROUP BY store)"
        )

    def stripe_bases(self) -> dict[str, int]:
        """Return by tape set what its stripes' numbers are added to, to be their ids."""
        return dict(self._rows("SELECT tape_set, before FROM kept"))

    def points(self) -> list[RebuiltPoint]:
        """Return the recovery points, by store and oldest first."""
        query = (
            "SELECT rp_base + generation, found.store, tape_set, max(at) OVER ("
            " PARTITION BY found.store ORDER BY generation) FROM ("
            " SELECT store, generation, max(place) AS place FROM"
            " (SELECT store, place, CASE WHEN whole THEN generation ELSE 1 END AS generation"
            " FROM found) GROUP BY store, generation"
            ") AS found JOIN stores USING (store) JOIN kept USING (place) ORDER BY 1"
        )
        return [
            RebuiltPoint(id_, store, tape_set, datetime.fromisoformat(at))
            for id_, store, tape_set, at in self._rows(query)
        ]

    def stripe_points(self) -> dict[int, int]:
        """Return the id of each stripe's newest recovery point by the id of the stripe."""
        query = (
            "SELECT before + stripe, max(rp_base + CASE WHEN whole THEN generation"
            " ELSE 1 END) FROM pieces JOIN found USING (first)"
            " JOIN stores ON stores.store = found.store JOIN kept USING (tape_set) GROUP BY 1"
        )
        return dict(self._rows(query))

    def objects(self) -> Iterator[tuple[Any, ...]]:
        """Yield (id, store, key)."""
        return self._rows(
            "SELECT DISTINCT object_id, pieces.store, key FROM found"
            " JOIN pieces USING (first) WHERE copy = 1 ORDER BY 1"
        )

    def versions(self) -> Iterator[tuple[Any, ...]]:
        """Yield the columns of ``versions``; times and metadata are text still.

        A version that is not whole is in the first recovery point, and not live in any.
        """
        return self._rows(
            "SELECT id, object_id,"
            " rp_base + CASE WHEN whole THEN generation ELSE 1 END,"
            " CASE WHEN whole AND generation < generations THEN rp_base + generation + 1 END,"
            " version, etag, object_size, found.sha256, modified_at, content_type, metadata, parts"
            " FROM found JOIN stores USING (store) JOIN ("
            "  SELECT first, tape_set, stripe, position, ordinal, min(part) FROM pieces"
            "  WHERE copy = 1 GROUP BY first"
            " ) AS head USING (first)"
            " JOIN members USING (tape_set, stripe, position, ordinal)"
        )

    def extents(self) -> Iterator[tuple[Any, ...]]:
        """Yield the columns of ``extents``, without their own ids."""
        return self._rows(
            "SELECT found.id, members.part, before + members.stripe, members.position, member,"
            " offset, size, members.sha256, stored_size, stored_sha256"
            " FROM pieces JOIN found USING (first) JOIN kept USING (tape_set)"
            " JOIN members USING (tape_set, stripe, position, ordinal) WHERE copy = 1"
        )

    def _rows(self, query: str) -> Iterator[Any]:
        with closing(self._database.execute(query)) as rows:
            while found := rows.fetchmany(_FETCH):
                yield from found
