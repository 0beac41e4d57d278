import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from restore_lib.backup.pack import Geometry, pieces
from restore_lib.backup.seal import Sealer, SealingHere, Selected
from restore_lib.backup.sources import Sources
from restore_lib.backup.stage import Pieces, StagedStripe, Stager
from restore_lib.errors import DiskFull
from restore_lib.model.extents import NewExtent
from restore_lib.model.progress import Silent
from restore_lib.stores.local import LocalStore
from restore_lib.tape.age import Identity, Recipients, load_identities, new_identity
from restore_lib.tape.parity import Rebuilder
from restore_lib.tape.segment_reader import read_index, verify_segment
from tests.support.sites import write_files

GEOMETRY = Geometry(
    k=2, m=1, block_size=512, segment_size=64 << 10, volume_size=1 << 20, recipients=1
)


class Bench:
    """A store in a folder, and a stager over it."""

    def __init__(self, folder: Path) -> None:
        self.live = folder / "live"
        self.staging = folder / "staging"
        self.staging.mkdir()
        text, recipient = new_identity()
        (folder / "key").write_text(text)
        self.identities: list[Identity] = load_identities(folder / "key")
        self.store = LocalStore("live", self.live, create=True)
        recipients = Recipients.parse([recipient])
        self.sealer = Sealer(Sources(self.store), "live", recipients, GEOMETRY.block_size)
        self.failures: Mapping[bytes, str] = {}

    def work(self) -> Pieces:
        """Return all objects, as they are listed now, to be staged later."""
        listed = list(self.store.list())

        def selected() -> Iterator[Selected]:
            for source in listed:
                for piece in pieces(source, GEOMETRY.part_size):
                    yield Selected(piece, None)

        return Pieces(selected())

    def stager(self, target: int = 20_000) -> Stager:
        sealing = SealingHere(self.sealer)
        return Stager(self.staging, "live", GEOMETRY, target, 1, sealing, Silent())

    def stage(self, work: Pieces, target: int = 20_000) -> list[StagedStripe]:
        stager = self.stager(target)
        staged = list(stager.stripes(work, lambda *_: True))
        assert [more for _, more in staged][:-1] == [True] * (len(staged) - 1)
        self.failures = stager.failures
        return [stripe for stripe, _ in staged]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def extents(staged: list[StagedStripe]) -> list[NewExtent]:
    return [extent for stripe in staged for extent in stripe.extents]


def test_objects_are_staged_in_order_each_once(bench: Bench) -> None:
    contents = {b"%03d" % n: os.urandom(n * 37 % 9000) for n in range(60)}
    write_files(bench.live, contents)
    staged = bench.stage(bench.work())
    found = extents(staged)
    assert [extent.source.key for extent in found] == sorted(contents)
    assert len(staged) > 1
    assert [stripe.number for stripe in staged] == list(range(1, len(staged) + 1))
    places = [(extent.stripe, extent.position, extent.offset) for extent in found]
    assert places == sorted(places)
    for extent in found:
        assert extent.sha256 == hashlib.sha256(contents[extent.source.key]).hexdigest()
        assert (extent.part, extent.parts, extent.object_sha256) == (1, 1, extent.sha256)


def test_staged_files_are_segments_with_their_parity(bench: Bench) -> None:
    write_files(bench.live, {b"%03d" % n: os.urandom(1500) for n in range(30)})
    [stripe, *_] = bench.stage(bench.work())
    data = [file.path.read_bytes() for file in stripe.files]
    for file, content in zip(stripe.files, data, strict=True):
        assert len(content) == file.blocks * 512
        assert hashlib.sha256(content).hexdigest() == file.sha256
    for position in (0, 1):
        assert verify_segment([data[position]]).ok
        with stripe.files[position].path.open("rb") as segment:
            members = read_index(segment, bench.identities)
        assert [(m.name, m.offset, m.meta.key) for m in members] == [
            (extent.member, extent.offset, extent.source.key)
            for extent in stripe.extents
            if extent.position == position
        ]
    longest = max(map(len, data))
    rows = {position: data[position].ljust(longest, b"\0") for position in (1, 2)}
    assert Rebuilder(2, 1, 512).rebuild(rows, [0])[0].rstrip(b"\0") == data[0].rstrip(b"\0")


