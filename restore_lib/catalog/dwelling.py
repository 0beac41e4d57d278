"""For how long volumes stayed in a custody, from their custody events."""

from collections.abc import Collection, Iterator
from datetime import datetime

from sqlalchemy import Connection, select

from restore_lib.catalog.bulk import chunks
from restore_lib.catalog.tables import custody_events
from restore_lib.model.volume import Custody

Dwell = tuple[Custody, datetime, datetime]


def dwells(
    connection: Connection,
    barcodes: Collection[str],
    custody: Collection[Custody],
    since: datetime,
    until: datetime | None,
) -> Iterator[Dwell]:
    """Yield each stay of these volumes in one of ``custody``: which, from when, until when.

    Stays count that began at ``since`` or later and ended before ``until``, None being now; those
    that have not ended are left out.
    """
    event = custody_events.c
    query = (
        select(event.barcode, event.at, event.before, event.after)
        .where(event.field == "custody", event.at >= since)
        .order_by(event.id)
    )
    if until is not None:
        query = query.where(event.at <= until)
    for chunk in chunks(sorted(barcodes)):
        began: dict[tuple[str, str], datetime] = {}
        for barcode, at, before, after in connection.execute(query.where(event.barcode.in_(chunk))):
            if (start := began.pop((barcode, before), None)) is not None:
                yield Custody(before), start, at
            if after in custody:
                began[barcode, after] = at
