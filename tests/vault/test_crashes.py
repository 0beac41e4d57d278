"""Everything dies before any one of its steps, starts again, and ends as if it had not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from restore_lib.catalog.engine import Catalog
from restore_lib.library.virtual import VirtualLibrary
from restore_lib.model.volume import Custody, Reason
from restore_lib.vault.courier import DirectoryCourier
from restore_lib.vault.outbound import plan_vault_out, send_out
from restore_lib.vault.recalls import recall
from tests.support.vaults import VaultWorld

STEPS = [
    (Catalog, "write"),
    (DirectoryCourier, "send"),
    (DirectoryCourier, "done"),
    (VirtualLibrary, "export"),
    (VirtualLibrary, "admit"),
    (Path, "rename"),
    (Path, "replace"),
]
MEMBERS = ["A000", "A001", "A002"]


class Killed(BaseException):
    """The process ends here."""


class Killer:
    """Counts the steps, and ends the process before number ``at``."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.steps = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for owner, name in STEPS:
                patch.setattr(owner, name, self._counted(getattr(owner, name)))
            yield

    def _counted(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **more: Any) -> Any:
            self.steps += 1
            if self.steps == self.at:
                raise Killed
            return step(*arguments, **more)

        return counted


def go_out(world: VaultWorld) -> None:
    send_out(world.site, plan_vault_out(world.site), "ann")
    world.settle()


def come_back(world: VaultWorld) -> None:
    recall(world.site, MEMBERS[:2], reason=Reason.RESTORE, actor="ann")
    world.settle()


def fresh(root: Path, migrated: Path) -> VaultWorld:
    root.mkdir()
    (root / "catalog.db").write_bytes(migrated.read_bytes())
    return VaultWorld(root, "sqlite:///catalog.db", {"north": 4, "south": 4}, rounds=3)


def live_through(world: VaultWorld, kill_at: int, omit_at: str) -> list[int]:
    """Send a set out and two of it back, one left out at first; return the steps after each."""
    world.add_set("a", k=2, m=1)
    world.omit(MEMBERS[:1], omit_at)
    killer = Killer(kill_at)
    steps = []
    for stage in (go_out, come_back):
        try:
            with killer.watching():
                stage(world)
        except Killed:
            world.restart()
            stage(world)
        steps.append(killer.steps)
    return steps


def end_of(world: VaultWorld) -> tuple[object, object]:
    world.check_books()
    return world.volumes(), world.shipments()


@pytest.mark.parametrize("omit_at", ["acknowledgement", "shipment"])
def test_whatever_step_is_the_last_the_end_is_the_same(
    omit_at: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    migrated: Path = request.getfixturevalue("_migrated_sqlite")
    whole = fresh(tmp_path / "whole", migrated)
    out, back = live_through(whole, 0, omit_at)
    expected = end_of(whole)
    custodies = {b: v.custody for b, v in whole.volumes().items()}
    assert custodies == dict(zip(MEMBERS, [Custody.MOUNTABLE] * 2 + [Custody.VAULT], strict=True))
    whole.close()
    assert 30 < out < back - 30
    first = out + 1 if omit_at == "shipment" else 1
    for kill_at in range(first, back + 1):
        world = fresh(tmp_path / str(kill_at), migrated)
        live_through(world, kill_at, omit_at)
        assert end_of(world) == expected, f"killed before step {kill_at} of {back}"
        world.close()
