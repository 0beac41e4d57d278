"""The demonstration's cluster: config, keys, catalog and library, made to the size of the data."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from restore_lib.backup.pack import weight
from restore_lib.catalog import volumes
from restore_lib.catalog.engine import Catalog
from restore_lib.config import load_config
from restore_lib.library.virtual import VirtualLibrary
from restore_lib.model.clock import SystemClock
from restore_lib.tape.age import new_identity

DRIVES = 2
K, M = 4, 2
TRUCK_SECONDS = 3.0
_SETS = 3.6
_STRIPES = 3
_LARGE_BLOCK, _SMALL_BLOCK = 256 << 10, 16 << 10

CONFIG = """\
# The demonstration's cluster. `tapeflow --config THIS_FILE` works on it too.
[cluster]
id = "demo"

[keys]
recipients = ["{operating}", "{escrow}"]
identity_file = "keys/operating.txt"

[stores.live]
kind = "local"
path = "live"

[policies.live]
store = "live"
k = {k}
m = {m}
block_size = {block}
segment_size = {segment}

[library]
path = "tapes"
slots = {slots}
drives = {drives}
import_export = 10
capacity = {capacity}
lease = "20s"

[couriers.van]
kind = "directory"
path = "van"

[vaults.north]
courier = "van"
transit = "30s"

[vaults.east]
courier = "van"
transit = "30s"

[vaults.south]
courier = "van"
transit = "30s"

[restore]
batch_objects = {batch}
reports = "reports"
"""


@dataclass(frozen=True)
class Place:
    """The folders and files of one demonstration."""

    root: Path

    @property
    def config(self) -> Path:
        """The cluster's tapeflow.toml."""
        return self.root / "tapeflow.toml"

    @property
    def live(self) -> Path:
        """The live store."""
        return self.root / "live"

    @property
    def tapes(self) -> Path:
        """The folder with every .tap file: library, dock and vaults."""
        return self.root / "tapes"

    @property
    def keys(self) -> Path:
        """The folder with the operating and the escrow key."""
        return self.root / "keys"

    @property
    def van(self) -> Path:
        """The folder through which vendor and cluster exchange documents."""
        return self.root / "van"

    @property
    def vendor(self) -> tuple[str, ...]:
        """The command that runs the vault vendor, a program that knows only its documents."""
        arguments = ("--config", str(self.config), "--delay", str(TRUCK_SECONDS))
        return (sys.executable, "-m", "demo.vendor", *arguments)

    @property
    def airflow(self) -> Path:
        """AIRFLOW_HOME."""
        return self.root / "airflow"


def clear(place: Place) -> None:
    """Remove what a former demonstration left, and make the empty folders."""
    if place.root.exists():
        shutil.rmtree(place.root)
    for folder in (place.root, place.live, place.keys, place.van):
        folder.mkdir(parents=True)


def furnish(place: Place, objects: int, size: int) -> int:
    """Make keys, config, catalog and library for this much data; return the blank volumes."""
    recipients = {}
    for name in ("operating", "escrow"):
        text, recipients[name] = new_identity()
        path = place.keys / f"{name}.txt"
        path.touch(mode=0o600)
        path.write_text(text)
    numbers = _sizes(objects, size)
    place.config.write_text(CONFIG.format(k=K, m=M, drives=DRIVES, **recipients, **numbers))
    config = load_config(place.config)
    catalog = Catalog(config.catalog.url)
    catalog.migrate()
    section = config.library
    library = VirtualLibrary.create(
        section.path,
        slots=section.slots,
        drives=section.drives,
        import_export=section.import_export,
        capacity_bytes=section.capacity,
    )
    barcodes = [f"TF{number:04d}L9" for number in range(1, section.slots - section.drives)]
    library.add_blank(barcodes)
    with catalog.write() as connection:
        volumes.add_blank(connection, barcodes, actor="demo", at=SystemClock().now())
    catalog.close()
    return len(barcodes)


def _sizes(objects: int, size: int) -> dict[str, int]:
    """Return sizes (bytes) and counts by which the data fill at least four tape sets."""
    load = max(weight(objects, size), 1)
    block = _LARGE_BLOCK if load > 256 * _LARGE_BLOCK else _SMALL_BLOCK
    per_segment = int(load / _SETS / (_STRIPES * K) * 32 / 31)
    segment = max(-(-per_segment // block) * block, 4 * block)
    usable = _STRIPES * segment + segment // 2
    capacity = (usable + 6 * block) * 100 // 99 + block
    sets = 3 * (int(load / (_STRIPES * K * segment)) + 3)
    return {
        "block": block,
        "segment": segment,
        "capacity": capacity,
        "slots": sets * (K + M) + DRIVES + 4,
        "batch": max(50, min(400, objects // 50)),
    }
