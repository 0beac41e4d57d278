import hashlib
import itertools
import os
from pathlib import Path

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_lib.errors import DiskFull
from restore_lib.tape import parity
from restore_lib.tape.parity import Rebuilder, encode_parity

BLOCK = 512


def times(a: int, b: int) -> int:
    """Multiply in GF(2^8) by the schoolbook: carry-less, reduced by 0x11d at the end."""
    product = 0
    for bit in range(8):
        product ^= (a << bit) * (b >> bit & 1)
    for bit in range(14, 7, -1):
        product ^= (0x11D << bit - 8) * (product >> bit & 1)
    return product


def inverse(a: int) -> int:
    return next(b for b in range(1, 256) if times(a, b) == 1)


def plain_parity(data: list[bytes], m: int) -> list[bytes]:
    k = len(data)
    result = []
    for i in range(m):
        total = bytes(len(data[0]))
        for j, block in enumerate(data):
            factor = inverse((k + i) ^ j)
            table = bytes(times(factor, value) for value in range(256))
            product = block.translate(table)
            total = bytes(a ^ b for a, b in zip(total, product, strict=True))
        result.append(total)
    return result


def write(folder: Path, segments: list[bytes]) -> list[Path]:
    paths = [folder / f"data{n}" for n in range(len(segments))]
    for path, data in zip(paths, segments, strict=True):
        path.write_bytes(data)
    return paths


def encode(folder: Path, segments: list[bytes], m: int, k: int | None = None) -> list[bytes]:
    outputs = [folder / f"parity{n}" for n in range(m)]
    summaries = encode_parity(write(folder, segments), outputs, BLOCK, k=k)
    made = [path.read_bytes() for path in outputs]
    files = [*segments, *made]
    assert [s.sha256 for s in summaries] == [hashlib.sha256(data).hexdigest() for data in files]
    assert [s.checksum for s in summaries] == [xxhash.xxh3_128_hexdigest(data) for data in files]
    assert [s.blocks * BLOCK for s in summaries] == [len(data) for data in files]
    return made


@pytest.mark.parametrize(
    ("k", "m"), [(1, 1), (1, 4), (2, 1), (3, 2), (4, 2), (8, 3), (13, 4), (28, 1), (28, 4)]
)
def test_parity_is_the_documented_code(tmp_path: Path, k: int, m: int) -> None:
    data = [os.urandom(2 * BLOCK) for _ in range(k)]
    assert encode(tmp_path, data, m) == plain_parity(data, m)


def test_one_and_one_is_a_mirror(tmp_path: Path) -> None:
    data = os.urandom(3 * BLOCK)
    assert encode(tmp_path, [data], 1) == [data]
    assert Rebuilder(1, 1, BLOCK).rebuild({1: data}, [0]) == {0: data}


def test_without_parity_the_segments_alone_are_digested(tmp_path: Path) -> None:
    assert encode(tmp_path, [os.urandom(3000 * BLOCK), os.urandom(BLOCK)], 0) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data0", "data1"]


def test_segments_that_ended_and_positions_not_used_count_as_zeros(tmp_path: Path) -> None:
    data = [os.urandom(blocks * BLOCK) for blocks in (3, 1, 2)]
    padded = [block.ljust(3 * BLOCK, b"\0") for block in data] + [bytes(3 * BLOCK)] * 2
    assert encode(tmp_path, data, 2, k=5) == plain_parity(padded, 2)


def test_many_rows_at_a_time_give_the_same_as_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = [os.urandom(blocks * BLOCK) for blocks in (9, 7, 9)]
    whole = encode(tmp_path, data, 2)
    monkeypatch.setattr(parity, "_BATCH", BLOCK)
    assert encode(tmp_path, data, 2) == whole
    rebuilder = Rebuilder(3, 2, BLOCK)
    at_once = rebuilder.rebuild({1: data[1][:2048], 3: whole[0][:2048], 4: whole[1][:2048]}, [0, 2])
    for start in range(0, 2048, BLOCK):
        span = slice(start, start + BLOCK)
        row = {1: data[1][span], 3: whole[0][span], 4: whole[1][span]}
        assert rebuilder.rebuild(row, [0, 2]) == {p: b[span] for p, b in at_once.items()}
    assert at_once == {0: data[0][:2048], 2: data[2][:2048]}


@pytest.mark.parametrize(("k", "m"), [(1, 1), (1, 3), (2, 2), (4, 2), (5, 4)])
def test_every_loss_of_up_to_m_is_rebuilt(tmp_path: Path, k: int, m: int) -> None:
    data = [os.urandom(BLOCK) for _ in range(k)]
    row = dict(enumerate(data + encode(tmp_path, data, m)))
    rebuilder = Rebuilder(k, m, BLOCK)
    for count in range(1, m + 1):
        for lost in itertools.combinations(range(k + m), count):
            left = {position: row[position] for position in row if position not in lost}
            assert rebuilder.rebuild(left, lost) == {p: row[p] for p in lost}


@settings(max_examples=60, deadline=None)
@given(k=st.integers(1, 28), m=st.integers(1, 4), blocks=st.integers(1, 3), data=st.data())
def test_any_k_of_any_set_give_the_rest(
    tmp_path_factory: pytest.TempPathFactory, k: int, m: int, blocks: int, data: st.DataObject
) -> None:
    segments = [os.urandom(blocks * BLOCK) for _ in range(k)]
    row = dict(enumerate(segments + encode(tmp_path_factory.mktemp("set"), segments, m)))
    order = data.draw(st.permutations(range(k + m)))
    wanted = data.draw(st.lists(st.sampled_from(range(k + m)), max_size=4))
    rebuilt = Rebuilder(k, m, BLOCK).rebuild({p: row[p] for p in order[:k]}, wanted)
    assert rebuilt == {position: row[position] for position in wanted}


def test_what_can_not_be_rebuilt_is_refused() -> None:
    block = bytes(BLOCK)
    with pytest.raises(ValueError, match="1 positions are given, 2"):
        Rebuilder(2, 1, BLOCK).rebuild({0: block}, [1])
    with pytest.raises(ValueError, match="0 positions are given, 1"):
        Rebuilder(1, 0, BLOCK).rebuild({}, [0])
    for row, wanted in [
        ({0: block, 1: block * 2}, [2]),
        ({0: b"", 1: b""}, [2]),
        ({0: b"x", 1: b"x"}, [2]),
        ({0: block, 3: block}, [1]),
        ({0: block, 1: block}, [3]),
        ({0: block, 1: block}, [-1]),
    ]:
        with pytest.raises(ValueError, match=r"blocks of one size|positions are"):
            Rebuilder(2, 1, BLOCK).rebuild(row, wanted)


def test_segments_that_are_not_whole_blocks_are_refused(tmp_path: Path) -> None:
    for segments in ([bytes(BLOCK), b"x"], [], [bytes(BLOCK)] * 3):
        with pytest.raises(ValueError, match="segments in whole blocks"):
            encode_parity(write(tmp_path, segments), [tmp_path / "p"], BLOCK, k=2)


@pytest.mark.parametrize("blocks", [1, 4096])
def test_a_full_disk_is_said_so(tmp_path: Path, blocks: int) -> None:
    (tmp_path / "parity").symlink_to("/dev/full")
    data = write(tmp_path, [os.urandom(blocks * BLOCK)] * 2)
    with pytest.raises(DiskFull, match=str(tmp_path)):
        encode_parity(data, [tmp_path / "parity"], BLOCK)
