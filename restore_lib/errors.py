"""One tree of errors, ordered by what must happen next.

::

    TapeflowError
    ├── RetryLater          the same call may work in a while
    │   ├── DriveBusy           all drives, or the volume, are in use
    │   ├── LibraryOffline      the changer or a drive does not answer
    │   │   └── VolumeStuck     the drive that holds the volume does not
    │   ├── LeaseLost           another holder has the drive now
    │   ├── StoreUnavailable    an object store does not answer
    │   ├── CatalogUnavailable  the database does not answer
    │   ├── CourierUnavailable  no document goes to or comes from a vault vendor
    │   └── DiskFull            staging or catalog disk has no room
    ├── GoElsewhere         this volume can't serve: plan again over the others of its set
    │   ├── MediumError         unreadable or damaged medium
    │   ├── VolumeFull          no room for another block
    │   ├── EndOfData           the tape ends before the wanted file or block
    │   └── VolumeAbsent        not where the catalog says it is
    ├── NeedsDecision       a person has to change something first
    │   ├── ConfigError         tapeflow.toml or the environment
    │   ├── KeyUnusable         no identity, or none that opens the data
    │   ├── ForeignTape         a label that is not ours, or not the expected one
    │   ├── TapeLostData        a tape ends before the catalog says: nothing is written
    │   ├── NoScratchVolume     no blank volume to write to
    │   ├── CatalogMismatch     a catalog newer than the code, or not a catalog
    │   ├── HostKeyRefused      an SSH host that is not the known one
    │   ├── InvalidTransition   a state change that the rules forbid
    │   └── Refused             a request that would break a promise
    └── Unrecoverable       trying again can't help; the object or file is named
        ├── ObjectNameRefused   a store can't hold an object of this name
        ├── ObjectUnreadable    gone, changed or unreadable in its store
        ├── DigestMismatch      bytes that are not the bytes that were backed up
        ├── CorruptTapeFile     a label, segment, index or manifest that does not parse
        └── UnknownFormat       written by a format version that this code does not know
"""

from enum import StrEnum
from typing import ClassVar


class Next(StrEnum):
    """What has to happen after an error."""

    RETRY = "retry"
    ELSEWHERE = "elsewhere"
    PERSON = "person"
    NEVER = "never"


class TapeflowError(Exception):
    """Base of every error that Tapeflow raises on purpose.

    ``code`` is stable and meant for programs; ``message`` names the thing that failed; ``remedy``
    tells what to do; ``context`` holds the object, volume and attempt as strings.
    """

    code: ClassVar[str] = "error"
    next: ClassVar[Next] = Next.NEVER
    exit_code: ClassVar[int] = 1
    default_remedy: ClassVar[str] = ""

    def __init__(self, message: str, *, remedy: str = "", **context: object) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy or self.default_remedy
        self.context = {name: str(value) for name, value in context.items()}

    def __str__(self) -> str:
        return f"{self.message} Remedy: {self.remedy}" if self.remedy else self.message

    @property
    def retryable(self) -> bool:
        """Whether the same call may work later."""
        return self.next is Next.RETRY


class RetryLater(TapeflowError):
    """The same call may work in a while."""

    code = "retry_later"
    next = Next.RETRY
    exit_code = 75


class DriveBusy(RetryLater):
    """All drives, or the volume, are in use."""

    code = "drive_busy"
    default_remedy = "wait for a drive, or see who holds it with `tapeflow library show`"


class LibraryOffline(RetryLater):
    """The changer or a drive does not answer."""

    code = "library_offline"
    default_remedy = "check the library's power, cabling and [library] in tapeflow.toml"


class VolumeStuck(LibraryOffline):
    """The drive that holds the volume does not answer."""

    code = "volume_stuck"
    default_remedy = "have the drive repaired; `tapeflow library repair-drive` frees the volume"


class LeaseLost(RetryLater):
    """Another holder has the drive now; what this one wrote since is void."""

    code = "lease_lost"
    default_remedy = "run the task again; it starts from what is committed"


class StoreUnavailable(RetryLater):
    """An object store does not answer."""

    code = "store_unavailable"
    default_remedy = "check the store's endpoint and credentials; the task goes on where it was"


class CatalogUnavailable(RetryLater):
    """The catalog's database does not answer."""

    code = "catalog_unavailable"
    default_remedy = "check the database behind [catalog] url"


