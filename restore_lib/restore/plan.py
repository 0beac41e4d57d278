"""Plan: which volumes bring each object back, in which batches of reads.

An object whose extents all lie on one readable volume is read from there. The others are gathered:
from several volumes, or from any k volumes of a set where one can't be read.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from restore_lib.catalog.batches import Need, NewBatch
from restore_lib.errors import DigestMismatch, MediumError
from restore_lib.model.states import BatchKind
from restore_lib.model.volume import Content, Custody, Flag, Health, Volume
from restore_lib.restore.estimate import TimeModel

_READABLE = frozenset({Health.OK, Health.SUSPECT})
_ANOTHER = frozenset({Flag.FOREIGN, Flag.LABEL_MISMATCH})
_LEAVING = frozenset({Custody.NOTMOUNTABLE, Custody.COURIER})
_NEARNESS = {
    Custody.MOUNTABLE: 0,
    Custody.ACCLIMATING: 1,
    Custody.ONSITERETRIEVE: 1,
    Custody.COURIERRETRIEVE: 2,
    Custody.VAULTRETRIEVE: 3,
}


def readable(volume: Volume) -> bool:
    """Whether a volume is to be read: not given up, retired, lost on its way out, or another."""
    lost = volume.custody in _LEAVING and Flag.MISSING in volume.flags
    retired = volume.content is Content.RETIRED
    another = not _ANOTHER.isdisjoint(volume.flags)
    return volume.health in _READABLE and not (lost or retired or another)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one batch: items, and bytes as stored."""

    objects: int
    size: int


@dataclass(frozen=True, slots=True)
class Route:
    """The volumes that bring one object back; ``lost`` are those that parity stands in for."""

    volumes: tuple[str, ...]
    lost: tuple[str, ...] = ()


@dataclass
class Planned:
    """Batches, and the items that nothing can bring back, each with the volumes that are lost."""

    batches: list[NewBatch] = field(default_factory=list)
    unrestorable: dict[int, tuple[str, ...]] = field(default_factory=dict)


