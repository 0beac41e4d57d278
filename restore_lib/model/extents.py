"""Extents: where on tape the parts of objects are."""

from dataclasses import dataclass

from restore_lib.model.objects import StoredObject


@dataclass(frozen=True, slots=True)
class NewExtent:
    """One member of a staged segment, as the catalog will know it.

    ``replaces`` is the version that it takes over from; in a repack, the extent.
    """

    source: StoredObject
    part: int
    parts: int
    object_sha256: str | None
    position: int
    stripe: int
    member: str
    offset: int
    size: int
    sha256: str
    stored_size: int
    stored_sha256: str
    replaces: int | None
