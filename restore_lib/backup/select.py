"""Select: what is new, changed or gone in a store since the catalog last saw it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from restore_lib.catalog.recovery_points import LiveVersion
from restore_lib.model.objects import StoredObject


class Kind(StrEnum):
    """How an object differs from what the catalog has of it."""

    NEW = "new"
    CHANGED = "changed"
    SAME = "same"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Change:
    """One object of the store, of the catalog, or of both."""

    kind: Kind
    found: StoredObject | None
    known: LiveVersion | None

    @property
    def to_back_up(self) -> StoredObject | None:
        """The object, when its content has to go to tape."""
        return self.found if self.kind in {Kind.NEW, Kind.CHANGED} else None


def changes(found: Iterable[StoredObject], known: Iterable[LiveVersion]) -> Iterator[Change]:
    """Compare a store's listing with the catalog's, both in order of the keys, streaming.

    An object is the same when the store's version id is, or where it has none, when size,
    modification time and etag are.
    """
    ours = iter(known)
    mine = next(ours, None)
    for theirs in found:
        while mine is not None and mine.key < theirs.key:
            yield Change(Kind.GONE, None, mine)
            mine = next(ours, None)
        if mine is None or mine.key > theirs.key:
            yield Change(Kind.NEW, theirs, None)
            continue
        yield Change(Kind.SAME if _same(theirs, mine) else Kind.CHANGED, theirs, mine)
        mine = next(ours, None)
    while mine is not None:
        yield Change(Kind.GONE, None, mine)
        mine = next(ours, None)


def _same(found: StoredObject, known: LiveVersion) -> bool:
    if found.version is not None and known.store_version is not None:
        return found.version == known.store_version
    return (found.size, found.modified_at, found.etag) == (
        known.size,
        known.modified_at,
        known.etag,
    )