class Planner:
    """Finds the way back for each item; the same input gives the same plan."""

    def __init__(
        self, volumes: Iterable[Volume], k: Mapping[str, int], limits: Limits, times: TimeModel
    ) -> None:
        """``volumes`` are all members of the sets in question, ``k`` their data volumes by set."""
        self._volumes = {volume.barcode: volume for volume in volumes}
        self._k = k
        self._limits = limits
        self._times = times
        self._members: dict[str, list[Volume]] = {}
        for volume in self._volumes.values():
            self._members.setdefault(volume.tape_set or "", []).append(volume)

    def plan(self, needs: Iterable[Need]) -> Planned:
        """Put every item into exactly one batch, or name it as unrestorable."""
        planned = Planned()
        reads: dict[Route, list[tuple[int, int]]] = {}
        for item_id, held in _by_item(needs).items():
            route = self.route(held)
            if isinstance(route, Route):
                size = sum(need.stored_size for need in held)
                reads.setdefault(route, []).append((item_id, size))
            else:
                planned.unrestorable[item_id] = route.lost
        for route, wanted in sorted(reads.items(), key=lambda pair: pair[0].volumes):
            planned.batches.extend(self._batches(route, wanted))
        return planned

    def route(self, held: list[Need]) -> "Route | NoWay":
        """Return the way back of an object with these extents.

        After a try that met blocks which can't be read, those alone are rebuilt: from the best
        volumes of the set at first, from all that are readable later. After any other failure,
        suspect volumes are passed over as far as parity allows: all of them, then one after the
        other, from try to try; then none, unless what stood in for them gave wrong bytes, since
        another survivor may give the right ones.
        """
        attempts = max(need.attempts for need in held)
        if attempts and all(need.last_error == MediumError.code for need in held):
            return self._narrow(held, attempts)
        wanted = [self._volumes[barcode] for barcode in sorted({need.barcode for need in held})]
        lost = {volume.barcode for volume in wanted if not readable(volume)}
        doubted = [v.barcode for v in wanted if readable(v) and v.health is Health.SUSPECT]
        choices = [doubted, *([one] for one in doubted)] if attempts and doubted else []
        routes = [self._route(held, lost.union(avoid)) for avoid in choices]
        found: list[Route | NoWay] = [*dict.fromkeys(r for r in routes if isinstance(r, Route))]
        if not found:
            return self._route(held, lost)
        if DigestMismatch.code not in {need.last_error for need in held}:
            found.append(self._route(held, lost))
        return found[(attempts - 1) % len(found)]

    def _narrow(self, held: list[Need], attempts: int) -> "Route | NoWay":
        """Return the object's own volumes, with those that rebuild single rows of theirs."""
        own: dict[str, set[str]] = {}
        for need in held:
            own.setdefault(need.tape_set, set()).add(need.barcode)
        wanted: set[str] = set()
        lost: set[str] = set()
        for tape_set, barcodes in sorted(own.items()):
            near = {barcode for barcode in barcodes if readable(self._volumes[barcode])}
            usable = self._usable(tape_set, set(), near)
            k = self._k[tape_set]
            if near != barcodes and len(usable) < k:
                return NoWay(tuple(sorted(self._unreadable(tape_set))))
            wanted |= near
            lost |= barcodes - near
            if len(usable) >= k:
                others = [barcode for barcode in usable if barcode not in near]
                wanted.update(others[:k] if attempts == 1 else others)
        return Route(tuple(sorted(wanted)), tuple(sorted(lost)))

    def _route(self, held: list[Need], avoid: set[str]) -> "Route | NoWay":
        direct = {need.barcode for need in held} - avoid
        lost = sorted({(n.tape_set, n.barcode) for n in held if n.barcode in avoid})
        wanted = set(direct)
        wrong = max((n.attempts for n in held if n.last_error == DigestMismatch.code), default=0)
        for tape_set, group in groupby(lost, key=lambda pair: pair[0]):
            gone = {barcode for _, barcode in group}
            survivors = self._survivors(tape_set, gone, direct, wrong)
            if survivors is None:
                return NoWay(tuple(sorted(self._unreadable(tape_set) | gone)))
            wanted.update(survivors)
        return Route(tuple(sorted(wanted)), tuple(barcode for _, barcode in lost))

    def _survivors(
        self, tape_set: str, gone: set[str], near: set[str], wrong: int
    ) -> list[str] | None:
        """Return the k best volumes of a set to compute its lost ones from, or None.

        After a try that gave wrong bytes, another volume is left out each time: one of them is
        damaged without its drive noticing.
        """
        usable = self._usable(tape_set, gone, near)
        k = self._k[tape_set]
        if wrong and len(usable) > k:
            del usable[(wrong - 1) % len(usable)]
        return usable[:k] if len(usable) >= k else None

    def _usable(self, tape_set: str, gone: set[str], near: set[str]) -> list[str]:
        """Return the readable volumes of a set but for those ``gone``, the best ones first."""
        return [
            row[-1]
            for row in sorted(
                (
                    volume.health is not Health.OK,
                    volume.barcode not in near,
                    _NEARNESS.get(volume.custody, 4),
                    volume.position or 0,
                    volume.barcode,
                )
                for volume in self._members[tape_set]
                if readable(volume) and volume.barcode not in gone
            )
        ]

    def _unreadable(self, tape_set: str) -> set[str]:
        return {v.barcode for v in self._members[tape_set] if not readable(v)}

    def _batches(self, route: Route, wanted: list[tuple[int, int]]) -> Iterator[NewBatch]:
        read = len(route.volumes) == 1 and not route.lost
        kind = BatchKind.READ if read else BatchKind.GATHER
        for part in _cut(wanted, self._limits):
            size = sum(stored for _, stored in part)
            per_volume = size if read else size // len(route.volumes) + 1
            estimate = sum(self._times.mount(len(part), per_volume) for _ in route.volumes)
            yield NewBatch(
                kind,
                route.lost[0] if route.lost else route.volumes[0],
                route.volumes,
                tuple(item for item, _ in part),
                size,
                estimate,
            )


@dataclass(frozen=True, slots=True)
class NoWay:
    """More volumes of a set are lost than parity makes good."""

    lost: tuple[str, ...]


def alternates(item_ids: list[int], limits: Limits, times: TimeModel) -> list[NewBatch]:
    """Return batches that look for objects that were never backed up in alternate stores."""
    return [
        NewBatch(
            BatchKind.ALTERNATE,
            None,
            (),
            tuple(item for item, _ in part),
            0,
            len(part) * times.per_object,
        )
        for part in _cut([(item, 0) for item in item_ids], limits)
    ]


def _by_item(needs: Iterable[Need]) -> dict[int, list[Need]]:
    held: dict[int, list[Need]] = {}
    for need in needs:
        held.setdefault(need.item_id, []).append(need)
    return held


def _cut(wanted: list[tuple[int, int]], limits: Limits) -> Iterator[list[tuple[int, int]]]:
    part: list[tuple[int, int]] = []
    size = 0
    for item, stored in wanted:
        if part and (len(part) >= limits.objects or size + stored > limits.size):
            yield part
            part, size = [], 0
        part.append((item, stored))
        size += stored
    if part:
        yield part
