import io
import os
import shutil
from pathlib import Path

import pytest

from restore_lib.integrity import rebuild_parity
from restore_lib.integrity.rebuild_parity import find_index
from restore_lib.library.faults import Faults, write_faults
from restore_lib.tape.age import Recipients, new_identity
from restore_lib.tape.members import MemberMeta
from restore_lib.tape.segment import SegmentWriter
from tests.integrity.backups import AT
from tests.support.rebuilds import compared, lose_catalog, rebuilt
from tests.support.sites import back_up, image, make_site, open_site, write_files

OPEN = 'k = 2\nm = 2\nblock_size = "4KiB"\nsegment_size = "256KiB"\nkeep_open = true'


@pytest.fixture(scope="module")
def _open(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("open") / "cluster"
    site = make_site(root, policy=OPEN, blank=4)
    for turn in range(2):
        names = {b"%d-%d %s" % (turn, n, os.urandom(60).hex().encode()): b"x" for n in range(300)}
        write_files(root / "live", names)
        back_up(site)
    site.close()
    return root


@pytest.fixture
def cluster(_open: Path, tmp_path: Path) -> Path:
    """A cluster with one set of 2+2 that was never closed, of two stripes."""
    return Path(shutil.copytree(_open, tmp_path / "cluster"))


@pytest.mark.parametrize(
    "bad",
    [
        {0: ((1, 3, 3),)},
        {1: ((2, 0, 0),), 3: ((2, 5, 5),)},
        {0: ((1, 1, 1),), 1: ((2, 0, 0),), 2: ((1, 0, 9),), 3: ((2, 0, 1),)},
    ],
    ids=["one", "two", "all"],
)
def test_bad_blocks_on_open_volumes_are_made_good(
    cluster: Path, bad: dict[int, tuple[tuple[int, int, int], ...]]
) -> None:
    lost = lose_catalog(cluster)
    site = open_site(cluster)
    for number, blocks in bad.items():
        write_faults(image(site, f"TF000{number}L9"), Faults(unreadable_blocks=blocks))
    report = rebuilt(site)
    assert report.complete
    assert report.by_parity == sum(len(bad.get(position, ())) for position in (0, 1))
    assert compared(site, lost) == []
    site.close()


def test_more_is_looked_at_until_the_index_is_found(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild_parity, "_FIRST_TAIL", 1)
    monkeypatch.setattr(rebuild_parity, "_GROWTH", 2)
    site = open_site(cluster)
    config = cluster / "tapeflow.toml"
    config.write_text(config.read_text().replace("keep_open = true", "keep_open = false"))
    site = open_site(cluster)
    write_files(cluster / "live", {b"last": b"x"})
    back_up(site)
    lost = lose_catalog(cluster)
    site = open_site(cluster)
    write_faults(image(site, "TF0000L9"), Faults(unreadable=True))
    report = rebuilt(site)
    assert report.complete
    assert report.by_parity == report.stripes
    assert compared(site, lost) == []
    site.close()


def test_too_many_bad_tape_files_are_named(cluster: Path) -> None:
    lose_catalog(cluster)
    site = open_site(cluster)
    for number in (0, 1, 2):
        write_faults(image(site, f"TF000{number}L9"), Faults(unreadable_blocks=((1, 2, 2),)))
    report = rebuilt(site)
    assert not report.written
    assert [line.split(":")[0] for line in report.missing] == [
        f"live-00001, position {position}, tape file 1" for position in (0, 1, 2)
    ]
    site.close()


def test_an_index_is_found_from_the_end_of_its_segment(tmp_path: Path) -> None:
    _, recipient = new_identity()
    path = tmp_path / "segment"
    with SegmentWriter(path, block_size=1024, recipients=Recipients.parse([recipient])) as writer:
        for number in range(5):
            meta = MemberMeta("live", b"%d" % number, None, AT)
            writer.add(meta, io.BytesIO(b"INDEX.jsonl.zst.age\0" * 100))
        done = writer.finish()
    with path.open("r+b") as file:
        assert find_index(file) == (done.index_offset, done.sealed_index)
        file.seek(0, os.SEEK_END)
        file.write(bytes(4096))
        file.flush()
        assert find_index(file) == (done.index_offset, done.sealed_index)
        file.write(b"x")
        file.flush()
        assert find_index(file) is None
