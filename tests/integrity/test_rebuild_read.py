import io
import os
import shutil
from pathlib import Path

import pytest

from restore_lib.catalog.findings import Findings, Found
from restore_lib.integrity.rebuild import rebuild_folder
from restore_lib.integrity.rebuild_read import index_offset, read_volume
from restore_lib.library.faults import Faults, write_faults
from restore_lib.site import Site
from restore_lib.tape.members import MemberMeta
from restore_lib.tape.segment import SegmentWriter
from tests.integrity.backups import AT
from tests.support.rebuilds import compared, lose_catalog, rebuilt
from tests.support.sites import back_up, image, make_site, open_site, write_files

BLOCK = 1024


@pytest.fixture(scope="module")
def _closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("closed") / "cluster"
    site = make_site(root, blank=4)
    write_files(root / "live", {b"%d" % n: os.urandom(9000) for n in range(40)})
    back_up(site)
    site.close()
    return root


@pytest.fixture
def closed(_closed: Path, tmp_path: Path) -> Path:
    """A cluster with one closed set of 2+1 on the volumes 0 to 2, and a blank volume."""
    return Path(shutil.copytree(_closed, tmp_path / "cluster"))


@pytest.mark.parametrize("count", [0, 1, 7])
def test_the_place_of_an_index_follows_from_its_members(
    sqlite_site: Site, tmp_path: Path, count: int
) -> None:
    path = tmp_path / "segment"
    with SegmentWriter(path, block_size=BLOCK, recipients=sqlite_site.recipients) as writer:
        for number in range(count):
            meta = MemberMeta("live", b"key %d" % number, None, AT)
            writer.add(meta, io.BytesIO(b"x" * number * 700))
        done = writer.finish()
    assert index_offset(done.members) == done.index_offset


@pytest.mark.parametrize("position", [0, 2])
@pytest.mark.parametrize("block", [0, 1])
def test_a_closing_file_with_a_bad_block_is_done_without(
    closed: Path, position: int, block: int
) -> None:
    lost = lose_catalog(closed)
    site = open_site(closed)
    write_faults(image(site, f"TF000{position}L9"), Faults(unreadable_blocks=((2, block, block),)))
    report = rebuilt(site)
    assert report.complete
    assert any(f"TF000{position}L9" in problem for problem in report.problems)
    assert compared(site, lost) == []
    site.close()


def test_what_a_volume_is(closed: Path) -> None:
    lose_catalog(closed)
    site = open_site(closed)
    image(site, "TF0001L9").write_bytes(b"nothing of ours" * 100)
    write_faults(image(site, "TF0002L9"), Faults(unreadable=True))
    path = image(site, "TF0000L9")
    path.rename(path.with_name("SWAPPED.tap"))
    with rebuild_folder(site) as folder:
        findings = Findings(folder / "findings.db")
        for barcode in ("SWAPPED", "TF0001L9", "TF0002L9", "TF0003L9", "ABSENT"):
            read_volume(site, findings, barcode)
    states = {volume.barcode: volume.state for volume in findings.volumes()}
    assert states.pop("TF0001L9") in {Found.FOREIGN, Found.UNREADABLE}
    assert states == {
        "SWAPPED": Found.FOREIGN,
        "TF0002L9": Found.UNREADABLE,
        "TF0003L9": Found.BLANK,
    }
    assert "TF0000L9" in findings.volumes()[0].problem
    findings.close()
    site.close()
