"""Drive leases in the catalog: one live holder a drive, over all processes and machines.

A lease ends when it is released or by the clock, never by who held it. The token of a drive only
ever grows, so a holder that wakes up after its lease has ended is told by its older token.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from restore_lib.catalog.engine import Catalog
from restore_lib.catalog.tables import drive_leases
from restore_lib.errors import LeaseLost
from restore_lib.model.clock import Clock
from restore_lib.model.lease import Lease

_ACQUIRE_LOCK = 0x7A9EF12  # on PostgreSQL, acquisitions come one after the other


class CatalogLeases:
    """The drive leases of a library; any number of these objects may share one catalog."""

    def __init__(self, catalog: Catalog, clock: Clock) -> None:
        """Expiry goes by ``clock``; the clocks of all holders have to agree to within seconds."""
        self._catalog = catalog
        self._clock = clock

    def acquire(
        self, drives: Sequence[int], holder: str, barcode: str, ttl: timedelta
    ) -> Lease | None:
        """Lease the first of ``drives`` without a live lease, for ``barcode``.

        None when all are taken, or when a live lease has ``barcode`` in whichever drive.
        """
        if not drives:
            return None
        with self._catalog.write() as connection:
            _lock(connection)
            _add_missing(connection, drives)
            now = self._clock.now()
            # A lease that ended for this volume can't be renewed once the volume goes elsewhere.
            connection.execute(
                update(drive_leases)
                .where(drive_leases.c.barcode == barcode, drive_leases.c.expires_at <= now)
                .values(holder=None, barcode=None, expires_at=None)
            )
            taken = _live(connection, now)
            if barcode in taken.values():
                return None
            for drive in drives:
                if drive not in taken:
                    lease = Lease(drive, 0, holder, now + ttl, ttl)
                    token = _take(connection, lease, barcode, now)
                    if token is not None:
                        return replace(lease, token=token)
        return None

    def supersede(self, drives: Sequence[int]) -> None:
        """Let new leases of ``drives`` outrank all that a lost catalog may have given out.

        Tokens go on from the time in microseconds: no drive is leased that often. Live leases stay
        as they are.
        """
        dialect = postgresql if self._catalog.engine.dialect.name == "postgresql" else sqlite
        floor = int(self._clock.now().timestamp() * 1_000_000)
        new = dialect.insert(drive_leases)
        free = and_(drive_leases.c.holder.is_(None), drive_leases.c.token < floor)
        with self._catalog.write() as connection:
            connection.execute(
                new.on_conflict_do_update(
                    index_elements=[drive_leases.c.drive], set_={"token": floor}, where=free
                ),
                [{"drive": drive, "token": floor} for drive in drives],
            )

    def renew(self, lease: Lease) -> Lease:
        """Let the lease last its time to live from now, also one that is over but was not taken.

        So a long wait for the catalog ends no work that nobody else has begun. LeaseLost when
        another holder has the drive or the volume, and when the lease was released.
        """
        with self._catalog.write() as connection:
            expires_at = self._clock.now() + lease.ttl
            done = connection.execute(
                update(drive_leases).where(_is(lease)).values(expires_at=expires_at)
            )
        if done.rowcount != 1:
            raise LeaseLost(
                f"The lease of {lease.holder} on drive {lease.drive} has ended.", drive=lease.drive
            )
        return replace(lease, expires_at=expires_at)

    def release(self, lease: Lease) -> None:
        """End the lease; nothing happens when it has ended or another holder has the drive."""
        with self._catalog.write() as connection:
            connection.execute(
                update(drive_leases)
                .where(_is(lease))
                .values(holder=None, barcode=None, expires_at=None)
            )

    def holders(self) -> Mapping[int, str]:
        """Return the drives under a live lease, each with the barcode that it was leased for."""
        with self._catalog.read() as connection:
            return _live(connection, self._clock.now())


def _is(lease: Lease) -> ColumnElement[bool]:
    return and_(
        drive_leases.c.drive == lease.drive,
        drive_leases.c.token == lease.token,
        drive_leases.c.holder.is_not(None),
    )


def _lock(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ACQUIRE_LOCK})


def _add_missing(connection: Connection, drives: Sequence[int]) -> None:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    connection.execute(
        dialect.insert(drive_leases).on_conflict_do_nothing(),
        [{"drive": drive, "token": 0} for drive in drives],
    )


def _live(connection: Connection, now: datetime) -> dict[int, str]:
    query = select(drive_leases.c.drive, drive_leases.c.barcode).where(
        drive_leases.c.holder.is_not(None), drive_leases.c.expires_at > now
    )
    return {row.drive: row.barcode for row in connection.execute(query)}


def _take(connection: Connection, lease: Lease, barcode: str, now: datetime) -> int | None:
    """Take the drive unless its holder has renewed just now, and return the new token."""
    free = or_(drive_leases.c.holder.is_(None), drive_leases.c.expires_at <= now)
    return connection.execute(
        update(drive_leases)
        .where(drive_leases.c.drive == lease.drive, free)
        .values(
            token=drive_leases.c.token + 1,
            holder=lease.holder,
            barcode=barcode,
            expires_at=lease.expires_at,
        )
        .returning(drive_leases.c.token)
    ).scalar_one_or_none()