class CourierUnavailable(RetryLater):
    """No document goes to or comes from a vault vendor for now."""

    code = "courier_unavailable"
    default_remedy = "check the courier's path and its permissions; documents that wait are kept"


class DiskFull(RetryLater):
    """A disk that Tapeflow writes to has no room."""

    code = "disk_full"
    default_remedy = "free space there, or give the path more room; nothing committed is lost"


class GoElsewhere(TapeflowError):
    """This volume can't serve the read: plan again over the other volumes of its set."""

    code = "go_elsewhere"
    next = Next.ELSEWHERE
    exit_code = 74
    default_remedy = "restores plan the reads anew over the other volumes of the set by themselves"


class MediumError(GoElsewhere):
    """An unreadable or damaged medium."""

    code = "medium_error"


class VolumeFull(GoElsewhere):
    """The volume has no room for another block; what follows goes to the next tape set."""

    code = "volume_full"


class EndOfData(GoElsewhere):
    """The tape ends before the wanted file or block."""

    code = "end_of_data"


class VolumeAbsent(GoElsewhere):
    """A volume is not where the catalog says it is."""

    code = "volume_absent"


class NeedsDecision(TapeflowError):
    """A person has to change something before this can work."""

    code = "needs_decision"
    next = Next.PERSON
    exit_code = 78


class ConfigError(NeedsDecision):
    """tapeflow.toml or the environment is wrong; nothing was started."""

    code = "config"


class KeyUnusable(NeedsDecision):
    """No age identity is given, or none that opens the data."""

    code = "key_unusable"
    default_remedy = "set [keys] identity_file to the operating key, or to the escrow key"


class ForeignTape(NeedsDecision):
    """A tape whose label is not ours, or not the expected one; it is never written."""

    code = "foreign_tape"
    default_remedy = "take the volume out of the library; nothing is ever written to it"


class TapeLostData(NeedsDecision):
    """A tape ends before the catalog says it does; nothing is written to it."""

    code = "tape_lost_data"
    default_remedy = "run `tapeflow verify --volume BARCODE`; restore reads its set's other volumes"


class NoScratchVolume(NeedsDecision):
    """No free volume, blank or of a reclaimed set, is left in the library."""

    code = "no_scratch_volume"
    default_remedy = "add blank volumes with `tapeflow library add-blank BARCODE...`"


class CatalogMismatch(NeedsDecision):
    """The catalog is newer than this code, or the database is not a catalog."""

    code = "catalog_mismatch"
    default_remedy = "install the version of tapeflow that wrote this catalog, or a later one"


class HostKeyRefused(NeedsDecision):
    """An SSH server showed a key that is not the known one; nothing was sent."""

    code = "host_key_refused"
    default_remedy = "compare the host's key with its owner, then correct known_hosts"


class InvalidTransition(NeedsDecision):
    """A state change that the rules forbid, or that another actor made first."""

    code = "invalid_transition"


class Refused(NeedsDecision):
    """A request that would break a promise, or that names something unknown."""

    code = "refused"
    exit_code = 64


class Unrecoverable(TapeflowError):
    """Trying again can't help; the message names the object or the tape file."""

    code = "unrecoverable"
    exit_code = 65


class ObjectNameRefused(Unrecoverable):
    """A store can't hold an object of this name."""

    code = "object_name_refused"
    default_remedy = "restore this object to a store that can hold its name"


class ObjectUnreadable(Unrecoverable):
    """An object is gone, has changed while it was read, or can't be read in its store."""

    code = "object_unreadable"
    default_remedy = "the next backup tries it again; check its permissions in the store"


class DigestMismatch(Unrecoverable):
    """Bytes that are not the bytes that were backed up; they were not published."""

    code = "digest_mismatch"
    default_remedy = "the object is read again from the other volumes of its set"


class CorruptTapeFile(Unrecoverable):
    """A label, segment, index or manifest that does not parse or fails its digest."""

    code = "corrupt_tape_file"
    default_remedy = "the tape file is rebuilt from the other volumes of its set"


class UnknownFormat(Unrecoverable):
    """Written by a format version that this code does not know."""

    code = "unknown_format"
    default_remedy = "install the version of tapeflow that wrote this tape, or a later one"
