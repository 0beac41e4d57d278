"""The audit trail: append-only events, each chained to the one before by its digest.

An event's digest is the SHA-256 of the canonical JSON (sorted keys, no spaces, ASCII) of its id,
time, actor, action, subject, detail and of the previous event's digest; the first event's previous
digest is all zeros. Ids are dense from 1. So an event that is edited, taken out or put in breaks
the chain from there on. Taking off the newest events is only seen by someone who has noted a later
head: keep heads elsewhere.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, Text, cast, insert, select, text, type_coerce
from sqlalchemy.types import NULLTYPE

from restore_lib.catalog.bulk import CHUNK
from restore_lib.catalog.tables import audit_events
from restore_lib.model.verdict import Verdict

GENESIS = "0" * 64
_APPEND_LOCK = 0x7A9EF11  # on PostgreSQL, held from an append to the end of its transaction


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """What reading the trail through showed.

    ``count`` events from the first on are sound and ``head`` is the digest of the last of them.
    ``broken`` is the id of the first event that is not, and ``reason`` tells why; ``broken`` is
    None too when the chain is whole but lacks the expected head.
    """

    count: int
    head: str
    broken: int | None = None
    reason: str = ""

    @property
    def verdict(self) -> Verdict:
        """FAILED when the trail is broken, NOT_CHECKED when there is no event, else PASSED."""
        if self.reason:
            return Verdict.FAILED
        return Verdict.PASSED if self.count else Verdict.NOT_CHECKED

    @property
    def ok(self) -> bool:
        """Whether there are events and all of them are sound."""
        return self.verdict is Verdict.PASSED


def record(
    connection: Connection,
    at: datetime,
    actor: str,
    action: str,
    subject: str,
    detail: Mapping[str, Any],
) -> int:
    """Append an event to the trail as part of the transaction, and return its id.

    ``detail`` is what JSON can hold. Appends of other transactions wait until this one ends, so
    record late in a transaction. Raises ValueError or TypeError when ``detail`` is not JSON.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _APPEND_LOCK})
    head = connection.execute(
        select(audit_events.c.id, audit_events.c.digest).order_by(audit_events.c.id.desc()).limit(1)
    ).one_or_none()
    event_id, previous = (head.id + 1, head.digest) if head else (1, GENESIS)
    event = {
        "id": event_id,
        "at": at,
        "actor": actor,
        "action": action,
        "subject": subject,
        "detail": json.loads(_canonical(dict(detail))),
        "previous": previous,
    }
    connection.execute(insert(audit_events).values(event | {"digest": _digest(event)}))
    return event_id


def newest(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """Return the newest ``limit`` events, the newest first, each as its columns by name."""
    query = select(audit_events).order_by(audit_events.c.id.desc()).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def verify(connection: Connection, *, expected_head: str | None = None) -> AuditVerdict:
    """Read the whole trail, streaming, and return whether it is sound.

    ``expected_head`` is a digest (hex) that an earlier ``verify`` gave: the trail must still hold
    it, else its end was cut off or everything was written anew.
    """
    count, head = 0, GENESIS
    expected = expected_head.lower() if expected_head is not None else None
    seen = expected is None or expected == GENESIS
    for row in connection.execute(_raw_events().execution_options(yield_per=CHUNK)):
        reason = _fault(row, count + 1, head)
        if reason:
            return AuditVerdict(count, head, count + 1, reason)
        count, head = count + 1, bytes(row.digest).hex()
        seen = seen or head == expected
    if not seen:
        reason = f"the trail does not hold the expected head {expected}: its end was cut off"
        return AuditVerdict(count, head, None, reason)
    return AuditVerdict(count, head)


def _raw_events() -> Any:
    """Select the events as the database has them, so that no altered value stops the reading."""
    columns = audit_events.c
    return select(
        columns.id,
        cast(columns.at, Text).label("at"),
        columns.actor,
        columns.action,
        columns.subject,
        cast(columns.detail, Text).label("detail"),
        type_coerce(columns.previous, NULLTYPE).label("previous"),
        type_coerce(columns.digest, NULLTYPE).label("digest"),
    ).order_by(columns.id)


def _fault(row: Row[Any], event_id: int, previous: str) -> str:
    if row.id != event_id:
        return f"event {event_id} is missing: the next one is {row.id}"
    try:
        if bytes(row.previous).hex() != previous:
            return f"event {event_id} does not follow the one before it"
        event = {
            "id": event_id,
            "at": _instant(row.at),
            "actor": row.actor,
            "action": row.action,
            "subject": row.subject,
            "detail": json.loads(row.detail),
            "previous": previous,
        }
        altered = bytes(row.digest).hex() != _digest(event)
    except (TypeError, ValueError):
        altered = True
    return f"event {event_id} was edited: its digest is not that of its content" if altered else ""


def _instant(stored: str) -> datetime:
    at = datetime.fromisoformat(stored)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _digest(event: Mapping[str, Any]) -> str:
    at = event["at"].astimezone(UTC).isoformat(timespec="microseconds")
    return hashlib.sha256(_canonical({**event, "at": at}).encode()).hexdigest()


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
