"""The four separate fields of a volume, and which changes of them the rules allow."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from restore_lib.errors import InvalidTransition

State = TypeVar("State", bound=StrEnum)

LIBRARY = "library"
DOCK = "dock"
TRUCK = "truck"
_VAULT = "vault:"


def vault_place(vault: str) -> str:
    """Return the place that a volume in ``vault`` is at."""
    return _VAULT + vault


def vault_of(place: str) -> str | None:
    """Return the name of the vault that ``place`` is, None when it is another kind of place."""
    return place.removeprefix(_VAULT) if place.startswith(_VAULT) else None


class Content(StrEnum):
    """What is on a volume."""

    BLANK = "blank"
    LABELLED = "labelled"
    APPENDABLE = "appendable"
    FULL = "full"
    EXPIRED = "expired"
    RECLAIM_QUARANTINE = "reclaim_quarantine"
    RETIRED = "retired"


class Health(StrEnum):
    """How far a volume can be trusted; DISABLED is not mounted, but its recalls still queue."""

    OK = "ok"
    SUSPECT = "suspect"
    DISABLED = "disabled"
    BROKEN = "broken"
    LOST = "lost"
    DESTROYED = "destroyed"


class Custody(StrEnum):
    """Who has a volume, in the words of IBM's Disaster Recovery Manager."""

    MOUNTABLE = "mountable"
    NOTMOUNTABLE = "notmountable"
    COURIER = "courier"
    VAULT = "vault"
    VAULTRETRIEVE = "vaultretrieve"
    COURIERRETRIEVE = "courierretrieve"
    ONSITERETRIEVE = "onsiteretrieve"
    ACCLIMATING = "acclimating"


class Flag(StrEnum):
    """What is out of order with a volume; several can hold at once."""

    OVERDUE = "overdue"
    MISSING = "missing"
    UNEXPECTED = "unexpected"
    FOREIGN = "foreign"
    LABEL_MISMATCH = "label_mismatch"
    SEAL_BROKEN = "seal_broken"


class Reason(StrEnum):
    """Why a volume is recalled."""

    RESTORE = "restore"
    REDUNDANCY = "redundancy"
    VERIFY = "verify"
    DRILL = "drill"
    EXPIRED = "expired"
    MIGRATE = "migrate"


CONTENT_CHANGES: Mapping[Content, frozenset[Content]] = {
    Content.BLANK: frozenset({Content.LABELLED, Content.RETIRED}),
    Content.LABELLED: frozenset({Content.APPENDABLE, Content.RETIRED}),
    Content.APPENDABLE: frozenset({Content.FULL, Content.RETIRED}),
    Content.FULL: frozenset({Content.EXPIRED, Content.RETIRED}),
    Content.EXPIRED: frozenset({Content.RECLAIM_QUARANTINE, Content.RETIRED}),
    Content.RECLAIM_QUARANTINE: frozenset({Content.LABELLED, Content.FULL, Content.RETIRED}),
    Content.RETIRED: frozenset(),
}

CUSTODY_CHANGES: Mapping[Custody, frozenset[Custody]] = {
    Custody.MOUNTABLE: frozenset({Custody.NOTMOUNTABLE}),
    Custody.NOTMOUNTABLE: frozenset({Custody.COURIER, Custody.MOUNTABLE}),
    Custody.COURIER: frozenset({Custody.VAULT}),
    Custody.VAULT: frozenset({Custody.VAULTRETRIEVE}),
    Custody.VAULTRETRIEVE: frozenset({Custody.COURIERRETRIEVE, Custody.VAULT}),
    Custody.COURIERRETRIEVE: frozenset({Custody.ONSITERETRIEVE, Custody.VAULTRETRIEVE}),
    Custody.ONSITERETRIEVE: frozenset({Custody.ACCLIMATING, Custody.MOUNTABLE}),
    Custody.ACCLIMATING: frozenset({Custody.MOUNTABLE}),
}

HEALTH_CHANGES: Mapping[Health, frozenset[Health]] = {
    Health.OK: frozenset({Health.SUSPECT, Health.DISABLED, Health.BROKEN, Health.LOST}),
    Health.SUSPECT: frozenset({Health.OK, Health.DISABLED, Health.BROKEN, Health.LOST}),
    Health.DISABLED: frozenset({Health.OK, Health.SUSPECT, Health.BROKEN, Health.LOST}),
    Health.BROKEN: frozenset({Health.DESTROYED}),
    Health.LOST: frozenset({Health.OK, Health.SUSPECT, Health.DESTROYED}),
    Health.DESTROYED: frozenset(),
}


def check_change(
    rules: Mapping[State, frozenset[State]], barcode: str, before: State, after: State
) -> None:
    """Raise InvalidTransition unless ``rules`` let ``barcode`` go from ``before`` to ``after``."""
    if after not in rules[before]:
        allowed = ", ".join(sorted(rules[before])) or "nothing: it is an end"
        raise InvalidTransition(
            f"Volume {barcode} can't go from {before} to {after}.",
            remedy=f"from {before} it can go to {allowed}",
            volume=barcode,
        )


@dataclass(frozen=True, slots=True)
class Volume:
    """One cartridge as the catalog knows it; ``bytes`` are those written, ``files`` tape files."""

    barcode: str
    tape_set: str | None
    position: int | None
    content: Content
    health: Health
    custody: Custody
    flags: frozenset[Flag]
    place: str
    files: int
    bytes: int
    verified_at: datetime | None
    ready_at: datetime | None


@dataclass(frozen=True, slots=True)
class CustodyEvent:
    """One change of one field of a volume: who made it, when, why, and where the volume then was.

    ``field`` is content, health, custody or flag. A flag is set by an empty ``before`` and cleared
    by an empty ``after``; a volume's first events have an empty ``before``.
    """

    id: int
    barcode: str
    at: datetime
    field: str
    before: str
    after: str
    place: str
    actor: str
    reason: str
    shipment_id: int | None


@dataclass(frozen=True, slots=True)
class Standing:
    """The four fields of a volume and its place, as they follow from its custody events."""

    content: Content
    health: Health
    custody: Custody
    flags: frozenset[Flag]
    place: str


def fold(events: Iterable[CustodyEvent]) -> Standing:
    """Return the standing that one volume's events lead to, oldest first.

    Raises InvalidTransition when an event does not begin where the one before it ended, so when
    the history is not whole.
    """
    fields = {"content": "", "health": "", "custody": ""}
    flags: set[str] = set()
    place = barcode = ""
    for event in events:
        barcode, place = event.barcode, event.place
        if event.field == "flag":
            fits = event.before in flags if event.before else event.after not in flags
            flags = (flags - {event.before}) | ({event.after} - {""})
        else:
            fits = fields.get(event.field) == event.before
            fields[event.field] = event.after
        if not fits:
            raise _broken_history(barcode, f"event {event.id} does not follow from those before")
    if not all(fields.values()):
        raise _broken_history(barcode, "its first events are missing")
    return Standing(
        Content(fields["content"]),
        Health(fields["health"]),
        Custody(fields["custody"]),
        frozenset(map(Flag, flags)),
        place,
    )


def _broken_history(barcode: str, why: str) -> InvalidTransition:
    return InvalidTransition(
        f"The custody history of volume {barcode or '(none)'} is not whole: {why}.",
        remedy="compare with the audit trail (`tapeflow audit verify`), and restore the catalog",
    )
