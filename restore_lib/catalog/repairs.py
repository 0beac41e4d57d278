"""Repairs: members of tape sets that are written anew, and how far each is."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Update, insert, select, update

from restore_lib.catalog.tables import repairs, stripes, tape_files, volumes
from restore_lib.errors import LeaseLost

RUNNING = "running"
DONE = "done"
ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True)
class Repair:
    """One member of a set on its way from ``barcode`` to ``replacement``.

    The first ``files`` tape files behind the label are written and read back. ``state`` is running,
    done, or abandoned because the replacement failed.
    """

    id: int
    barcode: str
    replacement: str
    tape_set: str
    position: int
    files: int
    state: str
    started_at: datetime
    ended_at: datetime | None


_COLUMNS = [repairs.c[name] for name in Repair.__slots__]


def latest(connection: Connection, barcode: str) -> Repair | None:
    """Return the last repair of a volume, None when it never had one."""
    query = select(*_COLUMNS).where(repairs.c.barcode == barcode).order_by(repairs.c.id.desc())
    row = connection.execute(query.limit(1)).one_or_none()
    return None if row is None else Repair(*row)


def begin(
    connection: Connection,
    *,
    barcode: str,
    replacement: str,
    tape_set: str,
    position: int,
    at: datetime,
) -> Repair:
    """Insert a repair of which nothing is written yet."""
    values = {
        "barcode": barcode,
        "replacement": replacement,
        "tape_set": tape_set,
        "position": position,
        "files": 0,
        "state": RUNNING,
        "started_at": at,
    }
    row = connection.execute(insert(repairs).values(values).returning(*_COLUMNS)).one()
    return Repair(*row)


def check(connection: Connection, repair: Repair) -> None:
    """Raise LeaseLost when another run has taken the repair further, or ended it."""
    if latest(connection, repair.barcode) != repair:
        raise _overtaken(repair)


def advance(connection: Connection, repair: Repair, files: int) -> Repair:
    """Note that ``files`` tape files are written; LeaseLost when another run was faster."""
    _change(connection, repair, {"files": files})
    return _again(connection, repair)


def abandon(connection: Connection, repair: Repair, at: datetime) -> None:
    """End a repair whose replacement failed; LeaseLost when another run has changed it."""
    _change(connection, repair, {"state": ABANDONED, "ended_at": at})


def finish(connection: Connection, repair: Repair, at: datetime) -> Repair:
    """Put the replacement into the set's position, with all tape files of the volume it replaces.

    LeaseLost when another run has changed the repair, so also when it is done already.
    """
    _change(connection, repair, {"state": DONE, "ended_at": at})
    of_set = select(stripes.c.id).where(stripes.c.tape_set == repair.tape_set)
    connection.execute(
        update(tape_files)
        .where(tape_files.c.stripe_id.in_(of_set), tape_files.c.position == repair.position)
        .values(barcode=repair.replacement)
    )
    written = connection.execute(
        select(volumes.c.files, volumes.c.bytes).where(volumes.c.barcode == repair.barcode)
    ).one()
    connection.execute(_member(repair.barcode).values(tape_set=None, position=None))
    connection.execute(
        _member(repair.replacement).values(
            tape_set=repair.tape_set,
            position=repair.position,
            files=written.files,
            bytes=written.bytes,
        )
    )
    return _again(connection, repair)


def _member(barcode: str) -> Update:
    return update(volumes).where(volumes.c.barcode == barcode)


def _change(connection: Connection, repair: Repair, values: dict[str, Any]) -> None:
    done = connection.execute(
        update(repairs)
        .where(
            repairs.c.id == repair.id,
            repairs.c.state == RUNNING,
            repairs.c.files == repair.files,
        )
        .values(values)
    )
    if done.rowcount != 1:
        raise _overtaken(repair)


def _again(connection: Connection, repair: Repair) -> Repair:
    row = connection.execute(select(*_COLUMNS).where(repairs.c.id == repair.id)).one()
    return Repair(*row)


def _overtaken(repair: Repair) -> LeaseLost:
    return LeaseLost(f"Another run has gone on with the repair of volume {repair.barcode}.")
