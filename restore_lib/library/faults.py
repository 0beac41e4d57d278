"""Faults to inject into a virtual volume, as data beside its image, for drills and tests."""

import os
import tempfile
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from restore_lib.errors import ConfigError, LibraryOffline

SUFFIX = ".faults.json"

Count = Annotated[int, Field(ge=0)]


class DriveDies(BaseModel):
    """The drive fails for good once it has read or written ``after_blocks`` blocks of a mount."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    after_blocks: Count


class Faults(BaseModel):
    """What is wrong with one volume, from its next load on.

    ``unreadable``: it loads, but nothing is read from it or written to it. ``unreadable_blocks``:
    (tape file, first block, last block) that can't be read. ``drive_dies``: happens once, and is
    then taken out of the file. ``capacity_bytes``: it holds less than others of its kind.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    unreadable: bool = False
    unreadable_blocks: tuple[tuple[Count, Count, Count], ...] = ()
    drive_dies: DriveDies | None = None
    capacity_bytes: Annotated[int, Field(ge=1)] | None = None

    def hit(self, file: int, block: int) -> bool:
        """Return whether ``block`` of tape file ``file`` is among the unreadable ones."""
        return any(
            f == file and first <= block <= last for f, first, last in self.unreadable_blocks
        )


def faults_path(image: Path) -> Path:
    """Return where the faults of the volume at ``image`` are kept."""
    return image.with_name(image.stem + SUFFIX)


def read_faults(image: Path) -> Faults:
    """Return the faults of the volume at ``image``; none when there is no file of faults.

    Raises ConfigError for an unknown key or a bad value, and LibraryOffline when it can't be read.
    """
    path = faults_path(image)
    try:
        return Faults.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Faults()
    except OSError as error:
        raise LibraryOffline(f"The faults in {path} can't be read: {error.strerror}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigError(
            f"{path}: {where}: {first['msg']}.", remedy="correct the file of faults, or remove it"
        ) from error


def write_faults(image: Path, faults: Faults) -> None:
    """Make ``faults`` those of the volume at ``image``, whole or not at all; no faults: no file."""
    path = faults_path(image)
    if faults == Faults():
        path.unlink(missing_ok=True)
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(faults.model_dump_json(exclude_defaults=True))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
