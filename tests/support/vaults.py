"""A small cluster with a real virtual library, vaults and their vendor, for tests."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from demo.vendor import Vendor, open_vendors
from restore_lib.catalog import shipments, tables, volumes
from restore_lib.config import load_config
from restore_lib.library.base import ElementKind
from restore_lib.library.virtual import VirtualLibrary
from restore_lib.model.states import SetState
from restore_lib.model.volume import Custody, Volume, fold, vault_of
from restore_lib.site import Site
from restore_lib.vault.desk import ReceiveResult
from restore_lib.vault.outbound import plan_vault_out, send_out
from restore_lib.vault.receiving import receive
from tests.support.clock import ManualClock

_CONFIG = """
[cluster]
id = "test"
[catalog]
url = "{url}"
[keys]
recipients = ["age1unused"]
[stores.live]
kind = "local"
path = "live"
[library]
path = "tapes"
slots = {slots}
drives = 1
import_export = 2
[couriers.vendor]
path = "courier"
[restore]
rounds = {rounds}
"""


class VaultWorld:
    """Everything between the library and the vaults; ``site`` is opened anew by ``restart``."""

    def __init__(
        self, root: Path, url: str, vaults: dict[str, int], rounds: int = 4, slots: int = 40
    ) -> None:
        self.root = root
        self.config_path = root / "tapeflow.toml"
        sections = [
            f'[vaults.{name}]\ncourier = "vendor"\nbox_size = {size}\ntransit = "8h"\n'
            for name, size in vaults.items()
        ]
        text = _CONFIG.format(url=url, rounds=rounds, slots=slots) + "".join(sections)
        self.config_path.write_text(text, encoding="utf-8")
        self.clock = ManualClock()
        VirtualLibrary.create(
            root / "tapes", slots=slots, drives=1, import_export=2, capacity_bytes=18 * 10**12
        )
        self.restart()

    def restart(self) -> None:
        """Open all anew, as new processes do."""
        self.close()
        self.site = Site(load_config(self.config_path), self.clock)
        self.vendors: list[Vendor] = open_vendors(self.site.config)

    def close(self) -> None:
        if "site" in self.__dict__:
            self.site.close()

    @property
    def courier(self) -> Path:
        return self.root / "courier"

    @property
    def tapes(self) -> Path:
        return self.root / "tapes"

    def add_set(self, set_id: str, k: int = 4, m: int = 2) -> list[str]:
        """Put a closed set of blank volumes into the library and the catalog."""
        members = [f"{set_id.upper()}{n:03}" for n in range(k + m)]
        self.site.virtual_library().add_blank(members)
        with self.site.catalog.write() as connection:
            volumes.add_blank(connection, members, actor="test", at=self.clock.now())
            row = {
                "id": set_id,
                "policy": "photos",
                "k": k,
                "m": m,
                "block_size": 512,
                "recipients": [],
                "state": SetState.CLOSED,
                "stripes": 0,
                "created_at": self.clock.now(),
            }
            connection.execute(insert(tables.tape_sets).values(row))
            belong = update(tables.volumes).where(tables.volumes.c.barcode.in_(members))
            connection.execute(belong.values(tape_set=set_id))
        return members

    def vault_all(self) -> None:
        """Send everything out, and let it arrive."""
        send_out(self.site, plan_vault_out(self.site), "test")
        self.settle()

    def omit(self, barcodes: list[str], at: str) -> None:
        text = json.dumps({"barcodes": barcodes, "at": at})
        (self.courier / "omit.json").write_text(text, encoding="utf-8")

    def vendor_works(self) -> None:
        for vendor in self.vendors:
            vendor.work()

    def settle(self) -> ReceiveResult:
        """Let the vendor and the desk answer each other until nothing waits."""
        total = ReceiveResult()
        for _ in range(20):
            self.vendor_works()
            if not any((self.courier / "inbox").glob("*.json")):
                return total
            total += receive(self.site, "test")
        pytest.fail("the vendor and the desk never come to an end")

    def volumes(self) -> dict[str, Volume]:
        with self.site.catalog.read() as connection:
            return {v.barcode: v for v in volumes.volumes(connection)}

    def shipments(self) -> list[dict[str, Any]]:
        """Return all shipments with the states and notes of their lines."""
        with self.site.catalog.read() as connection:
            return [
                {
                    "id": s.id,
                    "state": str(s.state),
                    "vault": s.vault,
                    "way": str(s.direction),
                    "follows": s.follows,
                    "round": s.round,
                    "lines": {
                        line.barcode: (str(line.state), line.note)
                        for line in shipments.lines_of(connection, s.id)
                    },
                }
                for s in shipments.find(connection)
            ]

    def lie(self, barcode: str) -> str:
        """Return where a volume's image really is: library, dock or vault:<name>."""
        inside = {e.barcode for e in self.site.library.inventory() if e.kind is ElementKind.STORAGE}
        places = ["library"] if barcode in inside else []
        found = self.tapes.glob(f"*/{barcode}.tap")
        places += [image.parent.name.replace("vault-", "vault:") for image in found]
        assert len(places) == 1, f"{barcode} is at {places}"
        return places[0]

    def check_books(self) -> None:
        """The catalog's volumes are the fold of their events, and lie where it says."""
        for barcode, volume in self.volumes().items():
            with self.site.catalog.read() as connection:
                folded = fold(volumes.history(connection, barcode))
            assert folded.place == volume.place
            assert (folded.custody, folded.health) == (volume.custody, volume.health)
            assert folded.flags == volume.flags
            if volume.custody is Custody.MOUNTABLE or vault_of(volume.place):
                assert self.lie(barcode) == volume.place


@pytest.fixture
def vault_world(sqlite_url: str, tmp_path: Path) -> Iterator[VaultWorld]:
    """A cluster with three vaults, boxes of 4, and an empty library of 40 slots."""
    world = VaultWorld(tmp_path, sqlite_url, {"north": 4, "south": 4, "west": 4})
    yield world
    world.close()
