"""The tables of tapeflow.toml, each strict: an unknown key or a bad value is an error.

Apart from ``config``, which reads the file, so that a process that is handed a table starts fast.
"""

import contextlib
import os
from datetime import UTC, datetime, time, timedelta
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    ValidationInfo,
    model_validator,
)

_CENTURY = timedelta(days=36525)
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    for unit in sorted(_UNITS, key=len, reverse=True):
        text = value.strip() if isinstance(value, str) else ""
        number = text.removesuffix(unit)
        if number != text and number.strip().replace(".", "", 1).isdigit():
            with contextlib.suppress(OverflowError):
                return timedelta(seconds=float(number) * _UNITS[unit])
    msg = "a duration is a number and one of s, min, h, d, w, as in '4h'"
    raise ValueError(msg)


def _beside_file(path: Path, info: ValidationInfo) -> Path:
    base = (info.context or {}).get("base")
    return Path(base, path) if base else path


Duration = Annotated[timedelta, BeforeValidator(_duration)]
FilePath = Annotated[Path, AfterValidator(_beside_file)]
Place = tuple[tuple[str, ...], tuple[str, ...]]
"""A service, and the parts of a path there."""
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
PolicyName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,47}$")]
"""The names of a policy's tape sets, of at most 63 bytes, begin with it."""


class Section(BaseModel):
    """A table of tapeflow.toml: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, values: object) -> object:
        for name, value in values.items() if isinstance(values, dict) else ():
            field = cls.model_fields.get(name)
            if isinstance(value, bool) and field is not None and field.annotation is not bool:
                msg = f"{name} can't be true or false"
                raise ValueError(msg)
        return values


class ClusterConfig(Section):
    """Whose tapes these are; written on every label."""

    id: Name


class CatalogConfig(Section):
    """Where the catalog is: an SQLAlchemy URL of SQLite or PostgreSQL."""

    url: str = "sqlite:///catalog.db"


class StagingConfig(Section):
    """The disk on which segments wait for tape, and objects from several volumes are gathered."""

    path: FilePath = Path("staging")
    reserve: ByteSize = ByteSize(64 << 20)


class LocalStoreConfig(Section):
    """A folder of files."""

    kind: Literal["local"]
    path: FilePath

    @property
    def place(self) -> Place:
        """Where it is, symbolic links followed."""
        return ("local",), PurePosixPath(os.path.realpath(self.path)).parts


class S3StoreConfig(Section):
    """A bucket of an S3 service; credentials come from the usual AWS configuration."""

    kind: Literal["s3"]
    bucket: str
    prefix: str = ""
    endpoint_url: str | None = None
    region: str | None = None

    @property
    def place(self) -> Place:
        """Where it is; prefixes need not end at a slash, so their parts are letters."""
        return ("s3", self.endpoint_url or "", self.bucket), tuple(self.prefix)


class SftpStoreConfig(Section):
    """A folder on an SSH server whose host key is in ``known_hosts``."""

    kind: Literal["sftp"]
    host: str
    port: int = Field(default=22, ge=1, le=65535)
    user: str
    path: str
    known_hosts: FilePath
    key_file: FilePath | None = None

    @property
    def place(self) -> Place:
        """Where it is."""
        return ("sftp", self.host, str(self.port)), PurePosixPath(self.path).parts


StoreConfig = Annotated[
    LocalStoreConfig | S3StoreConfig | SftpStoreConfig, Field(discriminator="kind")
]


class KeysConfig(Section):
    """Who can read the tapes: age recipients, and on restore hosts the identity file."""

    recipients: list[str] = Field(min_length=1)
    identity_file: FilePath | None = None


class RetentionConfig(Section):
    """How long recovery points are kept, and how many good ones that are older."""

    keep_within: Duration = Field(gt=timedelta(0), le=_CENTURY)
    minimum_redundancy: int = Field(default=3, ge=1)


class PolicyConfig(Section):
    """How one store is protected."""

    store: Name
    k: int = Field(default=4, ge=1, le=28)
    m: int = Field(default=2, ge=0, le=4)
    block_size: ByteSize = Field(default=ByteSize(256 << 10), ge=512, le=8 << 20)
    segment_size: ByteSize = Field(default=ByteSize(1 << 30), ge=64 << 10, le=7 << 30)
    keep_open: bool = False
    read_back: bool = True
    alternates: list[Name] = []
    rpo: Duration = timedelta(hours=24)
    rto: Duration = timedelta(hours=24)
    retention: RetentionConfig | None = None

    @model_validator(mode="after")
    def _whole_blocks(self) -> Self:
        if self.block_size % 512:
            msg = "block_size must be a multiple of 512 bytes"
            raise ValueError(msg)
        return self


class LibraryConfig(Section):
    """The tape library that this cluster writes to and reads from."""

    kind: Literal["virtual"] = "virtual"
    path: FilePath = Path("tapes")
    slots: int = Field(default=100, ge=1)
    drives: int = Field(default=2, ge=1)
    import_export: int = Field(default=10, ge=1)
    capacity: ByteSize = Field(default=ByteSize(18 * 10**12), ge=1)
    lease: Duration = Field(default=timedelta(seconds=60), ge=timedelta(seconds=1))


class CourierConfig(Section):
    """How documents go to a vault vendor and come back: by two folders."""

    kind: Literal["directory"] = "directory"
    path: FilePath


class VaultConfig(Section):
    """One offsite place for volumes."""

    courier: Name
    box_size: int = Field(default=20, ge=1)
    transit: Duration = timedelta(hours=8)
    departures: list[time] = []
    picks_per_hour: int | None = Field(default=None, ge=1)

    def leaves(self, asked: datetime) -> datetime:
        """Return when the first truck leaves after ``asked``; at once without a timetable."""
        day = asked.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        known = [timedelta(hours=at.hour, minutes=at.minute) for at in self.departures]
        trucks = [day + at + timedelta(days=later) for at in known for later in (0, 1)]
        return min((truck for truck in trucks if truck >= asked), default=asked)


class RestoreConfig(Section):
    """Bounds of a restore."""

    batch_objects: int = Field(default=5000, ge=1)
    batch_size: ByteSize = Field(default=ByteSize(100 << 30), ge=1)
    batch_time: Duration = Field(default=timedelta(hours=4), ge=timedelta(seconds=1))
    wave_batches: int = Field(default=300, ge=1, le=1000)
    rounds: int = Field(default=4, ge=1)
    store_rate: ByteSize | None = Field(default=None, ge=1)
    reports: FilePath = Path("reports")


class ReclaimConfig(Section):
    """How long a tape set on which nothing is live can still be brought back."""

    quarantine: Duration = Field(default=timedelta(days=14), ge=timedelta(hours=1), le=_CENTURY)


class DrillConfig(Section):
    """A rehearsal: what is restored to which scratch store, and against which objectives."""

    policy: Name
    scratch: Name
    sample: int = Field(default=100, ge=1)
    prefix: str | None = None
