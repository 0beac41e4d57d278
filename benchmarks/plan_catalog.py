"""A catalog of millions of objects, for planning: built by a few statements inside the database.

Sets of 9+2 volumes hold 11 volumes' worth of objects each, most of them whole on one volume. In
some sets one object of a hundred is cut over four volumes; one object of ten has an older version
on another set. Every fiftieth set is mirrored, object by object, by the policy of another store.
A third of the sets is in the library; of the others each member is in one of six vaults, two
members of a set in each at most. The incident has lost objects on one set of nine, about 82 on each
of their data volumes, and others that were never backed up. 17 in 5,337 of these volumes can't be
read any more.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, event, insert, text

from restore_lib.catalog import tables
from restore_lib.catalog.engine import Catalog
from restore_lib.model.clock import SystemClock

K, M = 9, 2
MEMBERS = K + M
PER_VOLUME = 82
VAULTS = 6
_STRIPES = 4
_MIRRORED = 50
_CUT = 39
_BAD = 35
_POINTS = {"live": range(1, 6), "mirror": range(6, 7)}


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is; ``never`` objects were lost that no backup holds."""

    objects: int
    wanted: int
    volumes: int
    never: int

    @property
    def numbers(self) -> dict[str, int]:
        """What the statements below compute with."""
        sets = self.volumes // MEMBERS
        mirrors = sets // (_MIRRORED + 1)
        per_set = -(-self.objects // sets)
        lost_sets = max(1, round(self.wanted / (K * PER_VOLUME)))
        return {
            "sets": sets,
            "live_sets": sets - mirrors,
            "per_set": per_set,
            "total": sets * per_set,
            "live": (sets - mirrors) * per_set,
            "lost_sets": lost_sets,
            "stride": max(1, (sets - mirrors) // lost_sets),
            "lost_each": -(-self.wanted // lost_sets),
            "wanted": self.wanted,
            "never": self.never,
        }


def build(url: str, size: Size, recipient: str) -> None:
    """Fill an empty database with such a catalog; its only incident has the id 1."""
    catalog = Catalog(url)
    if catalog.engine.dialect.name == "sqlite":
        event.listen(catalog.engine, "connect", _careless)
    catalog.migrate()
    with catalog.engine.connect() as connection:
        postgresql = connection.dialect.name == "postgresql"
        if postgresql:
            connection.execute(text("SET session_replication_role = replica"))
        with _committed(connection):
            indexes = list(_without_indexes(connection))
            _few_rows(connection, recipient)
            for statement in _statements(connection.dialect.name, size.numbers):
                connection.exec_driver_sql(
                    statement.replace("%", "%%") if postgresql else statement
                )
            for statement in indexes:
                connection.exec_driver_sql(statement)
    if postgresql:
        with catalog.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as outside:
            outside.exec_driver_sql("VACUUM ANALYZE")
    catalog.close()


@contextmanager
def _committed(connection: Connection) -> Iterator[None]:
    yield
    connection.commit()


def _careless(connection: object, _record: object) -> None:
    for pragma in ("foreign_keys=OFF", "journal_mode=OFF", "synchronous=OFF", "cache_size=-400000"):
        connection.execute(f"PRAGMA {pragma}")  # type: ignore[attr-defined]  # the driver's own


def _without_indexes(connection: Connection) -> Iterator[str]:
    """Drop the indexes of the large tables, and yield what makes them again."""
    large = "('objects', 'versions', 'extents', 'tape_files', 'losses')"
    if connection.dialect.name == "sqlite":
        query = (
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql > '' "
            f"AND tbl_name IN {large}"
        )
    else:
        query = (
            f"SELECT indexname, indexdef FROM pg_indexes WHERE tablename IN {large} "
            "AND indexdef NOT LIKE 'CREATE UNIQUE%%'"
        )
    for name, statement in list(connection.exec_driver_sql(query)):
        connection.exec_driver_sql(f"DROP INDEX {name}")
        yield statement


def _few_rows(connection: Connection, recipient: str) -> None:
    at = SystemClock().now()
    points = [
        {
            "id": number,
            "policy": store,
            "store": store,
            "state": "committed",
            "started_at": at,
            "committed_at": at,
            "summary": {},
        }
        for store, numbers in _POINTS.items()
        for number in numbers
    ]
    connection.execute(insert(tables.recovery_points), points)
    incident = {
        "id": 1,
        "store": "live",
        "reference": "a table",
        "rp_id": 5,
        "found_at": at,
        "state": "open",
        "counts": {},
    }
    connection.execute(insert(tables.incidents), [incident])
    connection.exec_driver_sql("CREATE TEMP TABLE recipients (names TEXT)")
    connection.exec_driver_sql(f"INSERT INTO recipients VALUES ('[\"{recipient}\"]')")


@dataclass(frozen=True, slots=True)
class _Words:
    """What the two databases say in different words."""

    series: Callable[[str], str]
    blob: Callable[[str], str]
    padded: Callable[[str, int], str]
    json: str
    now: str


_SQLITE = _Words(
    series=lambda count: (
        f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {count})"
    ),
    blob=lambda value: f"CAST({value} AS BLOB)",
    padded=lambda value, width: f"printf('%0{width}d', {value})",
    json="",
    now="'2030-01-01 00:00:00.000000'",
)
_POSTGRESQL = _Words(
    series=lambda count: f"WITH n AS (SELECT generate_series(0::bigint, {count} - 1) AS i)",
    blob=lambda value: f"convert_to({value}, 'UTF8')",
    padded=lambda value, width: f"lpad(({value})::text, {width}, '0')",
    json="::json",
    now="'2030-01-01 00:00:00+00'::timestamptz",
)


def _statements(dialect: str, n: Mapping[str, int]) -> Iterator[str]:
    words = _SQLITE if dialect == "sqlite" else _POSTGRESQL
    yield from _volumes(words, n)
    yield from _objects(words, n)
    yield from _extents(words, n)
    yield from _losses(words, n)
    if dialect != "sqlite":
        for table in ("objects", "versions", "recovery_points", "stripes", "incidents"):
            yield f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"


def _set_name(words: _Words, number: str) -> str:
    return f"'set-' || {words.padded(number, 6)}"


def _volumes(words: _Words, n: Mapping[str, int]) -> Iterator[str]:
    sets, stride = n["sets"], n["stride"]
    yield (
        "INSERT INTO tape_sets (id, policy, k, m, block_size, recipients, state, stripes, "
        f"created_at, closed_at) {words.series(str(sets))} SELECT {_set_name(words, 'i')}, "
        f"CASE WHEN i < {n['live_sets']} THEN 'live' ELSE 'mirror' END, {K}, {M}, 262144, "
        f"names{words.json}, 'closed', {_STRIPES}, {words.now}, {words.now} FROM n, recipients"
    )
    number, position = f"i / {MEMBERS}", f"i % {MEMBERS}"
    here = f"{number} >= {n['live_sets']} OR ({number} / {stride}) % 3 = 0"
    bad = (
        f"{number} < {n['live_sets']} AND ({number}) % {stride} = 0 "
        f"AND ({number} / {stride}) % {_BAD} = 0 AND {position} = 3"
    )
    yield (
        "INSERT INTO volumes (barcode, tape_set, position, content, health, custody, flags, place, "
        f"files, bytes, verified_at) {words.series(str(sets * MEMBERS))} "
        f"SELECT 'T' || {words.padded('i', 6)} || 'L9', {_set_name(words, number)}, {position}, "
        f"'full', CASE WHEN {bad} THEN 'broken' ELSE 'ok' END, "
        f"CASE WHEN {here} THEN 'mountable' ELSE 'vault' END, '[]'{words.json}, "
        f"CASE WHEN {here} THEN 'library' ELSE 'vault:v' || ({position} % {VAULTS}) END, "
        f"{_STRIPES + 2}, 1000000000, {words.now} FROM n"
    )
    number = f"i / {_STRIPES}"
    yield (
        "INSERT INTO stripes (id, tape_set, number, rp_id, rows, committed_at) "
        f"{words.series(str(sets * _STRIPES))} SELECT i + 1, {_set_name(words, number)}, "
        f"i % {_STRIPES} + 1, CASE WHEN {number} < {n['live_sets']} THEN 5 ELSE 6 END, 4000, "
        f"{words.now} FROM n"
    )
    in_set = f"i / {MEMBERS * _STRIPES}"
    barcode = f"{in_set} * {MEMBERS} + {position}"
    yield (
        "INSERT INTO tape_files (stripe_id, position, barcode, blocks, sha256, index_offset) "
        f"{words.series(str(sets * MEMBERS * _STRIPES))} SELECT i / {MEMBERS} + 1, {position}, "
        f"'T' || {words.padded(barcode, 6)} || 'L9', 4000, {_digest(words, 'i')}, 900000000 FROM n"
    )


def _objects(words: _Words, n: Mapping[str, int]) -> Iterator[str]:
    live, per_set = n["live"], n["per_set"]
    mirrored = f"(i / {per_set} - {n['live_sets']}) * {_MIRRORED} * {per_set} + i % {per_set}"
    content = f"CASE WHEN i < {live} THEN i ELSE {mirrored} END"
    key = words.blob(f"'music/' || {words.padded(content, 10)}")
    yield (
        f"INSERT INTO objects (id, store, key) {words.series(str(n['total']))} "
        f"SELECT i + 1, CASE WHEN i < {live} THEN 'live' ELSE 'mirror' END, {key} FROM n"
    )
    columns = (
        "INSERT INTO versions (id, object_id, first_rp, gone_rp, size, sha256, modified_at, "
        "metadata, parts)"
    )
    yield (
        f"{columns} {words.series(str(n['total']))} SELECT i + 1, i + 1, "
        f"CASE WHEN i >= {live} THEN 6 WHEN i % 10 = 0 THEN 5 ELSE 1 END, NULL, "
        f"{_size(content)}, {_digest(words, content)}, {words.now}, '{{}}'{words.json}, "
        f"CASE WHEN {_is_cut(n)} THEN 4 ELSE 1 END FROM n"
    )
    older = f"CASE WHEN i % 100 = 0 THEN i * 10 ELSE {n['total']} + i END"
    yield (
        f"{columns} {words.series(str(live // 10))} SELECT {n['total']} + i + 1, i * 10 + 1, 1, 5, "
        f"{_size(older)}, {_digest(words, older)}, {words.now}, '{{}}'{words.json}, 1 FROM n"
    )


def _extents(words: _Words, n: Mapping[str, int]) -> Iterator[str]:
    per_set = n["per_set"]
    columns = (
        'INSERT INTO extents (version_id, part, stripe_id, position, member, "offset", size, '
        "sha256, stored_size, stored_sha256)"
    )
    in_set = f"i % {per_set}"
    stripe = f"(i / {per_set}) * {_STRIPES} + ({in_set}) * {_STRIPES} / {per_set} + 1"
    rest = (
        f"'p' || {in_set}, ({in_set}) / {K} * 5000000, {_size('i')}, {_digest(words, 'i')}, "
        f"{_size('i')} * 19 / 20, {_digest(words, 'i + 1')}"
    )
    yield (
        f"{columns} {words.series(str(n['total']))}, parts(part) AS (SELECT 0 UNION ALL SELECT 1 "
        "UNION ALL SELECT 2 UNION ALL SELECT 3) "
        f"SELECT i + 1, part + 1, {stripe}, (i % {per_set} + part) % {K}, {rest} "
        f"FROM n CROSS JOIN parts WHERE part = 0 OR {_is_cut(n)}"
    )
    elsewhere = f"(i * 10 / {per_set} + {n['live_sets'] // 2}) % {n['live_sets']} * {_STRIPES} + 1"
    yield (
        f"{columns} {words.series(str(n['live'] // 10))} SELECT {n['total']} + i + 1, 1, "
        f"{elsewhere}, i % {K}, 'q' || i, 2000000000 + i % 1000 * 5000000, {_size('i')}, "
        f"{_digest(words, 'i')}, {_size('i')}, {_digest(words, 'i')} FROM n"
    )


def _losses(words: _Words, n: Mapping[str, int]) -> Iterator[str]:
    each, per_set = n["lost_each"], n["per_set"]
    lost = f"(i / {each}) * {n['stride'] * per_set} + (i % {each}) * {per_set} / {each}"
    key = words.blob(f"'music/' || {words.padded(lost, 10)}")
    new = words.blob(f"'new/' || {words.padded('i', 10)}")
    yield (
        "INSERT INTO losses (incident_id, key, loss_class, version_id, size, sha256) "
        f"{words.series(str(n['wanted']))} SELECT 1, "
        f"{key}, 'on_tape', {lost} + 1, "
        f"{_size(lost)}, {_digest(words, lost)} FROM n"
    )
    yield (
        "INSERT INTO losses (incident_id, key, loss_class, size) "
        f"{words.series(str(n['never']))} SELECT 1, "
        f"{new}, 'never_backed_up', 1000 FROM n "
        f"WHERE {n['never']} > 0"
    )


def _is_cut(n: Mapping[str, int]) -> str:
    return (
        f"(i < {n['live']} AND (i / {n['per_set']}) % {_CUT * n['stride']} = 0 "
        f"AND i % {n['per_set']} % 100 = 0)"
    )


def _size(value: str) -> str:
    return f"(1000000 + ({value}) * 7919 % 5000000)"


def _digest(words: _Words, value: str) -> str:
    """Return 32 bytes that are in no order, the same ones for the same value."""
    mixed = words.padded(f"({value}) * 2654435761 % 4294967296", 10)
    return words.blob(f"{mixed} || {words.padded(value, 22)}")
