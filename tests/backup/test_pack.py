import io
import itertools
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from restore_lib.backup.pack import Geometry, Piece, bound, meta_of, pieces, shares, weight
from restore_lib.config_tables import PolicyConfig
from restore_lib.model.objects import StoredObject
from restore_lib.tape.age import Recipients, new_identity
from restore_lib.tape.segment import SegmentWriter, empty_size

AT = datetime(2030, 1, 1, tzinfo=UTC)
RECIPIENTS = Recipients.parse([new_identity()[1], new_identity()[1]])


def stored(key: bytes, size: int) -> StoredObject:
    return StoredObject(key, size, AT, metadata={"mode": "0644"})


def policy(**values: object) -> PolicyConfig:
    return PolicyConfig.model_validate({"store": "live"} | values)


@given(
    sizes=st.lists(st.integers(0, 5000), max_size=40),
    share_size=st.integers(1, 40_000),
)
def test_every_object_is_in_exactly_one_share(sizes: list[int], share_size: int) -> None:
    objects = [stored(b"%04d" % number, size) for number, size in enumerate(sizes)]
    cut = list(shares(objects, share_size))
    assert cut[0].after is None
    assert cut[-1].until is None
    for before, after in itertools.pairwise(cut):
        assert before.until == after.after
    for share in cut:
        inside = [
            source
            for source in objects
            if (share.after is None or source.key > share.after)
            and (share.until is None or source.key <= share.until)
        ]
        assert (share.objects, share.size) == (len(inside), sum(o.size for o in inside))
        assert share.objects <= 1 or weight(share.objects, share.size) <= share_size
    assert sum(share.objects for share in cut) == len(objects)


@given(size=st.integers(0, 10_000), part_size=st.integers(1, 4000))
def test_pieces_cover_an_object_in_order(size: int, part_size: int) -> None:
    cut = list(pieces(stored(b"a", size), part_size))
    assert sum(piece.size for piece in cut) == size
    assert [piece.part for piece in cut] == list(range(1, len(cut) + 1))
    assert {piece.parts for piece in cut} == {len(cut)}
    assert all(piece.size <= part_size for piece in cut)
    assert all(piece.size == part_size for piece in cut[:-1])
    assert [piece.is_last for piece in cut] == [False] * (len(cut) - 1) + [True]


GEOMETRIES = st.builds(
    lambda k, m, block, segment, capacity: Geometry.of(
        policy(k=k, m=m, block_size=block * 512, segment_size=segment), capacity, 2
    ),
    st.integers(1, 28),
    st.integers(0, 4),
    st.integers(1, 1024),
    st.integers(64 << 10, 7 << 30),
    st.integers(8 << 20, 18 * 10**12),
)


@given(geometry=GEOMETRIES, load=st.integers(0, 10**14))
def test_a_geometry_keeps_its_bounds(geometry: Geometry, load: int) -> None:
    assert geometry.segment_size % geometry.block_size == 0
    assert geometry.block_size <= geometry.segment_size <= geometry.volume_size
    assert 0 < geometry.part_size < geometry.segment_size
    target = geometry.target(load)
    assert 0 < target <= geometry.segment_size
    stripes = -(-load // (geometry.k * geometry.segment_size))
    assert stripes * geometry.k * target >= load or target == geometry.segment_size
    stripe = geometry.stripe_size(target)
    assert stripe >= (geometry.k + geometry.m) * target
    assert stripe % geometry.block_size == 0


def test_a_segment_larger_than_a_volume_is_cut_to_it() -> None:
    geometry = Geometry.of(policy(segment_size="1GiB"), 10 << 20, 1)
    assert geometry.segment_size == geometry.volume_size < 10 << 20
    assert geometry.set_size <= 4 * geometry.segment_size


@settings(max_examples=25)
@given(
    keys=st.lists(st.binary(min_size=1, max_size=255), min_size=1, max_size=5, unique=True),
    sizes=st.lists(st.integers(0, 3000), min_size=5, max_size=5),
)
def test_a_segment_is_never_larger_than_the_bounds_of_its_pieces(
    keys: list[bytes], sizes: list[int]
) -> None:
    chosen = [
        piece
        for key, size in zip(keys, sizes, strict=False)
        for piece in pieces(stored(key, size), 1000)
    ]
    assert measured(chosen) <= empty_size(2) + sum(bound("live", p, 2) for p in chosen) + 512


def measured(chosen: list[Piece]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "segment"
        with SegmentWriter(path, block_size=512, recipients=RECIPIENTS) as writer:
            for piece in chosen:
                ended = piece.is_last and piece.parts > 1
                writer.add(
                    meta_of("live", piece),
                    io.BytesIO(bytes(piece.size)),
                    size=piece.size,
                    object_digest=(lambda: "ab" * 32) if ended else None,
                )
            return writer.finish().size
