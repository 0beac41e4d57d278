import io

import pytest

from restore_lib.catalog.leases import CatalogLeases
from restore_lib.integrity.repair import run_repair
from restore_lib.library.mounting import mounted
from restore_lib.site import Site
from restore_lib.tape.mounted import blocks, read_label
from restore_lib.tape.segment_reader import decode_index
from restore_lib.tape.streams import BlockReader
from restore_lib.tape.volume_index import decode_stripe_table, read_volume_index
from tests.integrity.repairs import (
    NAMES,
    K,
    lose,
    tape_files,
)
from tests.support.sites import (
    ACTOR,
)


@pytest.mark.parametrize("position", [0, K])
def test_the_closing_file_tells_of_the_new_volume(five: Site, position: int) -> None:
    lose(five, NAMES[position])
    new = run_repair(five, NAMES[position], ACTOR).replacement
    files = tape_files(five)
    stripes = max(file.stripe for file in files)
    leases = CatalogLeases(five.catalog, five.clock)
    with mounted(five.library, leases, new, ACTOR) as drive:
        label = read_label(drive)
        assert label is not None
        assert (label.barcode, label.tape_set, label.position) == (new, "live-00001", position)
        drive.locate(stripes + 1)
        stream = BlockReader(blocks(drive))
        if position < K:
            index, sealed = read_volume_index(stream)
            assert index.barcode == new
            own = [(f.stripe, f.blocks, f.sha256) for f in files if f.position == position]
            assert [(f.file, f.blocks, f.sha256) for f in index.files] == own
            members = [
                decode_index(io.BytesIO(data), five.identities, what="index") for _, data in sealed
            ]
            assert all(members)
        else:
            table = decode_stripe_table(stream)
            assert (table.barcode, table.position) == (new, position)
            told = [(s.stripe, m.position, m.barcode) for s in table.stripes for m in s.members]
            assert told == [(f.stripe, f.position, f.barcode) for f in files]
