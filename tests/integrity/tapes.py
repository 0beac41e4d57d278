"""A tape set of one data and one parity volume, written by hand through drives and the catalog."""

import io
import random
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from sqlalchemy import insert, update

from restore_lib.catalog.leases import CatalogLeases
from restore_lib.catalog.recovery_points import begin_recovery_point
from restore_lib.catalog.tables import stripes, tape_files, tape_sets, volumes
from restore_lib.catalog.volumes import add_blank
from restore_lib.library.faults import Faults, write_faults
from restore_lib.library.mounting import mounted
from restore_lib.library.virtual import VirtualLibrary
from restore_lib.site import Site
from restore_lib.tape.label import Label, encode_label
from restore_lib.tape.members import MemberMeta
from restore_lib.tape.parity import encode_parity
from restore_lib.tape.segment import SegmentWriter
from restore_lib.tape.volume_index import (
    Stripe,
    StripeMember,
    StripeTable,
    TapeFile,
    VolumeIndex,
    encode_stripe_table,
    write_volume_index,
)
from tests.integrity.backups import AT

BLOCK = 1024
DATA, PARITY = "VT0001", "VT0002"
SPARE = "VT0003"
SET = "policy-00001"


def make_library(site: Site) -> None:
    """Set up the library with three blank volumes that the catalog knows."""
    section = site.config.library
    library = VirtualLibrary.create(
        section.path,
        slots=section.slots,
        drives=section.drives,
        import_export=section.import_export,
        capacity_bytes=section.capacity,
    )
    library.add_blank([DATA, PARITY, SPARE])
    with site.catalog.write() as connection:
        add_blank(connection, [DATA, PARITY, SPARE], actor="ann", at=AT)


def write_set(site: Site, folder: Path, segments: int = 2, members: int = 4) -> None:
    """Write the set: ``segments`` stripes, each of ``members`` objects of three blocks or so."""
    make_library(site)
    files: dict[str, list[Path]] = {DATA: [], PARITY: []}
    sealed: list[tuple[int, bytes]] = []
    for number in range(1, segments + 1):
        data, parity = folder / f"data-{number}", folder / f"parity-{number}"
        with SegmentWriter(data, block_size=BLOCK, recipients=site.recipients) as writer:
            for member in range(members):
                content = random.Random(f"{number} {member}").randbytes(3 * BLOCK)
                writer.add(MemberMeta("live", b"key %d" % member, None, AT), io.BytesIO(content))
            sealed.append((number, writer.finish().sealed_index))
        encode_parity([data], [parity], BLOCK)
        files[DATA].append(data)
        files[PARITY].append(parity)
    for position, barcode in enumerate(files):
        label = Label(
            barcode=barcode,
            cluster=site.config.cluster.id,
            tape_set=SET,
            k=1,
            m=1,
            position=position,
            block_size=BLOCK,
            created_at=AT,
            recipients=site.recipients.names,
        )
        closing = closing_file(folder / "closing", label, files, sealed)
        contents = [f.read_bytes() for f in files[barcode]]
        write_volume(site, barcode, [encode_label(label), *contents, closing])
    _commit(site, files)


def closing_file(
    path: Path, label: Label, files: dict[str, list[Path]], sealed: list[tuple[int, bytes]]
) -> bytes:
    """Return the last tape file of a closed volume."""

    def known(path: Path) -> tuple[int, str]:
        data = path.read_bytes()
        return len(data) // BLOCK, sha256(data).hexdigest()

    numbers = range(1, len(sealed) + 1)
    if label.is_parity:
        stripes = tuple(
            Stripe(
                n, tuple(StripeMember(p, b, *known(files[b][n - 1])) for p, b in enumerate(files))
            )
            for n in numbers
        )
        return encode_stripe_table(StripeTable(label.barcode, SET, 1, 1, 1, BLOCK, stripes))
    own = tuple(TapeFile(n, *known(files[label.barcode][n - 1])) for n in numbers)
    write_volume_index(path, VolumeIndex(label.barcode, SET, own), sealed, BLOCK)
    return path.read_bytes()


def write_volume(site: Site, barcode: str, files: Sequence[bytes]) -> None:
    """Write these tape files from the beginning of the tape on."""
    leases = CatalogLeases(site.catalog, site.clock)
    with mounted(site.library, leases, barcode, "test") as drive:
        drive.rewind()
        for data in files:
            for start in range(0, len(data), BLOCK):
                drive.write(data[start : start + BLOCK])
            drive.write_filemark()


def read_volume(site: Site, barcode: str, files: int) -> list[bytes]:
    """Return the first tape files of a volume."""
    leases = CatalogLeases(site.catalog, site.clock)
    with mounted(site.library, leases, barcode, "test") as drive:
        return [b"".join(iter(drive.read, None)) for _ in range(files)]


def image(site: Site, barcode: str) -> Path:
    """Return where the volume's image is."""
    (found,) = site.config.library.path.glob(f"**/{barcode}.tap")
    return found


def harm(site: Site, barcode: str, faults: Faults) -> None:
    write_faults(image(site, barcode), faults)


def _commit(site: Site, files: dict[str, list[Path]]) -> None:
    with site.catalog.write() as connection:
        rp_id = begin_recovery_point(connection, "policy", "live", AT)
        connection.execute(
            insert(tape_sets).values(
                id=SET,
                policy="policy",
                k=1,
                m=1,
                block_size=BLOCK,
                recipients=list(site.recipients.names),
                state="closed",
                stripes=len(files[DATA]),
                created_at=AT,
            )
        )
        for position, barcode in enumerate(files):
            connection.execute(
                update(volumes)
                .where(volumes.c.barcode == barcode)
                .values(tape_set=SET, position=position, content="full")
            )
        for number in range(1, len(files[DATA]) + 1):
            rows = {b: paths[number - 1].read_bytes() for b, paths in files.items()}
            stripe_id = connection.execute(
                insert(stripes)
                .values(
                    tape_set=SET,
                    number=number,
                    rp_id=rp_id,
                    rows=len(rows[DATA]) // BLOCK,
                    committed_at=AT,
                )
                .returning(stripes.c.id)
            ).scalar_one()
            connection.execute(
                insert(tape_files),
                [
                    {
                        "stripe_id": stripe_id,
                        "position": position,
                        "barcode": barcode,
                        "blocks": len(data) // BLOCK,
                        "sha256": sha256(data).hexdigest(),
                    }
                    for position, (barcode, data) in enumerate(rows.items())
                ],
            )
