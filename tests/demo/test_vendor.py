"""The vault vendor as a program: killed at any instant, it ends the same."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from demo import vendor
from restore_lib.library.faults import Faults, read_faults, write_faults
from restore_lib.model.volume import Custody, Reason
from restore_lib.vault.documents import DeliveryNote, PickList, parse
from restore_lib.vault.outbound import plan_vault_out, send_out
from restore_lib.vault.recalls import recall
from restore_lib.vault.receiving import receive, waiting
from tests.support.vaults import VaultWorld, vault_world

__all__ = ["vault_world"]

ROOT = Path(__file__).parents[2]


def start(world: VaultWorld, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "demo.vendor", "--config", str(world.config_path), *options]
    return subprocess.Popen(command, cwd=ROOT)


def run_once(world: VaultWorld) -> None:
    assert start(world, "--once").wait(timeout=60) == 0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.01)


def answers(world: VaultWorld) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for path in (world.courier / "inbox").iterdir():
        document = parse(path.name, path.read_bytes())
        found[document.kind] = document.volumes
    return found


def ask(world: VaultWorld, *barcodes: str, shipment: int = 900) -> PickList:
    """Put a pick list for the vault ``north`` into the outbox, past the catalog."""
    document = PickList(
        cluster="test",
        shipment=shipment,
        vault="north",
        issued_at=world.clock.now(),
        reason=Reason.DRILL,
        round=0,
        due_at=world.clock.now(),
        volumes=barcodes,
    )
    (world.courier / "outbox" / document.name).write_bytes(document.json())
    return document


@pytest.fixture
def north(vault_world: VaultWorld) -> Path:
    """A vault that holds N1 and N2, the second of them with a fault."""
    folder = vault_world.tapes / "vault-north"
    folder.mkdir()
    for barcode in ("N1", "N2"):
        (folder / f"{barcode}.tap").touch()
    write_faults(folder / "N2.tap", Faults(unreadable=True))
    return folder


def test_what_is_asked_for_comes_to_the_dock_with_its_faults(
    vault_world: VaultWorld, north: Path
) -> None:
    ask(vault_world, "N1", "N2", "N404")
    vault_world.vendor_works()
    assert answers(vault_world) == {"acknowledgement": ("N1", "N2"), "delivery_note": ("N1", "N2")}
    assert vault_world.site.library.dock() == {"N1", "N2"}
    assert read_faults(vault_world.tapes / "dock/N2.tap").unreadable
    assert list(north.iterdir()) == []


@pytest.mark.parametrize(
    ("at", "promised"), [("acknowledgement", ("N1",)), ("shipment", ("N1", "N2"))]
)
def test_a_volume_is_left_out_of_the_first_shipment_only(
    vault_world: VaultWorld, north: Path, at: str, promised: tuple[str, ...]
) -> None:
    vault_world.omit(["N2"], at)
    ask(vault_world, "N1", "N2")
    vault_world.vendor_works()
    assert answers(vault_world) == {"acknowledgement": promised, "delivery_note": promised}
    assert vault_world.site.library.dock() == {"N1"}
    vault_world.restart()
    ask(vault_world, "N2", shipment=901)
    vault_world.vendor_works()
    assert vault_world.site.library.dock() == {"N1", "N2"}


def test_the_same_pick_list_again_gets_the_same_answer_and_moves_nothing(
    vault_world: VaultWorld, north: Path
) -> None:
    ask(vault_world, "N1")
    vault_world.vendor_works()
    before = answers(vault_world)
    for path in (vault_world.courier / "inbox").iterdir():
        path.unlink()
    (vault_world.tapes / "dock/N1.tap").rename(north / "N1.tap")
    ask(vault_world, "N1")
    vault_world.vendor_works()
    assert answers(vault_world) == before
    assert (north / "N1.tap").exists()


def test_the_truck_takes_its_time(vault_world: VaultWorld, north: Path) -> None:
    vault_world.vendors[0].delay = 3600
    ask(vault_world, "N1")
    vault_world.vendor_works()
    assert answers(vault_world) == {"acknowledgement": ("N1",)}
    assert (north / "N1.tap").exists()
    vault_world.vendors[0].delay = 0
    vault_world.vendor_works()
    assert answers(vault_world)["delivery_note"] == ("N1",)


def test_a_paper_for_the_other_side_is_set_aside(vault_world: VaultWorld) -> None:
    note = DeliveryNote(
        cluster="test", shipment=1, vault="north", issued_at=vault_world.clock.now(), volumes=()
    )
    (vault_world.courier / "outbox" / note.name).write_bytes(note.json())
    (vault_world.courier / "outbox/zzz.json").write_bytes(b"{")
    vault_world.vendor_works()
    rejected = {path.name for path in (vault_world.courier / "rejected").iterdir()}
    assert {note.name, "zzz.json"} < rejected
    assert answers(vault_world) == {}


def test_a_file_of_omissions_that_cant_be_read_ends_the_program(
    vault_world: VaultWorld, north: Path
) -> None:
    (vault_world.courier / "omit.json").write_text(json.dumps({"volumes": []}), encoding="utf-8")
    ask(vault_world, "N1")
    with pytest.raises(SystemExit, match=r"omit\.json"):
        vault_world.vendor_works()


def test_a_config_that_cant_be_read_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="no config file"):
        vendor.main(["--config", str(tmp_path / "none.toml"), "--once"])


def test_the_program_works_until_nothing_waits(vault_world: VaultWorld, north: Path) -> None:
    ask(vault_world, "N1")
    run_once(vault_world)
    assert answers(vault_world)["delivery_note"] == ("N1",)


def test_the_program_serves_until_it_is_told_to_stop(vault_world: VaultWorld, north: Path) -> None:
    process = start(vault_world)
    try:
        ask(vault_world, "N1")
        until(lambda: "delivery_note" in answers(vault_world))
        ask(vault_world, "N2", shipment=901)
        until(lambda: vault_world.site.library.dock() == {"N1", "N2"})
    finally:
        process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0


def test_killed_at_any_instant_it_ends_the_same(vault_world: VaultWorld) -> None:
    """A set goes out and comes back, a volume left out at first, while the vendor is killed."""
    members = vault_world.add_set("a")
    vault_world.omit(members[:1], "shipment")
    chance = random.Random(2012)

    def survive(done: Callable[[], bool]) -> None:
        killed = 0
        while not done():
            process = start(vault_world, "--delay", "0.05")
            if killed < 4:
                time.sleep(chance.uniform(0.3, 1.0))
                killed += 1
            else:
                until(lambda: waiting(vault_world.site) or done())
            process.kill()
            process.wait()
            receive(vault_world.site, "ann")

    def all_are(custody: Custody) -> bool:
        return {v.custody for v in vault_world.volumes().values()} == {custody}

    send_out(vault_world.site, plan_vault_out(vault_world.site), "ann")
    survive(lambda: all_are(Custody.VAULT))
    recall(vault_world.site, members, reason=Reason.RESTORE, actor="ann")
    survive(lambda: all_are(Custody.MOUNTABLE))
    vault_world.check_books()
    inbound = [s for s in vault_world.shipments() if s["way"] == "in"]
    assert len(inbound) == 4
    assert [s["lines"] for s in inbound if s["round"] == 1] == [{members[0]: ("loaded", "")}]
