"""States of backups and restores, and what a person asks for."""

from enum import StrEnum


class RecoveryPointState(StrEnum):
    """OPEN is invisible to restores; COMMITTED is whole."""

    OPEN = "open"
    COMMITTED = "committed"


class JobState(StrEnum):
    """How far one job of a backup is."""

    PLANNED = "planned"
    DONE = "done"


class SetState(StrEnum):
    """OPEN sets take more stripes; CLOSED ones go to the vault."""

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
    """How far a restore request is."""

    PLANNED = "planned"
    ACTIVE = "active"
    ENDED = "ended"
    CANCELLED = "cancelled"


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
