"""Parity across the volumes of a tape set: ISA-L's Cauchy Reed-Solomon code, by pyeclib.

The code works byte by byte, so rows are taken many at a time, and any range of a lost tape file is
rebuilt from the same range of any k others. pyeclib's 80-byte fragment headers are not on tapes;
they depend on position and size only and are put back by encoding zeros.
"""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pyeclib.ec_iface import ECDriver

from restore_lib.tape.label import CODE, check_geometry
from restore_lib.tape.streams import disk_errors, read_exactly

_HEADER = 80
_BATCH = 1 << 20


@dataclass(frozen=True, slots=True)
class ParitySummary:
    """One parity tape file: its length in blocks and its SHA-256 (hex)."""

    blocks: int
    sha256: str


class Rebuilder:
    """Computes lost blocks of a stripe from any k others."""

    def __init__(self, k: int, m: int, block_size: int) -> None:
        check_geometry(k, m, block_size)
        self._k = k
        self._m = m
        self._block_size = block_size
        self._driver = _driver(k, m)
        self._headers: dict[int, list[bytes]] = {}

    def rebuild(self, row: Mapping[int, bytes], wanted: Sequence[int]) -> dict[int, bytes]:
        """Return the bytes at the ``wanted`` positions, data or parity.

        ``row`` has, by position 0 … k+m-1, the same range of the stripe's tape files: one block or
        any number of blocks, with zeros for what lies behind a file's end. ValueError when there
        are fewer than k, or when they are not of one length in whole blocks.
        """
        if not {*row, *wanted} <= set(range(self._k + self._m)):
            raise ValueError(f"positions are 0 to {self._k + self._m - 1}")
        lost = sorted({position for position in wanted if position not in row})
        found = {position: row[position] for position in wanted if position in row}
        if not lost:
            return found
        if len(row) < self._k or self._driver is None:
            raise ValueError(f"{len(row)} positions are given, {self._k} are needed")
        headers = self._fragment_headers(self._driver, self._common_size(row))
        fragments = [headers[position] + block for position, block in row.items()]
        rebuilt = self._driver.reconstruct(fragments, lost)
        return found | {
            position: fragment[_HEADER:] for position, fragment in zip(lost, rebuilt, strict=True)
        }

    def _common_size(self, row: Mapping[int, bytes]) -> int:
        sizes = {len(block) for block in row.values()}
        if len(sizes) != 1 or (size := sizes.pop()) == 0 or size % self._block_size:
            raise ValueError(f"blocks of one size are needed, in multiples of {self._block_size}")
        return size

    def _fragment_headers(self, driver: ECDriver, size: int) -> list[bytes]:
        if size not in self._headers:
            zeros = driver.encode(bytes(self._k * size))
            self._headers = {size: [fragment[:_HEADER] for fragment in zeros]}
        return self._headers[size]


def encode_parity(
    data: Sequence[Path], outputs: Sequence[Path], block_size: int, *, k: int | None = None
) -> list[ParitySummary]:
    """Compute the parity of one stripe's segment files into ``outputs``, one for each of m.

    Segments are whole blocks and may differ in length; one that has ended counts as zeros, and so
    do positions that are missing when ``k`` is more than the files given. Each output is as long as
    the longest segment. Existing outputs are overwritten; they are complete only on return.
    ValueError for a segment that is not a whole number of blocks.
    """
    k = len(data) if k is None else k
    check_geometry(k, len(outputs), block_size)
    sizes = [path.stat().st_size for path in data]
    if len(data) > k or not sizes or any(size % block_size for size in sizes):
        raise ValueError(f"1 to {k} segments in whole blocks of {block_size} bytes are needed")
    driver = _driver(k, len(outputs))
    if driver is None:
        return []
    batch = max(1, _BATCH // block_size) * block_size
    with disk_errors(outputs[0].parent), ExitStack() as stack:
        sources = [stack.enter_context(path.open("rb")) for path in data]
        sinks = [_Output(stack.enter_context(path.open("wb"))) for path in outputs]
        for start in range(0, max(sizes), batch):
            length = min(batch, max(sizes) - start)
            row = [read_exactly(source, length).ljust(length, b"\0") for source in sources]
            row.append(bytes(length * (k - len(data))))
            for sink, fragment in zip(sinks, driver.encode(b"".join(row))[k:], strict=True):
                sink.write(memoryview(fragment)[_HEADER:])
    blocks = max(sizes) // block_size
    return [ParitySummary(blocks, sink.digest.hexdigest()) for sink in sinks]


class _Output:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, data: memoryview) -> None:
        self._file.write(data)
        self.digest.update(data)


def _driver(k: int, m: int) -> ECDriver | None:
    return ECDriver(k=k, m=m, ec_type=CODE) if m else None
