"""The way of volumes in a simulated restore: asked for, picked, driven, rested, let in."""

from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from random import Random

import simpy

from restore_lib.restore.plant import HOUR, Plant
from restore_lib.restore.spans import Span, Stage
from restore_lib.restore.work import Coming, Work

_BOX = 20
_LATE = 0.1
"""The share of its whole time that a shipment still needs when it should have come already."""
Steps = Generator[simpy.Event, None, None]


class Road:
    """Brings volumes from vaults, and asks again for those that a vault leaves out.

    ``here`` grows by what comes, and ``arrive`` is called for each. After the plant's last round
    ``give_up`` is called with what has still not been sent.
    """

    def __init__(
        self,
        env: simpy.Environment,
        random: Random,
        work: Work,
        plant: Plant,
        spans: Mapping[Stage, Span],
        here: Collection[str],
    ) -> None:
        """Draw the truth about vaults, trucks and doors from the plant's priors."""
        self._env, self._random, self._work, self._plant = env, random, work, plant
        self._spans = spans
        self._import = HOUR / (plant.imports_per_hour * plant.robots)
        self._import *= plant.importing.draw(random)
        self._picking = plant.picking.draw(random)
        self._driving = plant.driving.draw(random)
        self._omitted = plant.omitted.draw(random), plant.omitted_again.draw(random)
        self._door_free = 0.0
        self.here = set(here)
        self.asked: set[str] = set()
        self.omissions = 0
        self.arrive: Callable[[str], None] = self.here.add
        self.give_up: Callable[[Collection[str]], None] = self.asked.difference_update

    def begin(self) -> None:
        """Let the shipments that were on their way before come."""
        for shipment in self._work.coming:
            self.asked.update(shipment.volumes)
            self._env.process(self._trip(shipment))

    def recall(self, barcodes: Iterable[str], *, redundancy: bool) -> None:
        """Ask for those of these volumes that are neither here nor asked for."""
        by_vault: dict[str, list[str]] = {}
        for barcode in barcodes:
            if barcode not in self.here and barcode not in self.asked:
                by_vault.setdefault(self._work.places[barcode], []).append(barcode)
        for vault, held in by_vault.items():
            self.asked.update(held)
            self._env.process(self._trip(Coming(vault, tuple(held), 0.0, redundancy)))

    def _trip(self, shipment: Coming) -> Steps:
        vault = self._plant.vaults[shipment.vault]
        stage = self._spans[Stage.REDUNDANCY if shipment.redundancy else Stage.RECALL]
        picking = self._count(shipment.volumes) / vault.picks_per_hour * HOUR * self._picking
        stage.begin(self._env.now)
        began = self._work.starts + self._env.now - shipment.ago
        if not shipment.ago:
            yield self._env.timeout(picking)
        omitted = self._left_out(shipment)
        if self._plant.acknowledged:
            self._ask_again(shipment, omitted)
        way = vault.wait(began + picking) + vault.transit * self._driving
        if shipment.ago:
            whole = picking + way
            way = max(whole - shipment.ago, _LATE * whole)
        yield self._env.timeout(way)
        if not self._plant.acknowledged:
            self._ask_again(shipment, omitted)
        stage.end(self._env.now)
        came = [barcode for barcode in shipment.volumes if barcode not in omitted]
        if came:
            yield from self._take_in(came)

    def _left_out(self, shipment: Coming) -> frozenset[str]:
        share = self._omitted[min(shipment.round, 1)]
        return frozenset(b for b in shipment.volumes if self._random.random() < share)

    def _ask_again(self, shipment: Coming, omitted: Collection[str]) -> None:
        if not omitted:
            return
        self.omissions += self._count(omitted)
        wanted = tuple(b for b in shipment.volumes if b in omitted)
        if shipment.round + 1 < self._plant.rounds:
            again = Coming(shipment.vault, wanted, 0.0, shipment.redundancy, shipment.round + 1)
            self._env.process(self._trip(again))
        else:
            self.give_up(wanted)

    def _take_in(self, barcodes: list[str]) -> Steps:
        if self._plant.acclimation:
            self._spans[Stage.ACCLIMATION].begin(self._env.now)
            yield self._env.timeout(self._plant.acclimation)
            self._spans[Stage.ACCLIMATION].end(self._env.now)
        span = self._spans[Stage.IMPORT]
        span.begin(self._env.now)
        for begin in range(0, len(barcodes), _BOX):
            box = barcodes[begin : begin + _BOX]
            seconds = self._count(box) * self._import
            self._door_free = max(self._door_free, self._env.now) + seconds
            yield self._env.timeout(self._door_free - self._env.now)
            self.here.update(box)
            for barcode in box:
                self.arrive(barcode)
        span.end(self._env.now)

    def _count(self, barcodes: Collection[str]) -> int:
        weights = self._work.weights
        return sum(weights.get(barcode, 1) for barcode in barcodes) if weights else len(barcodes)
