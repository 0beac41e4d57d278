"""The place of the 2012 replay: a store backed up, vaulted and lost, to scale with its tape sets.

Made by the flows themselves: objects are written into a folder, backed up to sets of 9+2 virtual
volumes, sent to three vaults, and deleted. Each step is looked up in the cluster and skipped where
it is done, so that a build that was killed goes on.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from benchmarks.forecast_2012 import FACTS, VAULTS, K, M
from demo.vendor import open_vendors
from restore_lib.backup.run import begin_backup, commit_backup, job_ids, run_job
from restore_lib.catalog import volumes
from restore_lib.catalog.engine import Catalog
from restore_lib.catalog.recovery_points import newest_committed
from restore_lib.config import load_config
from restore_lib.library.virtual import VirtualLibrary
from restore_lib.model.clock import SystemClock
from restore_lib.model.volume import vault_of
from restore_lib.site import Site
from restore_lib.stores.paths import TEMP_DIR
from restore_lib.tape.age import new_identity
from restore_lib.vault.outbound import plan_vault_out, send_out
from restore_lib.vault.receiving import receive

FULL = FACTS["tapes_recalled"] // K
DRIVES = 16
STORE = POLICY = "music"
ACTOR = "replay"
_BUILDERS = 2
_SMALLEST, _SPREAD = 432, 202
_SEGMENT = 192 << 10
_CONFIG = """\
[cluster]
id = "replay-2012"
[keys]
recipients = ["{recipient}"]
identity_file = "operating.txt"
[stores.{store}]
kind = "local"
path = "store"
[policies.{store}]
store = "{store}"
k = {k}
m = {m}
block_size = "16KiB"
segment_size = {segment}
[library]
path = "tapes"
slots = {slots}
drives = {drives}
import_export = 40
capacity = {capacity}
lease = "20s"
[couriers.van]
path = "van"
{vaults}
[restore]
reports = "reports"
"""
_VAULT = """\
[vaults.{name}]
courier = "van"
transit = "2min"
"""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much there is: all counts of 2012, times ``sets`` in 593."""

    sets: int

    @property
    def objects(self) -> int:
        """Objects that have a backup; a set holds up to 736 of them."""
        return FACTS["objects_on_tape"] * self.sets // FULL

    @property
    def never(self) -> int:
        """Objects that were lost before any backup held them."""
        return round(FACTS["objects_lost_before_backup"] * self.sets / FULL)

    @property
    def data_volumes(self) -> int:
        """Volumes that hold objects."""
        return self.sets * K

    @property
    def omitted(self) -> int:
        """Data volumes that the vendor leaves out of the first shipment."""
        return round(FACTS["tapes_omitted_from_first_shipment"] * self.sets / FULL)

    @property
    def bad(self) -> int:
        """Data volumes that can't be read."""
        return max(1, round(FACTS["bad_tapes"] * self.sets / FULL))


def key_of(number: int) -> bytes:
    """Return the name of an object, in the folder of one of 21,000 users."""
    return b"%05d/%06d" % (_user(number), number)


def body_of(number: int) -> bytes:
    """Return the content of an object: 432 to 633 bytes that follow from its number.

    Sizes of neighbours in name differ evenly, so that each set holds about as many objects, and
    each volume of it.
    """
    size = _SMALLEST + (number * 2_654_435_761 % (1 << 32) >> 12) % _SPREAD
    return hashlib.shake_128(b"%d" % number).digest(size)


def never_key(number: int) -> bytes:
    """Return the name of an object that was never backed up."""
    share = number * FACTS["objects_on_tape"] // FACTS["objects_lost_before_backup"]
    return b"%05d/upload-%06d" % (_user(share), number)


def _user(number: int) -> int:
    return number * FACTS["users_affected"] // FACTS["objects_on_tape"]


