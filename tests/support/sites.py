"""A small real cluster in a folder: stores, keys, catalog, virtual library, a vendor's folder."""

import atexit
import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from restore_lib.backup.run import begin_backup, commit_backup, job_ids, run_job
from restore_lib.catalog.engine import Catalog
from restore_lib.catalog.recovery_points import RecoveryPoint
from restore_lib.catalog.volumes import add_blank
from restore_lib.config import load_config
from restore_lib.errors import GoElsewhere
from restore_lib.library.virtual import VirtualLibrary
from restore_lib.model.clock import Clock
from restore_lib.restore import flow
from restore_lib.restore.batch import run_batch
from restore_lib.restore.claiming import claim, settle
from restore_lib.restore.request import RestoreSpec, plan_restore, start_restore
from restore_lib.site import Site
from restore_lib.tape.age import new_identity

ACTOR = "test"
_CONFIG = """
[cluster]
id = "test"
[catalog]
url = "{url}"
[staging]
path = "staging"
reserve = "1MB"
[keys]
recipients = ["{recipient}"]
identity_file = "operating.txt"
[stores.live]
kind = "local"
path = "live"
[stores.out]
kind = "local"
path = "out"
[policies.live]
store = "live"
{policy}
[library]
path = "tapes"
slots = {slots}
drives = {drives}
import_export = 4
capacity = "{capacity}"
lease = "60s"
[couriers.van]
path = "van"
[vaults.north]
courier = "van"
transit = "1s"
"""


def make_site(
    root: Path,
    *,
    policy: str = 'k = 2\nm = 1\nblock_size = "4KiB"\nsegment_size = "256KiB"',
    extra: str = "",
    blank: int = 12,
    drives: int = 2,
    capacity: str = "4MB",
    clock: Clock | None = None,
    url: str | None = None,
) -> Site:
    """Make ``root``/tapeflow.toml with all that it names, and open it.

    ``policy`` has the further keys of the policy ``live``, ``extra`` more sections. The volumes
    TF0000L9, TF0001L9, … are blank in the library and in the catalog, a migrated SQLite file
    unless ``url`` names an empty catalog.
    """
    root.mkdir(parents=True, exist_ok=True)
    if url is None:
        shutil.copy(_migrated(), root / "catalog.db")
    identity, recipient = new_identity()
    (root / "operating.txt").write_text(identity)
    for folder in ("live", "out", "van"):
        (root / folder).mkdir(exist_ok=True)
    text = _CONFIG.format(
        url=url or "sqlite:///catalog.db",
        recipient=recipient,
        policy=policy,
        slots=blank + 4,
        drives=drives,
        capacity=capacity,
    )
    (root / "tapeflow.toml").write_text(text + extra)
    site = open_site(root, clock)
    section = site.config.library
    VirtualLibrary.create(
        section.path,
        slots=section.slots,
        drives=section.drives,
        import_export=section.import_export,
        capacity_bytes=section.capacity,
    )
    if blank:
        add_volumes(site, [f"TF{number:04}L9" for number in range(blank)])
    return site


def open_site(root: Path, clock: Clock | None = None) -> Site:
    """Open what ``make_site`` made, as a new process does."""
    return Site(load_config(root / "tapeflow.toml"), clock)


def add_volumes(site: Site, barcodes: list[str]) -> None:
    """Put blank volumes into the library and the catalog."""
    site.virtual_library().add_blank(barcodes)
    with site.catalog.write() as connection:
        add_blank(connection, barcodes, actor=ACTOR, at=site.clock.now())


def write_files(folder: Path, contents: Mapping[bytes, bytes]) -> None:
    """Write objects of a local store as plain files."""
    for key, data in contents.items():
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + key))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def digests(folder: Path) -> dict[bytes, str]:
    """Return the SHA-256 (hex) of each file below ``folder`` by its key."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and ".tapeflow-tmp" not in path.parts:
            key = os.fsencode(path.relative_to(folder))
            found[key] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def image(site: Site, barcode: str) -> Path:
    """Return where the tape image of a volume is now."""
    [found] = site.config.library.path.rglob(f"{barcode}.tap")
    return found


def begin(site: Site) -> RecoveryPoint:
    """Begin a backup of the store ``live``, or go on with the one that is open."""
    return begin_backup(site, "live", ACTOR)


def back_up(site: Site) -> RecoveryPoint:
    """Back up the store ``live``, whole; go on with a backup that is open."""
    point = begin(site)
    for job_id in job_ids(site, point.id):
        run_job(site, job_id, ACTOR)
    return commit_backup(site, point.id, ACTOR)


def restore(site: Site, spec: RestoreSpec, rounds: int = 20) -> int:
    """Plan a restore and run it to its end; return the id of its request."""
    plan = plan_restore(site, spec, ACTOR)
    assert plan.request_id is not None
    start_restore(site, plan.request_id, ACTOR)
    finish(site, plan.request_id, rounds)
    return plan.request_id


def finish(site: Site, request_id: int, rounds: int = 20) -> None:
    """Run all active restores until ``request_id`` has ended."""
    for _ in range(rounds):
        flow.advance(site, ACTOR)
        if flow.is_ended(site, request_id):
            return
        run_wave(site)
    raise AssertionError(f"restore request {request_id} does not end")


def run_wave(site: Site) -> list[str]:
    """Run the next wave, if there is one; return what sent its batches elsewhere."""
    problems: list[str] = []
    for batch_id in claim(site, "runner"):
        try:
            run_batch(site, batch_id, ACTOR)
        except GoElsewhere as error:
            problems.append(error.message)
    settle(site, "runner")
    return problems


@functools.cache
def _migrated() -> Path:
    """Return an empty catalog to copy, made once a process."""
    folder = Path(tempfile.mkdtemp(prefix="tapeflow-catalog-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "catalog.db"
    catalog = Catalog(f"sqlite:///{path}")
    catalog.migrate()
    catalog.close()
    return path
