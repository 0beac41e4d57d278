"""Finding loss: what should exist against what does, and what the tapes have of the difference."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any

import duckdb
from sqlalchemy import Connection

from restore_lib.catalog import audit, incidents
from restore_lib.catalog.engine import Catalog
from restore_lib.catalog.incidents import BackedUp, Loss
from restore_lib.catalog.liveness import hold
from restore_lib.catalog.recovery_points import RecoveryPoint, newest_committed
from restore_lib.errors import Refused
from restore_lib.integrity.reference import EPOCH, load_reference
from restore_lib.integrity.scratch import fill, scratch_database
from restore_lib.model.objects import StoredObject, display_key
from restore_lib.model.progress import Progress, Silent
from restore_lib.model.states import LossClass
from restore_lib.site import Site

_CHUNK = 10_000
_CLASSES = f"""CASE
    WHEN b.key IS NULL THEN '{LossClass.NEVER_BACKED_UP}'
    WHEN e.sha256 = b.sha256 THEN '{LossClass.ON_TAPE}'
    WHEN e.sha256 <> b.sha256 OR e.size <> b.size OR e.modified <> b.modified
        THEN '{LossClass.CHANGED_AFTER_BACKUP}'
    ELSE '{LossClass.ON_TAPE}' END"""


@dataclass(frozen=True, slots=True)
class LossCounts:
    """Objects that should exist, and how they were found.

    ``expected`` = ``present`` + ``lost``, and ``lost`` is the sum of its three classes. ``differs``
    are present at another size than expected; ``unexpected`` are present and not expected.
    """

    expected: int
    present: int
    lost: int
    on_tape: int
    never_backed_up: int
    changed_after_backup: int
    differs: int
    unexpected: int


@dataclass(frozen=True, slots=True)
class LossScan:
    """What a scan found; ``incident_id`` is None when nothing is lost, and in a dry run."""

    store: str
    reference: str
    rp_id: int | None
    counts: LossCounts
    incident_id: int | None

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        return asdict(self)


def scan_for_loss(
    site: Site,
    store: str,
    *,
    reference: Path | None = None,
    prefix: bytes = b"",
    actor: str,
    progress: Progress | None = None,
    dry_run: bool = False,
) -> LossScan:
    """Compare ``store`` with what should be in it, and make an incident of what is lost.

    What should be there is in the table ``reference`` (see ``load_reference``), else in the newest
    committed recovery point. Only keys that begin with ``prefix`` are looked at. The incident, all
    its losses by name and an audit event come in one transaction. The same scan again, as after a
    kill, gives the same incident while it finds the same losses and no restore was asked for.

    Objects are compared on the staging disk, not in memory. Raises Refused when nothing is expected
    at all, or for a bad reference table; and whatever ``Store.list`` and the catalog raise.
    """
    progress = progress or Silent()
    opened = site.store(store)
    with site.catalog.read() as connection:
        point = newest_committed(connection, store)
    source = _source(reference, point, prefix)
    with scratch_database(site.staging / "loss-scan") as database:
        progress.stage("Reading what should exist")
        if reference is not None:
            load_reference(database, reference)
            _keep_prefix(database, prefix)
        else:
            _load_recovery_point(database, site.catalog, store, point, prefix)
        if _one(database, "SELECT count(*) FROM expected") == 0:
            raise Refused(
                f"By {source} nothing should exist in store {store}; so nothing was checked.",
                remedy="check the reference table, the prefix and the store's name",
            )
        progress.stage("Listing what exists")
        _load_present(database, opened.list(prefix), progress)
        progress.stage("Looking in the catalog")
        _load_backed_up(database, site.catalog, store, prefix)
        counts = _compare(database)
        rp_id = point.id if point else None
        scan = LossScan(store, source, rp_id, counts, None)
        return scan if dry_run else _record(site, scan, database, actor)


def _source(reference: Path | None, point: RecoveryPoint | None, prefix: bytes) -> str:
    """Return what should exist, in words that are the same for the same scan."""
    if reference is not None:
        source = f"table {display_key(os.fsencode(reference.absolute()))}"
    else:
        source = f"recovery point {point.id}" if point else "no recovery point"
    return f"{source}, prefix {display_key(prefix)}" if prefix else source


def _keep_prefix(database: duckdb.DuckDBPyConnection, prefix: bytes) -> None:
    beginning = prefix.hex().upper()
    database.execute("DELETE FROM expected WHERE NOT starts_with(hex(key), ?)", [beginning])


def _load_recovery_point(
    database: duckdb.DuckDBPyConnection,
    catalog: Catalog,
    store: str,
    point: RecoveryPoint | None,
    prefix: bytes,
) -> None:
    if point is None:
        raise Refused(
            f"Store {store} has no committed recovery point to compare it with.",
            remedy="name a reference table of what should exist",
        )
    database.execute("CREATE TABLE expected (key BLOB, size BIGINT, sha256 BLOB, modified BIGINT)")
    with catalog.read() as connection:
        found = incidents.versions_at(connection, store, point.id, prefix)
        fill(database, "expected", ("BLOB", "BIGINT", "BLOB", "BIGINT"), map(_row, found))


def _load_present(
    database: duckdb.DuckDBPyConnection, found: Iterable[StoredObject], progress: Progress
) -> None:
    database.execute("CREATE TABLE present (key BLOB, size BIGINT)")
    rows = ((each.key, each.size) for each in found)
    fill(database, "present", ("BLOB", "BIGINT"), rows, progress.advance)


def _load_backed_up(
    database: duckdb.DuckDBPyConnection, catalog: Catalog, store: str, prefix: bytes
) -> None:
    types = ("BLOB", "BIGINT", "BLOB", "BIGINT", "BIGINT")
    database.execute(
        "CREATE TABLE backed_up"
        " (key BLOB, size BIGINT, sha256 BLOB, modified BIGINT, version_id BIGINT)"
    )
    with catalog.read() as connection:
        found = incidents.newest_versions(connection, store, prefix)
        fill(database, "backed_up", types, ((*_row(each), each.version_id) for each in found))


def _row(each: BackedUp) -> tuple[bytes, int, bytes, int]:
    modified = (each.modified_at - EPOCH) // timedelta(seconds=1)
    return each.key, each.size, bytes.fromhex(each.sha256), modified


def _compare(database: duckdb.DuckDBPyConnection) -> LossCounts:
    """Make the table ``lost`` and count."""
    absent = database.table("expected").join(database.table("present"), "key", "anti")
    known = database.table("backed_up").set_alias("b")
    absent.set_alias("e").join(known, "e.key = b.key", "left").project(
        f"e.key, e.size, e.sha256, b.version_id, {_CLASSES} AS loss_class"
    ).create("lost")
    counts = dict.fromkeys(LossClass, 0)
    query = "SELECT loss_class, count(*) FROM lost GROUP BY loss_class"
    counts.update((LossClass(name), count) for name, count in database.execute(query).fetchall())
    expected = _one(database, "SELECT count(*) FROM expected")
    lost = sum(counts.values())
    return LossCounts(
        expected=expected,
        present=expected - lost,
        lost=lost,
        on_tape=counts[LossClass.ON_TAPE],
        never_backed_up=counts[LossClass.NEVER_BACKED_UP],
        changed_after_backup=counts[LossClass.CHANGED_AFTER_BACKUP],
        differs=_one(
            database,
            "SELECT count(*) FROM expected e JOIN present p USING (key) WHERE p.size <> e.size",
        ),
        unexpected=_one(
            database, "SELECT count(*) FROM present p ANTI JOIN expected e USING (key)"
        ),
    )


def _record(
    site: Site, scan: LossScan, database: duckdb.DuckDBPyConnection, actor: str
) -> LossScan:
    """Make the incident and the audit event, unless an earlier run of this scan has made them."""
    counts = asdict(scan.counts)
    with site.catalog.write() as connection:
        hold(connection)
        incident_id = _made_before(connection, scan, database) if scan.counts.lost else None
        if incident_id is not None:
            return replace(scan, incident_id=incident_id)
        now = site.clock.now()
        if scan.counts.lost:
            incident_id = incidents.add_incident(
                connection,
                store=scan.store,
                reference=scan.reference,
                rp_id=scan.rp_id,
                at=now,
                counts=counts,
                lost=_lost(database),
            )
        detail = {"reference": scan.reference, "incident": incident_id, "counts": counts}
        audit.record(connection, now, actor, "loss-scan", scan.store, detail)
    return replace(scan, incident_id=incident_id)


def _made_before(
    connection: Connection, scan: LossScan, database: duckdb.DuckDBPyConnection
) -> int | None:
    counts = asdict(scan.counts)
    for earlier in incidents.untouched_incidents(connection, scan.store, scan.reference):
        if earlier.counts == counts and all(
            known == found
            for known, found in zip_longest(
                incidents.losses_of(connection, earlier.id), _lost(database)
            )
        ):
            return earlier.id
    return None


def _lost(database: duckdb.DuckDBPyConnection) -> Iterator[Loss]:
    cursor = database.cursor()
    cursor.execute("SELECT key, loss_class, version_id, size, sha256 FROM lost ORDER BY key")
    while rows := cursor.fetchmany(_CHUNK):
        for key, loss_class, version_id, size, sha256 in rows:
            digest = None if sha256 is None else bytes(sha256).hex()
            yield Loss(bytes(key), LossClass(loss_class), version_id, size, digest)


def _one(database: duckdb.DuckDBPyConnection, query: str) -> int:
    row = database.execute(query).fetchone()
    return int(row[0]) if row else 0