class Place:
    """The cluster in ``root``, whole once ``is_ready``."""

    def __init__(self, root: Path, scale: Scale) -> None:
        self.root = root
        self.scale = scale
        self.config = root / "tapeflow.toml"
        self.store = root / "store"
        self.tapes = root / "tapes"
        self.reference = root / "reference.csv"
        self._ready = root / "ready"

    @property
    def is_ready(self) -> bool:
        """Whether all is backed up, vaulted and lost."""
        return self._ready.exists()

    def build(self) -> dict[str, float]:
        """Do what is left to do of the building; return the seconds of each step."""
        seconds: dict[str, float] = {}
        steps = (self._furnish, self._fill, self._back_up, self._vault, self._lose)
        for step in steps:
            begun = time.monotonic()
            step()
            seconds[step.__name__.lstrip("_")] = round(time.monotonic() - begun, 1)
        return seconds

    def copy(self, root: Path) -> "Place":
        """Return a place like this one in ``root``, to be restored; tapes are shared by links."""
        beside = root.with_name(f".{root.name}")
        shutil.rmtree(beside, ignore_errors=True)
        shutil.copytree(self.root, beside, copy_function=_link_tape)
        shutil.rmtree(root, ignore_errors=True)
        beside.rename(root)
        return Place(root, self.scale)

    def site(self) -> Site:
        """Open the cluster."""
        return Site(load_config(self.config))

    def data_volumes(self) -> list[str]:
        """Return the volumes that hold objects, set by set."""
        with closing(self.site()) as site, site.catalog.read() as connection:
            found = [v for v in volumes.volumes(connection) if v.tape_set is not None]
        data = [v for v in found if v.position is not None and v.position < K]
        return [v.barcode for v in sorted(data, key=lambda v: (v.tape_set, v.position))]

    def _furnish(self) -> None:
        if self.config.exists():
            return
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True)
        text, recipient = new_identity()
        identity = self.root / "operating.txt"
        identity.touch(mode=0o600)
        identity.write_text(text)
        blanks = self.scale.sets * (K + M)
        config = _CONFIG.format(
            recipient=recipient,
            store=STORE,
            k=K,
            m=M,
            segment=_SEGMENT,
            slots=blanks + DRIVES,
            drives=DRIVES,
            capacity=_SEGMENT * 2,
            vaults="".join(_VAULT.format(name=name) for name in VAULTS),
        )
        fresh = self.config.with_suffix(".new")
        fresh.write_text(config)
        section = load_config(fresh).library
        library = VirtualLibrary.create(
            section.path,
            slots=section.slots,
            drives=section.drives,
            import_export=section.import_export,
            capacity_bytes=section.capacity,
        )
        barcodes = [f"GM{number:04}L9" for number in range(1, blanks + 1)]
        library.add_blank(barcodes)
        catalog = Catalog(load_config(fresh).catalog.url)
        catalog.migrate()
        with catalog.write() as connection:
            volumes.add_blank(connection, barcodes, actor=ACTOR, at=SystemClock().now())
        catalog.close()
        fresh.replace(self.config)

    def _fill(self) -> None:
        """Write all objects, and the list of what should exist, which has more."""
        if self.reference.exists():
            return
        shutil.rmtree(self.store, ignore_errors=True)
        fresh = self.reference.with_suffix(".new")
        with fresh.open("w", encoding="ascii") as listed:
            listed.write("key,size,sha256\n")
            for number in range(self.scale.objects):
                name, body = key_of(number), body_of(number)
                path = self.store / name.decode()
                if number == 0 or _user(number) != _user(number - 1):
                    path.parent.mkdir(parents=True)
                path.write_bytes(body)
                listed.write(_line(name, body))
            for number in range(self.scale.never):
                listed.write(_line(never_key(number), body_of(-1 - number)))
        fresh.replace(self.reference)

    def _back_up(self) -> None:
        with closing(self.site()) as site:
            if self._is_committed(site):
                return
            point = begin_backup(site, POLICY, ACTOR)
            jobs = job_ids(site, point.id)
            if len(jobs) != self.scale.sets:
                msg = f"{len(jobs)} tape sets where {self.scale.sets} were meant"
                raise AssertionError(msg)
            with ProcessPoolExecutor(_BUILDERS, get_context("spawn")) as builders:
                work = [builders.submit(_run_job, self.config, job) for job in jobs]
                for done in as_completed(work):
                    done.result()
            commit_backup(site, point.id, ACTOR)

    def _is_committed(self, site: Site) -> bool:
        with site.catalog.read() as connection:
            return newest_committed(connection, STORE) is not None

    def _vault(self) -> None:
        with closing(self.site()) as site:
            vendors = open_vendors(site.config)
            while self._volumes_here(site):
                send_out(site, plan_vault_out(site), ACTOR)
                for vendor in vendors:
                    vendor.work()
                receive(site, ACTOR)

    def _volumes_here(self, site: Site) -> bool:
        with site.catalog.read() as connection:
            return any(vault_of(v.place) is None for v in volumes.volumes(connection))

    def _lose(self) -> None:
        if self.store.exists():
            shutil.rmtree(self.store)
        self.store.mkdir()
        self._ready.touch()


def names_in(folder: Path) -> Iterator[bytes]:
    """Yield the names of all files below ``folder``, as the store has them.

    What a killed process had not finished has no name yet.
    """
    for parent, folders, files in os.walk(os.fsencode(folder)):
        folders[:] = [name for name in folders if name != TEMP_DIR]
        prefix = os.path.relpath(parent, os.fsencode(folder))
        yield from (os.path.join(prefix, name) for name in files)  # noqa: PTH118 - names are bytes


def _line(name: bytes, body: bytes) -> str:
    return f"{name.decode()},{len(body)},{hashlib.sha256(body).hexdigest()}\n"


def _run_job(config: Path, job: int) -> None:
    with closing(Site(load_config(config))) as site:
        run_job(site, job, ACTOR, drives=DRIVES // _BUILDERS)


def _link_tape(source: str, target: str) -> None:
    if source.endswith(".tap"):
        os.link(source, target)
    else:
        shutil.copy2(source, target)
