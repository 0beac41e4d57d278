"""Plan: which volumes bring an object back, and how many objects one mount is to read.

An object whose extents all lie on one readable volume is read from there. The others are gathered:
from several volumes, or from any k volumes of a set where one can't be read.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from restore_lib.catalog.batches import NewBatch
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
    """Bounds of one batch: items, bytes as stored, and seconds of a mount."""

    objects: int
    size: int
    seconds: float = float("inf")

    def allow(self, objects: int, size: int, times: TimeModel) -> bool:
        """Return whether so much can be one batch; a single object always can."""
        if objects <= 1:
            return True
        if objects > self.objects or size > self.size:
            return False
        return times.mount(objects, size) <= self.seconds


@dataclass(frozen=True, slots=True)
class Route:
    """The volumes that bring one object back; ``lost`` are those that parity stands in for."""

    volumes: tuple[str, ...]
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NoWay:
    """More volumes of a set are lost than parity makes good."""

    lost: tuple[str, ...]


class Planner:
    """Finds the way back of objects; the same input gives the same way."""

    def __init__(self, volumes: Iterable[Volume], k: Mapping[str, int]) -> None:
        """``volumes`` are all members of the sets in question, ``k`` their data volumes by set."""
        self.volumes = {volume.barcode: volume for volume in volumes}
        self.k = k
        self._usable: dict[str, list[str]] = {}
        self._members: dict[str, list[Volume]] = {}
        for volume in self.volumes.values():
            self._members.setdefault(volume.tape_set or "", []).append(volume)

    def by_set(self, barcodes: Iterable[str]) -> dict[str, set[str]]:
        """Return these volumes by their sets, the sets in order."""
        found: dict[str, set[str]] = {}
        for tape_set, barcode in sorted(
            (self.volumes[barcode].tape_set or "", barcode) for barcode in barcodes
        ):
            found.setdefault(tape_set, set()).add(barcode)
        return found

    def route(
        self, barcodes: Collection[str], attempts: int = 0, last_error: str | None = None
    ) -> Route | NoWay:
        """Return the way back of an object whose extents lie on these volumes.

        After a try that met blocks which can't be read, those alone are rebuilt: from the best
        volumes of the set at first, from all that are readable later. After any other failure,
        suspect volumes are passed over as far as parity allows: all of them, then one after the
        other, from try to try; then none, unless what stood in for them gave wrong bytes, since
        another survivor may give the right ones.
        """
        if not barcodes:
            return NoWay(())
        if attempts and last_error == MediumError.code:
            return self._narrow(barcodes, attempts)
        wrong = attempts if last_error == DigestMismatch.code else 0
        wanted = [self.volumes[barcode] for barcode in sorted(barcodes)]
        lost = {volume.barcode for volume in wanted if not readable(volume)}
        doubted = [v.barcode for v in wanted if readable(v) and v.health is Health.SUSPECT]
        choices = [doubted, *([one] for one in doubted)] if attempts and doubted else []
        routes = [self._route(barcodes, lost.union(avoid), wrong) for avoid in choices]
        found: list[Route | NoWay] = [*dict.fromkeys(r for r in routes if isinstance(r, Route))]
        if not found:
            return self._route(barcodes, lost, wrong)
        if not wrong:
            found.append(self._route(barcodes, lost, wrong))
        return found[(attempts - 1) % len(found)]

    def _narrow(self, barcodes: Collection[str], attempts: int) -> Route | NoWay:
        """Return the object's own volumes, with those that rebuild single rows of theirs."""
        wanted: set[str] = set()
        lost: set[str] = set()
        for tape_set, own in self.by_set(barcodes).items():
            near = {barcode for barcode in own if readable(self.volumes[barcode])}
            usable = self.usable(tape_set, near=near)
            k = self.k[tape_set]
            if near != own and len(usable) < k:
                return NoWay(tuple(sorted(self._unreadable(tape_set))))
            wanted |= near
            lost |= own - near
            if len(usable) >= k:
                others = [barcode for barcode in usable if barcode not in near]
                wanted.update(others[:k] if attempts == 1 else others)
        return Route(tuple(sorted(wanted)), tuple(sorted(lost)))

    def _route(self, barcodes: Collection[str], avoid: set[str], wrong: int) -> Route | NoWay:
        direct = set(barcodes) - avoid
        wanted = set(direct)
        lost: list[str] = []
        for tape_set, gone in self.by_set(avoid.intersection(barcodes)).items():
            survivors = self._survivors(tape_set, gone, direct, wrong)
            if survivors is None:
                return NoWay(tuple(sorted(self._unreadable(tape_set) | gone)))
            wanted.update(survivors)
            lost += sorted(gone)
        return Route(tuple(sorted(wanted)), tuple(lost))

    def _survivors(
        self, tape_set: str, gone: set[str], near: set[str], wrong: int
    ) -> list[str] | None:
        """Return the k best volumes of a set to compute its lost ones from, or None.

        After a try that gave wrong bytes, another volume is left out each time: one of them is
        damaged without its drive noticing.
        """
        usable = self.usable(tape_set, gone, near)
        k = self.k[tape_set]
        if wrong and len(usable) > k:
            del usable[(wrong - 1) % len(usable)]
        return usable[:k] if len(usable) >= k else None

    def usable(
        self, tape_set: str, gone: Collection[str] = (), near: Collection[str] = ()
    ) -> list[str]:
        """Return the readable volumes of a set but for those ``gone``, the best ones first."""
        if gone or near:
            return self._ranked(tape_set, gone, near)
        if tape_set not in self._usable:
            self._usable[tape_set] = self._ranked(tape_set, gone, near)
        return list(self._usable[tape_set])

    def _ranked(self, tape_set: str, gone: Collection[str], near: Collection[str]) -> list[str]:
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


def batch_of(route: Route | None, objects: int, size: int, times: TimeModel) -> NewBatch:
    """Return the batch that brings so many objects back by a route.

    None is the way of objects that were never backed up: to look for them in alternate stores.
    """
    if route is None:
        return NewBatch(BatchKind.ALTERNATE, None, (), objects, 0, objects * times.per_object)
    read = len(route.volumes) == 1 and not route.lost
    per_volume = size if read else size // len(route.volumes) + 1
    return NewBatch(
        BatchKind.READ if read else BatchKind.GATHER,
        route.lost[0] if route.lost else route.volumes[0],
        route.volumes,
        objects,
        size,
        times.mount(objects, per_volume) * len(route.volumes),
    )


def cut(
    wanted: Iterable[tuple[int, int]], limits: Limits, times: TimeModel
) -> Iterator[list[tuple[int, int]]]:
    """Cut (item, bytes), in their order, into parts that can each be one batch."""
    part: list[tuple[int, int]] = []
    size = 0
    for item, stored in wanted:
        if part and not limits.allow(len(part) + 1, size + stored, times):
            yield part
            part, size = [], 0
        part.append((item, stored))
        size += stored
    if part:
        yield part
