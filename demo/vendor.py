"""The demo's vault vendor: vaults and trucks, a program that knows nothing of the catalog.

It reads pick lists and packing lists, moves ``.tap`` files between the dock and its vaults'
folders as a truck would, and answers by acknowledgements, receipts and delivery notes. What it
decides on a document it first writes down under ``<courier>/vendor/``, so that after a crash at
any instant it goes on and ends the same, and the same document again gets the same answer.

``omit.json`` in the courier's folder, {"barcodes": [...], "at": "acknowledgement" | "shipment"},
names volumes to leave out of the first shipment that asks for them: by not acknowledging them, or
by putting them on the delivery note but not on the truck.
"""

import argparse
import json
import signal
import sys
import threading
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from restore_lib.config import Config, load_config
from restore_lib.errors import TapeflowError
from restore_lib.vault.courier import DirectoryCourier, sync_folder, write_atomically
from restore_lib.vault.documents import (
    Acknowledgement,
    DeliveryNote,
    PackingList,
    PickList,
    PickupReceipt,
    VaultReceipt,
)

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Omissions:
    """Volumes to leave out once, and at which hop."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    barcodes: tuple[str, ...] = ()
    at: Literal["acknowledgement", "shipment"] = "acknowledgement"


@dataclass(frozen=True)
class Decision:
    """What was decided on one document, written down before anything is done about it.

    ``promised`` is what the papers say, ``loaded`` what goes on the truck, ``left_out`` what was
    omitted on purpose. ``moved`` is set once the truck has arrived.
    """

    promised: tuple[str, ...]
    loaded: tuple[str, ...]
    left_out: tuple[str, ...]
    decided_at: datetime
    moved: bool = False


_DECISION = TypeAdapter(Decision)


class Vendor:
    """One vendor: the documents of one courier, and the vaults that it serves."""

    def __init__(self, courier: DirectoryCourier, tapes: Path, delay: float = 0.0) -> None:
        """Serve ``courier``; ``tapes`` holds ``dock`` and the vaults; ``delay`` is in seconds."""
        self.courier = courier
        self.tapes = tapes
        self.delay = delay
        self._notes = courier.path / "vendor"
        self._notes.mkdir(exist_ok=True)

    def work(self) -> int:
        """Do what can be done now; return how many documents still wait for their truck."""
        waiting = 0
        for name, document in self.courier.receive():
            match document:
                case PickList():
                    finished = self._send_back(name, document)
                case PackingList():
                    finished = self._fetch(name, document)
                case _:
                    self.courier.reject(name, f"not for a vault: {document}")
                    continue
            if finished:
                self.courier.done(name)
            else:
                waiting += 1
        return waiting

    def _send_back(self, name: str, asked: PickList) -> bool:
        vault = self._vault(asked.vault)
        decision = self._decided(name) or self._decide_pick(name, asked, vault)
        self.courier.send(_answer(Acknowledgement, asked, decision.promised))
        if not decision.promised:
            return True
        if not self._arrived(name, decision, vault, self.tapes / "dock"):
            return False
        self.courier.send(_answer(DeliveryNote, asked, decision.promised))
        return True

    def _fetch(self, name: str, packed: PackingList) -> bool:
        dock = self.tapes / "dock"
        decision = self._decided(name)
        if decision is None:
            found = tuple(b for b in packed.volumes if _image(dock, b).exists())
            decision = self._write(name, Decision(found, found, (), datetime.now(UTC)))
        seal = {"seal": packed.seal}
        self.courier.send(_answer(PickupReceipt, packed, decision.loaded, **seal))
        if not self._arrived(name, decision, dock, self._vault(packed.vault)):
            return False
        self.courier.send(_answer(VaultReceipt, packed, decision.loaded, **seal))
        return True

    def _decide_pick(self, name: str, asked: PickList, vault: Path) -> Decision:
        omissions = self._omissions()
        places = (vault, self.tapes / "dock")
        held = [b for b in asked.volumes if any(_image(p, b).exists() for p in places)]
        left_out = set(held) & set(omissions.barcodes) - self._left_out_before()
        loaded = tuple(b for b in held if b not in left_out)
        promised = tuple(held) if omissions.at == "shipment" else loaded
        return self._write(
            name, Decision(promised, loaded, tuple(sorted(left_out)), datetime.now(UTC))
        )

    def _arrived(self, name: str, decision: Decision, source: Path, target: Path) -> bool:
        """Let the truck drive when it is time; return whether it has arrived."""
        if decision.moved:
            return True
        if (datetime.now(UTC) - decision.decided_at).total_seconds() < self.delay:
            return False
        for barcode in decision.loaded:
            for suffix in (".faults.json", ".tap"):
                path = source / f"{barcode}{suffix}"
                if path.exists():
                    path.rename(target / path.name)
        sync_folder(target)
        sync_folder(source)
        self._write(name, replace(decision, moved=True))
        return True

    def _vault(self, name: str) -> Path:
        folder = self.tapes / f"vault-{name}"
        folder.mkdir(exist_ok=True)
        return folder

    def _omissions(self) -> Omissions:
        path = self.courier.path / "omit.json"
        try:
            return TypeAdapter(Omissions).validate_json(path.read_bytes())
        except FileNotFoundError:
            return Omissions()
        except ValidationError as error:
            sys.exit(f"{path}: {error.errors()[0]['msg']}")

    def _left_out_before(self) -> set[str]:
        return {b for path in self._notes.glob("*.json") for b in _read(path).left_out}

    def _decided(self, name: str) -> Decision | None:
        path = self._notes / name
        return _read(path) if path.exists() else None

    def _write(self, name: str, decision: Decision) -> Decision:
        text = json.dumps(asdict(decision) | {"decided_at": decision.decided_at.isoformat()})
        write_atomically(self._notes / name, text.encode())
        return decision


def open_vendors(config: Config, delay: float = 0.0) -> list[Vendor]:
    """Return a vendor for each courier of the config."""
    return [
        Vendor(DirectoryCourier(name, courier.path, vendor=True), config.library.path, delay)
        for name, courier in config.couriers.items()
    ]


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C; with ``--once``, until nothing waits any more."""
    parser = argparse.ArgumentParser(prog="python -m demo.vendor", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the cluster's tapeflow.toml")
    parser.add_argument("--once", action="store_true", help="end when nothing waits any more")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that a truck takes")
    options = parser.parse_args(arguments)
    try:
        vendors = open_vendors(load_config(options.config), options.delay)
    except TapeflowError as error:
        sys.exit(str(error))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    while not stop.is_set():
        try:
            waiting = sum(vendor.work() for vendor in vendors)
        except TapeflowError as error:
            print(error, file=sys.stderr, flush=True)
            waiting = 1
        if options.once and not waiting:
            break
        stop.wait(POLL_SECONDS)
    return 0


def _answer(
    kind: Any, asked: PickList | PackingList, barcodes: tuple[str, ...], **more: str
) -> Any:
    return kind(
        cluster=asked.cluster,
        shipment=asked.shipment,
        vault=asked.vault,
        issued_at=datetime.now(UTC),
        volumes=barcodes,
        **more,
    )


def _image(folder: Path, barcode: str) -> Path:
    return folder / f"{barcode}.tap"


def _read(path: Path) -> Decision:
    return _DECISION.validate_json(path.read_bytes())


if __name__ == "__main__":
    sys.exit(main())
