import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_lib.catalog.batches import BatchExtent, BatchItem
from restore_lib.errors import DiskFull, DriveBusy, MediumError
from restore_lib.library.faults import Faults, write_faults
from restore_lib.library.virtual import VirtualLibrary
from restore_lib.restore.gather import Gathered, SetShape, Sourcing
from restore_lib.restore.read import TapeReader
from restore_lib.tape.parity import encode_parity

K, M, BLOCK = 3, 2, 512
LENGTHS = (7, 12, 1)
NAMES = [f"V{position:05}" for position in range(K + M)]


class Tapes:
    """Five volumes with one stripe, whose data files differ in length."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.busy: list[str] = []
        paths = [root / f"file-{position}" for position in range(K + M)]
        self.data = [os.urandom(blocks * BLOCK) for blocks in LENGTHS]
        for path, content in zip(paths, self.data, strict=False):
            path.write_bytes(content)
        encode_parity(paths[:K], paths[K:], BLOCK)
        self.library = VirtualLibrary.create(
            root, slots=8, drives=1, import_export=1, capacity_bytes=1 << 20
        )
        self.library.add_blank(NAMES)
        for name, path in zip(NAMES, paths, strict=True):
            drive = self.library.load(name, 0, 1)
            drive.write(b"label")
            drive.write_filemark()
            content = path.read_bytes()
            for start in range(0, len(content), BLOCK):
                drive.write(content[start : start + BLOCK])
            drive.write_filemark()
        self.library.unload(0, 1)

    def spoil(self, position: int, *blocks: int) -> None:
        [image] = self.root.rglob(f"{NAMES[position]}.tap")
        bad = tuple((1, block, block) for block in blocks)
        write_faults(image, Faults(unreadable_blocks=bad))

    def gather(
        self, positions: Iterable[int], items: list[BatchItem], folder: Path
    ) -> tuple[Sourcing, Gathered, list[bool]]:
        files = {
            ("set", 1, position): (NAMES[position], (*LENGTHS, 12, 12)[position])
            for position in range(K + M)
        }
        volumes = [NAMES[position] for position in positions]
        sourcing = Sourcing(volumes, {"set": SetShape(K, M, BLOCK)}, files)
        gathered = Gathered(folder)
        whole = []
        self.asked: list[tuple[str, set[tuple[int, int]]]] = []

        def collect(barcode: str, wanted: set[tuple[int, int]]) -> None:
            assert barcode in volumes
            if barcode in self.busy:
                self.busy.remove(barcode)
                raise DriveBusy(f"{barcode} is in use.")
            self.asked.append((barcode, wanted))
            reader = TapeReader(self.library.load(barcode, 0, 1), BLOCK)
            whole.append(gathered.collect(barcode, wanted, reader))

        extents = [e for item in items for e in item.extents]
        try:
            sourcing.gather(extents, gathered, collect)
        except DriveBusy:
            sourcing.gather(extents, gathered, collect)
        return sourcing, gathered, whole


@pytest.fixture(scope="module")
def tapes(tmp_path_factory: pytest.TempPathFactory) -> Tapes:
    return Tapes(tmp_path_factory.mktemp("tapes"))


@pytest.fixture
def spoiled(tmp_path: Path) -> Tapes:
    (tmp_path / "tapes").mkdir()
    return Tapes(tmp_path / "tapes")


def extent(position: int, offset: int, size: int, part: int = 1) -> BatchExtent:
    return BatchExtent(part, 1, position, NAMES[position], "set", "m", offset, size, "", size, "")


def item(*extents: BatchExtent) -> BatchItem:
    return BatchItem(1, 0, b"key", None, None, None, None, {}, extents)


@st.composite
def wanted(draw: st.DrawFn) -> BatchExtent:
    position = draw(st.integers(0, K - 1))
    offset = draw(st.integers(0, LENGTHS[position] * BLOCK))
    size = draw(st.integers(0, LENGTHS[position] * BLOCK - offset))
    return extent(position, min(offset, LENGTHS[position] * BLOCK - 1), size)


@settings(max_examples=60, deadline=None)
@given(
    extents=st.lists(wanted(), min_size=1, max_size=4),
    positions=st.lists(st.integers(0, K + M - 1), min_size=K, max_size=K + M, unique=True),
)
def test_any_k_volumes_give_every_extent(
    tapes: Tapes,
    tmp_path_factory: pytest.TempPathFactory,
    extents: list[BatchExtent],
    positions: list[int],
) -> None:
    wanted_item = item(*extents)
    folder = tmp_path_factory.mktemp("staging")
    sourcing, gathered, whole = tapes.gather(positions, [wanted_item], folder)
    assert all(whole)
    lost = {e.position for e in extents} - set(positions)
    assert sourcing.is_rebuilt(wanted_item, gathered) == bool(lost)
    for e in extents:
        end = e.offset + e.stored_size
        assert b"".join(sourcing.payload(e, gathered)) == tapes.data[e.position][e.offset : end]
    gathered.close()


def test_only_the_rows_of_the_extents_are_read(tapes: Tapes, tmp_path: Path) -> None:
    direct = item(extent(1, 600, 1000))
    _, gathered, _ = tapes.gather([1], [direct], tmp_path)
    assert tapes.asked == [(NAMES[1], {(1, 1), (1, 2), (1, 3)})]
    gathered.close()
    lost = item(extent(0, 5 * BLOCK, 10))
    _, gathered, _ = tapes.gather([1, 2, 3, 4], [lost], tmp_path)
    assert tapes.asked == [(NAMES[1], {(1, 5)}), (NAMES[3], {(1, 5)})]
    gathered.close()


def test_one_bad_block_costs_k_block_reads(spoiled: Tapes, tmp_path: Path) -> None:
    spoiled.spoil(1, 3)
    long = item(extent(1, 0, 12 * BLOCK))
    sourcing, gathered, _ = spoiled.gather(range(K + M), [long], tmp_path)
    assert sourcing.is_rebuilt(long, gathered)
    assert b"".join(sourcing.payload(long.extents[0], gathered)) == spoiled.data[1]
    others = [(NAMES[0], {(1, 3)}), (NAMES[3], {(1, 3)})]  # the third file of data has ended
    assert spoiled.asked == [(NAMES[1], {(1, row) for row in range(12)}), *others]
    gathered.close()


def test_each_row_is_rebuilt_from_any_k_volumes_that_have_it(
    spoiled: Tapes, tmp_path: Path
) -> None:
    for position in range(K + M):
        spoiled.spoil(position, position, position + 5)
    for position in (0, 1):
        whole = extent(position, 0, LENGTHS[position] * BLOCK)
        sourcing, gathered, _ = spoiled.gather(range(K + M), [item(whole)], tmp_path)
        assert b"".join(sourcing.payload(whole, gathered)) == spoiled.data[position]
        gathered.close()


def test_a_bad_block_fails_the_extents_that_need_it(spoiled: Tapes, tmp_path: Path) -> None:
    spoiled.spoil(1, 3)
    good, bad = extent(0, 0, 3 * BLOCK), extent(0, 3 * BLOCK, BLOCK)
    sourcing, gathered, whole = spoiled.gather([1, 2, 3], [item(good), item(bad)], tmp_path)
    assert sorted(whole) == [False, True, True]
    assert b"".join(sourcing.payload(good, gathered)) == spoiled.data[0][: 3 * BLOCK]
    with pytest.raises(
        MediumError, match=f"Block 3 of tape file 1 of volume {NAMES[0]} .* only 2 of"
    ):
        list(sourcing.payload(bad, gathered))
    gathered.close()


def test_a_bad_block_does_no_harm_where_k_others_are_at_hand(
    spoiled: Tapes, tmp_path: Path
) -> None:
    spoiled.spoil(1, 3)
    bad = extent(0, 3 * BLOCK, BLOCK)
    sourcing, gathered, _ = spoiled.gather([1, 2, 3, 4], [item(bad)], tmp_path)
    assert b"".join(sourcing.payload(bad, gathered)) == spoiled.data[0][3 * BLOCK : 4 * BLOCK]
    gathered.close()


def test_a_volume_in_use_is_read_after_the_others_and_nothing_twice(
    tapes: Tapes, tmp_path: Path
) -> None:
    first, second = extent(0, 0, 2 * BLOCK), extent(1, 0, 2 * BLOCK, part=2)
    for times in (1, 2):
        tapes.busy = [NAMES[0]] * times
        folder = tmp_path / str(times)
        folder.mkdir()
        sourcing, gathered, _ = tapes.gather([0, 1], [item(first, second)], folder)
        assert [barcode for barcode, _ in tapes.asked] == [NAMES[1], NAMES[0]]
        assert b"".join(sourcing.payload(first, gathered)) == tapes.data[0][: 2 * BLOCK]
        gathered.close()


def test_a_volume_in_use_that_only_helps_is_done_without(tapes: Tapes, tmp_path: Path) -> None:
    tapes.busy = [NAMES[1]]
    lost = extent(0, 0, BLOCK)
    sourcing, gathered, _ = tapes.gather([1, 2, 3, 4], [item(lost)], tmp_path)
    assert NAMES[1] not in [barcode for barcode, _ in tapes.asked]
    assert b"".join(sourcing.payload(lost, gathered)) == tapes.data[0][:BLOCK]
    gathered.close()


def test_a_full_staging_disk_is_named(tapes: Tapes, tmp_path: Path) -> None:
    (tmp_path / NAMES[1]).symlink_to("/dev/full")
    with pytest.raises(DiskFull, match=NAMES[1]):
        tapes.gather([1], [item(extent(1, 0, 12 * BLOCK))], tmp_path)
