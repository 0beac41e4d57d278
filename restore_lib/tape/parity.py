"""Parity across the volumes of a tape set: ISA-L's Cauchy Reed-Solomon code, by pyeclib.

The code works byte by byte, so rows are taken many at a time, and any range of a lost tape file is
rebuilt from the same range of any k others. pyeclib's 80-byte fragment headers are not on tapes;
they depend on position and size only and are put back by encoding zeros.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pyeclib.ec_iface import ECDriver

from restore_lib.tape.label import CODE, check_geometry
from restore_lib.tape.streams import FileDigest, disk_errors, read_exactly

_HEADER = 80
_BATCH = 256 << 10
"""Bytes of each file that are coded at once: few enough to stay in a core's cache."""


@dataclass(frozen=True, slots=True)
class TapeFileSummary:
    """One tape file as staged: its length in blocks, its SHA-256 and its checksum (hex)."""

    blocks: int
    sha256: str
    checksum: str


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
) -> list[TapeFileSummary]:
    """Compute the parity of one stripe's segment files into ``outputs``, one for each of m.

    Return, of one pass, what is to be recorded of each file of the stripe, ``data`` first.

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
    batch = max(1, _BATCH // block_size) * block_size
    digests = [FileDigest() for _ in (*data, *outputs)]
    with disk_errors(data[0].parent), ExitStack() as stack:
        sources = [stack.enter_context(path.open("rb", buffering=0)) for path in data]
        sinks = [stack.enter_context(path.open("wb")) for path in outputs]
        for start in range(0, max(sizes), batch):
            length = min(batch, max(sizes) - start)
            row = [read_exactly(source, length) for source in sources]
            for digest, part in zip(digests, row, strict=False):
                digest.update(part)
            if driver is None:
                continue
            padded = [*(part.ljust(length, b"\0") for part in row), bytes(length * (k - len(data)))]
            parity = driver.encode(b"".join(padded))[k:]
            for sink, digest, fragment in zip(sinks, digests[len(data) :], parity, strict=True):
                digest.update(memoryview(fragment)[_HEADER:])
                sink.write(memoryview(fragment)[_HEADER:])
    return [TapeFileSummary(d.size // block_size, d.sha256, d.checksum) for d in digests]


def _driver(k: int, m: int) -> ECDriver | None:
    return ECDriver(k=k, m=m, ec_type=CODE) if m else None
