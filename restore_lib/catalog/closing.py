"""Closing tape sets: their volumes are full, and nothing is appended to them any more."""

from datetime import datetime

from sqlalchemy import Connection

from restore_lib.catalog import audit
from restore_lib.catalog.tape_sets import TapeSet, close_set
from restore_lib.catalog.volumes import change, volumes
from restore_lib.model.volume import Content

_WRITTEN = ((Content.LABELLED, Content.APPENDABLE), (Content.APPENDABLE, Content.FULL))


def close_as_committed(
    connection: Connection, tape_set: TapeSet, *, actor: str, work: str, at: datetime
) -> None:
    """Close a set with what is committed on it, whatever its volumes hold behind that.

    ``work``, such as ``backup``, says in the audit what it is closed for.
    """
    for before, after in _WRITTEN:
        waiting = [v.barcode for v in volumes(connection, tape_set.barcodes, content=[before])]
        change(connection, waiting, "content", before, after, actor=actor, reason=work, at=at)
    close_set(connection, tape_set.id, at)
    audit.record(
        connection,
        at=at,
        actor=actor,
        action=f"{work}.close_set",
        subject=tape_set.id,
        detail={"volumes": list(tape_set.barcodes)},
    )
