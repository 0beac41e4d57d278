"""Everything dies before any one of its steps, starts again, and ends as if it had not."""

import shutil
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
MEMBERS = ["A000", "A001"]


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
    recall(world.site, MEMBERS, reason=Reason.RESTORE, actor="ann")
    world.settle()


def world_at(root: Path) -> VaultWorld:
    return VaultWorld(root, "sqlite:///catalog.db", {"north": 4, "south": 4}, rounds=3, slots=6)


def end_of(world: VaultWorld) -> tuple[object, object]:
    world.check_books()
    return world.volumes(), world.shipments()


@pytest.mark.parametrize(
    ("stage", "omit_at", "custody"),
    [
        (go_out, None, Custody.VAULT),
        (come_back, "acknowledgement", Custody.MOUNTABLE),
        (come_back, "shipment", Custody.MOUNTABLE),
    ],
)
def test_whatever_step_is_the_last_the_end_is_the_same(
    stage: Callable[[VaultWorld], None],
    omit_at: str | None,
    custody: Custody,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    start = tmp_path / "start"
    start.mkdir()
    shutil.copy(request.getfixturevalue("_migrated_sqlite"), start / "catalog.db")
    world = world_at(start)
    world.add_set("a", k=1, m=1)
    if omit_at is not None:
        go_out(world)
        world.omit(MEMBERS[:1], omit_at)
    world.close()

    def live_through(name: str, kill_at: int) -> tuple[VaultWorld, int]:
        shutil.copytree(start, tmp_path / name)
        world = world_at(tmp_path / name)
        killer = Killer(kill_at)
        try:
            with killer.watching():
                stage(world)
        except Killed:
            world.restart()
            stage(world)
        return world, killer.steps

    whole, steps = live_through("whole", 0)
    expected = end_of(whole)
    assert {v.custody for v in whole.volumes().values()} == {custody}
    whole.close()
    assert steps > 30
    for kill_at in range(1, steps + 1):
        world, _ = live_through(str(kill_at), kill_at)
        assert end_of(world) == expected, f"killed before step {kill_at} of {steps}"
        world.close()
        shutil.rmtree(tmp_path / str(kill_at))
