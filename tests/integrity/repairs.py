"""A small cluster with one set of 3+2 volumes and two blank ones, to be harmed and repaired."""

import os
import shutil
from pathlib import Path

from restore_lib.catalog import tape_sets
from restore_lib.catalog.volumes import volume
from restore_lib.integrity.verify_media import (
    begin_verification,
    finish_verification,
    plan_verification,
    verify_volume,
)
from restore_lib.model.volume import Volume
from restore_lib.restore.request import RestoreSpec
from restore_lib.site import Site
from tests.support.sites import (
    ACTOR,
    back_up,
    digests,
    image,
    make_site,
    restore,
    write_files,
)

K, M = 3, 2
POLICY = f'k = {K}\nm = {M}\nblock_size = "4KiB"\nsegment_size = "64KiB"'
NAMES = [f"TF{number:04}L9" for number in range(9)]
CONTENTS = {b"%02d" % n: os.urandom(1 + 4000 * n) for n in range(12)} | {
    b"cut": os.urandom(200_000)
}


def build(root: Path) -> Site:
    made = make_site(root, policy=POLICY, blank=K + M + 2)
    write_files(root / "live", CONTENTS)
    back_up(made)
    return made


def known(site: Site, barcode: str) -> Volume:
    with site.catalog.read() as connection:
        return volume(connection, barcode)


def lose(site: Site, barcode: str) -> None:
    image(site, barcode).rename(site.config.library.path.parent / f"{barcode}.lost")


def verify(site: Site, *barcodes: str) -> str:
    plan = plan_verification(site, barcodes=barcodes)
    run_id = begin_verification(site, plan, ACTOR)
    for candidate in plan:
        verify_volume(site, run_id, candidate.barcode)
    return finish_verification(site, run_id)


def check_restore(site: Site) -> None:
    """Restore everything, and compare it with what was backed up."""
    root = site.config.library.path.parent
    shutil.rmtree(root / "out", ignore_errors=True)
    (root / "out").mkdir()
    restore(site, RestoreSpec(store="live", prefix=b"", target="out"))
    assert digests(root / "out") == digests(root / "live")


def tape_files(site: Site, set_id: str = "live-00001") -> list[tape_sets.SetFile]:
    with site.catalog.read() as connection:
        return tape_sets.files_of_set(connection, set_id)