def test_a_large_object_is_cut_over_segments_and_stripes(bench: Bench) -> None:
    big = os.urandom(300_000)
    write_files(bench.live, {b"a": b"small", b"big": big, b"c": b""})
    found = extents(bench.stage(bench.work(), target=GEOMETRY.segment_size))
    parts = [extent for extent in found if extent.source.key == b"big"]
    assert [part.part for part in parts] == list(range(1, len(parts) + 1))
    assert {(part.stripe, part.position) for part in parts} > {(1, 0), (1, 1), (2, 0)}
    assert sum(part.size for part in parts) == len(big)
    assert [part.object_sha256 for part in parts[:-1]] == [None] * (len(parts) - 1)
    assert parts[-1].object_sha256 == hashlib.sha256(big).hexdigest()
    blocks = {file.blocks for stripe in bench.stage(bench.work()) for file in stripe.files}
    assert max(blocks) * 512 <= GEOMETRY.segment_size


def test_the_last_stripe_is_said_to_be_the_last(bench: Bench) -> None:
    write_files(bench.live, {b"%03d" % n: os.urandom(10_000) for n in range(30)})
    staged = [more for _, more in bench.stager().stripes(bench.work(), lambda *_: True)]
    assert staged == [True] * (len(staged) - 1) + [False]


def test_no_stripe_is_begun_without_leave(bench: Bench) -> None:
    write_files(bench.live, {b"%03d" % n: os.urandom(10_000) for n in range(30)})
    asked: list[int] = []

    def may_begin(under_way: int, pieces: int) -> bool:
        assert (pieces > 0) == (under_way > 0)
        asked.append(under_way)
        return under_way == 0

    for stripe, _ in bench.stager().stripes(bench.work(), may_begin):
        assert len(list(bench.staging.iterdir())) == 3
        stripe.remove()
    assert set(asked) == {0, 1}


def test_a_stripe_takes_what_its_fullest_volume_needs(bench: Bench) -> None:
    write_files(bench.live, {b"a": os.urandom(9000), b"b": os.urandom(2000)})
    [stripe] = bench.stage(bench.work(), target=9000)
    longest = max(file.blocks for file in stripe.files)
    indexes = [len(file.sealed_index) for file in stripe.files if file.sealed_index]
    assert longest * 512 + 2 * min(indexes) <= stripe.size_on(512)
    assert stripe.size_on(512) <= longest * 512 + 2 * max(indexes)


def test_objects_that_fail_are_named_and_the_rest_is_staged(bench: Bench) -> None:
    keys = [b"%03d" % n for n in range(10)]
    write_files(bench.live, dict.fromkeys(keys, bytes(3000)))
    work = bench.work()
    (bench.live / "003").unlink()
    (bench.live / "004").write_bytes(bytes(3001))
    (bench.live / "005").write_bytes(bytes(2999))
    found = extents(bench.stage(work))
    assert [e.source.key for e in found] == [k for k in keys if k not in {b"003", b"004", b"005"}]
    assert set(bench.failures) == {b"003", b"004", b"005"}
    assert "changed while it was read" in bench.failures[b"004"]


@pytest.mark.parametrize("new_size", [100_000, 400_000])
def test_a_cut_object_that_changes_is_dropped_with_all_its_parts(
    bench: Bench, new_size: int
) -> None:
    write_files(bench.live, {b"a": b"1", b"big": bytes(300_000), b"z": b"2"})
    work = bench.work()
    (bench.live / "big").write_bytes(bytes(new_size))
    found = extents(bench.stage(work, target=GEOMETRY.segment_size))
    assert set(bench.failures) == {b"big"}
    ends = [e for e in found if e.part == e.parts]
    assert [extent.source.key for extent in ends] == [b"a", b"z"]


def test_where_nothing_can_be_read_nothing_is_staged(bench: Bench) -> None:
    write_files(bench.live, {b"a": b"1", b"b": b"2"})
    work = bench.work()
    for path in bench.live.iterdir():
        if path.is_file():
            path.unlink()
    assert bench.stage(work) == []
    assert set(bench.failures) == {b"a", b"b"}


def test_a_renumbered_stripe_keeps_its_files(bench: Bench) -> None:
    write_files(bench.live, {b"a": b"1"})
    [stripe] = bench.stage(bench.work())
    other = stripe.renumbered(7)
    assert other.number == 7
    assert {extent.stripe for extent in other.extents} == {7}
    assert other.files == stripe.files
    other.remove()
    assert list(bench.staging.iterdir()) == []


def test_a_full_staging_disk_is_named(bench: Bench) -> None:
    write_files(bench.live, {b"a": bytes(10_000)})
    (bench.staging / "stripe-000001-00").symlink_to("/dev/full")
    with pytest.raises(DiskFull, match="stripe-000001-00"):
        bench.stage(bench.work())
