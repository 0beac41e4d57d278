"""What is known of each tape set while a catalog is rebuilt, and what is still missing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from restore_lib.catalog.findings import Findings, Found, FoundFile, FoundSet, FoundVolume


@dataclass(frozen=True, slots=True)
class Lost:
    """A tape file of which volumes do not tell enough.

    ``rows`` is its length in blocks, or that of its stripe where ``whole`` says that not even its
    digest is known. ``sources`` are the positions of k volumes that it can be computed from, none
    when there are too few.
    """

    tape_set: str
    stripe: int
    position: int
    rows: int
    whole: bool
    sources: tuple[int, ...]
    why: str

    @property
    def possible(self) -> bool:
        """Whether parity can give it."""
        return bool(self.sources)


@dataclass(frozen=True, slots=True)
class KnownSet:
    """A tape set: its volumes by position, its stripes and what of them is missing.

    ``stripes`` is how many count. ``left_out`` are the numbers of further ones that lie on fewer
    than k volumes: what a crash left of a backup. ``blocks`` has the lengths of tape files by
    (stripe, position). ``short`` are volumes that end before the set does. ``assumed`` are volumes
    by position that can't be read, and that nobody else tells of.
    """

    found: FoundSet
    barcodes: Mapping[int, str]
    stripes: int
    left_out: tuple[int, ...]
    closed: bool
    blocks: Mapping[tuple[int, int], int]
    lost: tuple[Lost, ...]
    short: tuple[str, ...]
    assumed: Mapping[int, str] = field(default_factory=dict)

    @property
    def unnamed(self) -> list[int]:
        """The positions whose volume is neither told by anyone nor assumed."""
        known = {**self.barcodes, **self.assumed}
        return [p for p in range(self.found.k + self.found.m) if p not in known]


def states(findings: Findings) -> list[KnownSet]:
    """Return what is known of every set.

    Where as many volumes can't be read as places are without one, each is taken for that of a
    place, both in order: sets are made of volumes in order of their barcodes.
    """
    found = [state_of(findings, one) for one in findings.sets()]
    found.sort(key=lambda state: (state.found.created_at, state.found.id))
    places = [(state.found.id, p) for state in found if state.stripes for p in state.unnamed]
    taken = {barcode for state in found for barcode in state.barcodes.values()}
    unread = [
        volume.barcode
        for volume in findings.volumes()
        if volume.state is Found.UNREADABLE and volume.barcode not in taken
    ]
    if len(places) != len(unread):
        return found
    assumed: dict[str, dict[int, str]] = {}
    for (tape_set, position), barcode in zip(places, unread, strict=True):
        assumed.setdefault(tape_set, {})[position] = barcode
    return [replace(state, assumed=assumed.get(state.found.id, {})) for state in found]


def state_of(findings: Findings, found: FoundSet) -> KnownSet:
    """Return what is known of a set by now."""
    barcodes = findings.named(found.id)
    read = {
        volume.position: volume
        for volume in findings.volumes()
        if volume.tape_set == found.id
        and volume.state is Found.READ
        and volume.position is not None
        and barcodes.get(volume.position) == volume.barcode
    }
    spoiled = {
        (stripe, position): why
        for (stripe, position, barcode), why in findings.spoiled(found.id).items()
        if barcode == barcodes.get(position, barcode)
    }
    most = max((volume.files for volume in read.values()), default=0)
    counting = (n for n in range(most, 0, -1) if _counts(found, read, spoiled, n))
    stripes = next(counting, 0)
    files = {n: findings.files(found.id, n) for n in range(1, stripes + 1)}
    lost = _lost(found, findings, read, spoiled, files)
    return KnownSet(
        found,
        barcodes,
        stripes,
        tuple(range(stripes + 1, most + 1)),
        any(v.closed for v in read.values()) or any(v.files < stripes for v in read.values()),
        {(n, position): f.blocks for n, held in files.items() for position, f in held.items()},
        tuple(lost),
        tuple(v.barcode for v in read.values() if v.files < stripes),
    )


def _lost(
    found: FoundSet,
    findings: Findings,
    read: Mapping[int, FoundVolume],
    spoiled: Mapping[tuple[int, int], str],
    files: Mapping[int, Mapping[int, FoundFile]],
) -> Iterator[Lost]:
    indexed = findings.indexed(found.id)
    for stripe, held in files.items():
        longest = max((file.blocks for file in held.values()), default=0)
        sound = [p for p in sorted(read) if p in held and _sound(read[p], spoiled, stripe)]
        for position in range(found.k + found.m):
            own = held.get(position)
            if own is not None and (position >= found.k or (stripe, position) in indexed):
                continue
            sources = [p for p in sound if p != position][: found.k]
            yield Lost(
                found.id,
                stripe,
                position,
                longest if own is None else own.blocks,
                own is None,
                tuple(sources) if len(sources) == found.k else (),
                spoiled.get((stripe, position), "its volume was not read"),
            )


def _counts(
    found: FoundSet,
    read: Mapping[int, FoundVolume],
    spoiled: Mapping[tuple[int, int], str],
    stripe: int,
) -> bool:
    """Return whether a stripe is on all volumes that could be read, or at least on k of them."""
    held = [position for position, volume in read.items() if volume.files >= stripe]
    sound = [position for position in held if (stripe, position) not in spoiled]
    return len(sound) >= found.k or len(held) == len(read)


def _sound(volume: FoundVolume, spoiled: Mapping[tuple[int, int], str], stripe: int) -> bool:
    return volume.files >= stripe and (stripe, volume.position or 0) not in spoiled
