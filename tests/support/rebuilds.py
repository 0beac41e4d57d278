"""Catalogs that are lost, and rebuilt from the tapes of a small cluster."""

import hashlib
from pathlib import Path

from restore_lib.catalog.engine import Catalog
from restore_lib.integrity.rebuild import (
    RebuildReport,
    finish_rebuild,
    plan_rebuild,
    read_into,
    rebuild_folder,
)
from restore_lib.integrity.rebuild_diff import differences
from restore_lib.site import Site
from tests.support.sites import ACTOR


def lose_catalog(root: Path) -> Path:
    """Put an empty catalog in the place of the one there, which is returned."""
    lost = root / "lost.db"
    for file in root.glob("catalog.db*"):
        file.rename(root / file.name.replace("catalog", "lost"))
    fresh = Catalog(f"sqlite:///{root / 'catalog.db'}")
    fresh.migrate()
    fresh.close()
    return lost


def rebuilt(site: Site, *, incomplete: bool = False, backwards: bool = False) -> RebuildReport:
    with rebuild_folder(site) as folder:
        wanted = plan_rebuild(site).to_read
        for barcode in reversed(wanted) if backwards else wanted:
            read_into(site, folder, barcode)
        return finish_rebuild(site, folder, ACTOR, incomplete=incomplete)


def compared(site: Site, lost: Path) -> list[tuple[str, str]]:
    live = Catalog(f"sqlite:///{lost}")
    found = [
        (d.kind, d.name) for d in differences(site.catalog, live, site.staging / "differences")
    ]
    live.close()
    return found


def sha256s(files: dict[bytes, bytes]) -> dict[bytes, str]:
    return {key: hashlib.sha256(data).hexdigest() for key, data in files.items()}
