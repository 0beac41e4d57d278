"""States of backups and restores, and what a person asks for."""

from enum import StrEnum


class RecoveryPointState(StrEnum):
    """OPEN is invisible to restores; COMMITTED is whole.

    EXPIRED is given up by retention, and can be brought back until some of what it held is
    reclaimed: then it is PURGED.
    """

    OPEN = "open"
    COMMITTED = "committed"
    EXPIRED = "expired"
    PURGED = "purged"


class JobState(StrEnum):
    """How far one job of a backup is."""

    PLANNED = "planned"
    DONE = "done"


class SetState(StrEnum):
    """OPEN sets take more stripes; CLOSED ones go to the vault.

    QUARANTINED ones hold nothing live and can be brought back. Of RECLAIMING ones the catalog
    forgets what they hold; RECLAIMED is the end: their volumes are free for other sets.
    """

    OPEN = "open"
    CLOSED = "closed"
    QUARANTINED = "quarantined"
    RECLAIMING = "reclaiming"
    RECLAIMED = "reclaimed"


class IncidentState(StrEnum):
    """What OPEN incidents have lost is kept on tape; no restore is asked for of CLOSED ones."""

    OPEN = "open"
    CLOSED = "closed"


class LossClass(StrEnum):
    """What can be done about a lost object."""

    ON_TAPE = "on_tape"
    NEVER_BACKED_UP = "never_backed_up"
    CHANGED_AFTER_BACKUP = "changed_after_backup"


class Overwrite(StrEnum):
    """What a restore does with an object that stands at its target already."""

    NEVER = "never"
    IF_DIFFERENT = "if-different"
    ALWAYS = "always"


class RequestState(StrEnum):
    """How far a restore request is; no batch of a PAUSED one begins until it is resumed."""

    PLANNED = "planned"
    ACTIVE = "active"
    PAUSED = "paused"
    ENDED = "ended"
    CANCELLED = "cancelled"


OPEN_REQUESTS = (RequestState.PLANNED, RequestState.ACTIVE, RequestState.PAUSED)
"""The states of requests that still need what is on tape."""


class Priority(StrEnum):
    """Whose batches come first; among requests of one priority, the drives are shared fairly."""

    URGENT = "urgent"
    NORMAL = "normal"
    BACKGROUND = "background"


class TakeRedundancy(StrEnum):
    """Whether volumes come along from a vault that are needed only if another one is bad."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class DrillState(StrEnum):
    """How far a drill is; ENDED ones are measured and cleaned up."""

    ACTIVE = "active"
    ENDED = "ended"


class WaveState(StrEnum):
    """OPEN while its batches run."""

    OPEN = "open"
    SETTLED = "settled"


class BatchKind(StrEnum):
    """READ takes one mount; GATHER puts objects together from several volumes or from parity.

    ALTERNATE copies objects that were never backed up from the policy's alternate stores.
    """

    READ = "read"
    GATHER = "gather"
    ALTERNATE = "alternate"


class BatchState(StrEnum):
    """How far a batch is; FAILED and CANCELLED ones have given their items back."""

    PLANNED = "planned"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ItemState(StrEnum):
    """How far one object of a restore is."""

    PENDING = "pending"
    BATCHED = "batched"
    RESTORED = "restored"
    KEPT = "kept"
    UNRESTORABLE = "unrestorable"
    FAILED = "failed"


ITEM_ENDS = frozenset(
    {ItemState.RESTORED, ItemState.KEPT, ItemState.UNRESTORABLE, ItemState.FAILED}
)


class Way(StrEnum):
    """How an object came back."""

    TAPE = "tape"
    PARITY = "parity"
    ALTERNATE = "alternate"
    PRESENT = "present"
