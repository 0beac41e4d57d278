"""Which volumes go to which vault, on which truck, in which box: pure and deterministic.

Two members of one tape set never share a box, and no more of them share a truck than the set can
lose; nor a vault, where there are vaults enough.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

Box = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cartridge:
    """A volume to send: its tape set, and how many of that set may go together (at least 1)."""

    barcode: str
    tape_set: str
    together: int


@dataclass(frozen=True, slots=True)
class PlannedShipment:
    """One truck's load for one vault, packed."""

    vault: str
    boxes: tuple[Box, ...]

    @property
    def barcodes(self) -> list[str]:
        """The volumes in all its boxes."""
        return sorted(barcode for box in self.boxes for barcode in box)


@dataclass(frozen=True, slots=True)
class Distribution:
    """The shipments, and in plain words where the vaults are too few to keep sets apart."""

    shipments: tuple[PlannedShipment, ...]
    notes: tuple[str, ...]


def pack_boxes(cartridges: Iterable[Cartridge], box_size: int) -> tuple[Box, ...]:
    """Pack into as few boxes of up to ``box_size`` as keep the members of each set apart."""
    ordered = _in_order(cartridges)
    if not ordered:
        return ()
    largest_set = max(Counter(c.tape_set for c in ordered).values())
    count = max(math.ceil(len(ordered) / box_size), largest_set)
    return tuple(tuple(c.barcode for c in ordered[box::count]) for box in range(count))


def plan_shipments(
    cartridges: Iterable[Cartridge],
    vaults: Mapping[str, int],
    present: Mapping[tuple[str, str], int] | None = None,
) -> Distribution:
    """Spread cartridges evenly over ``vaults`` (name to box size), then over few trucks.

    ``present`` counts, by (tape set, vault), the members that are in a vault already.
    """
    ordered = _in_order(cartridges)
    members = Counter(present or {})
    by_vault = _spread(ordered, sorted(vaults), members)
    shipments = [
        PlannedShipment(vault, pack_boxes(load, vaults[vault]))
        for vault, share in sorted(by_vault.items())
        for load in _trucks(share)
    ]
    return Distribution(tuple(shipments), tuple(_notes(ordered, members, len(vaults))))


def _in_order(cartridges: Iterable[Cartridge]) -> list[Cartridge]:
    return sorted(cartridges, key=lambda c: (c.tape_set, c.barcode))


def _spread(
    cartridges: Sequence[Cartridge], places: Collection[str], members: Counter[tuple[str, str]]
) -> dict[str, list[Cartridge]]:
    """Give each cartridge to the place with the fewest of its set, then with the least load."""
    loads: dict[str, list[Cartridge]] = {place: [] for place in places}
    for cartridge in cartridges:
        best = min(places, key=lambda p: (members[cartridge.tape_set, p], len(loads[p]), p))
        members[cartridge.tape_set, best] += 1
        loads[best].append(cartridge)
    return loads


def _trucks(cartridges: Sequence[Cartridge]) -> list[list[Cartridge]]:
    """Share one vault's cartridges out to the fewest trucks that keep sets apart enough."""
    together = {c.tape_set: c.together for c in cartridges}
    counts = Counter(c.tape_set for c in cartridges)
    trucks = max((math.ceil(n / together[s]) for s, n in counts.items()), default=0)
    names = [f"{number:06}" for number in range(trucks)]
    return [load for _, load in sorted(_spread(cartridges, names, Counter()).items())]


def _notes(
    cartridges: Sequence[Cartridge], members: Counter[tuple[str, str]], vaults: int
) -> Iterable[str]:
    """Name each set of which a vault gets more than the set can lose."""
    together = {c.tape_set: c.together for c in cartridges}
    crowded = sorted(
        (tape_set, count, vault)
        for (tape_set, vault), count in members.items()
        if tape_set in together and count > together[tape_set]
    )
    for tape_set, group in groupby(crowded, key=lambda entry: entry[0]):
        count, vault = max((count, vault) for _, count, vault in group)
        few = "1 vault is" if vaults == 1 else f"{vaults} vaults are"
        yield (
            f"Tape set {tape_set}: {count} members in vault {vault}, where at most "
            f"{together[tape_set]} should be; {few} too few to keep them apart."
        )
