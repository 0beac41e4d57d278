"""What each necessary stage alone could do on all cores of this machine, measured."""

import hashlib
import os
import random
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import zstandard
from pyeclib.ec_iface import ECDriver

from restore_lib.tape.age import Recipients, decrypt, encrypt, load_identities, new_identity

_CHUNK = 4 << 20
_K, _M = 4, 2


def limits(folder: Path, corpus: Path, size: int = 64 << 20) -> dict[str, float]:
    """Return MB/s of source data for each stage, all cores at work on it and on nothing else.

    Parity and disk are counted for the 4+2 tape files that each byte of source data becomes a part
    of: half as much again is written, flushed, and read back. Each core gets ``size`` bytes, the
    disk 32 times as many. A restore has to make each file of ``corpus``, which is made here from
    memory; what was made is left in ``folder`` (see ``datapath.thin``).
    """
    found = {name: _on_all_cores(name, size) for name in _STAGES}
    return found | _disk(folder, 32 * size) | {"files made": _files_made(folder, corpus)}


def _on_all_cores(name: str, size: int) -> float:
    cores = os.cpu_count() or 1
    with get_context("spawn").Pool(cores) as pool:
        pool.map(_stage, [(name, 0)] * cores, chunksize=1)
        rates = pool.map(_stage, [(name, size)] * cores, chunksize=1)
    return sum(rates)


def _stage(work: tuple[str, int]) -> float:
    name, size = work
    chunks = [random.randbytes(_CHUNK) for _ in range(max(1, size // _CHUNK))]
    prepared = _STAGES[name](chunks)
    begun = time.perf_counter()
    for one in prepared:
        one()
    return len(chunks) * _CHUNK / (time.perf_counter() - begun) / 1e6


def _sha256(chunks: list[bytes]) -> list[Callable[[], object]]:
    return [partial(hashlib.sha256, chunk) for chunk in chunks]


def _zstd(chunks: list[bytes]) -> list[Callable[[], object]]:
    packer = zstandard.ZstdCompressor(level=1)
    return [partial(packer.compress, chunk) for chunk in chunks]


def _encrypt(chunks: list[bytes]) -> list[Callable[[], object]]:
    recipients = Recipients.parse([new_identity()[1]])
    return [partial(encrypt, chunk, recipients) for chunk in chunks]


def _decrypt(chunks: list[bytes]) -> list[Callable[[], object]]:
    text, recipient = new_identity()
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(text)
        file.flush()
        identities = load_identities(Path(file.name))
    sealed = [encrypt(chunk, Recipients.parse([recipient])) for chunk in chunks]
    return [partial(decrypt, chunk, identities, what="a chunk") for chunk in sealed]


def _parity(chunks: list[bytes]) -> list[Callable[[], object]]:
    code = ECDriver(k=_K, m=_M, ec_type="isa_l_rs_cauchy")
    return [partial(code.encode, chunk) for chunk in chunks]


_STAGES = {
    "sha256": _sha256,
    "zstd -1": _zstd,
    "age encrypt": _encrypt,
    "age decrypt": _decrypt,
    "parity 4+2": _parity,
}


def _files_made(folder: Path, corpus: Path) -> float:
    """Return what all cores make of files as large as those of the corpus, flushed."""
    names = {path: path.stat().st_size for path in corpus.rglob("*") if path.is_file()}
    cores = os.cpu_count() or 1
    shares: list[dict[Path, int]] = [{} for _ in range(cores)]
    loads = [0] * cores
    for path, size in sorted(names.items(), key=lambda item: -item[1]):
        least = loads.index(min(loads))
        loads[least] += size
        shares[least][folder / "made" / path.relative_to(corpus)] = size
    os.sync()
    with get_context("spawn").Pool(cores) as pool:
        pool.map(_make, [{}] * cores, chunksize=1)
        begun = time.perf_counter()
        pool.map(_make, shares, chunksize=1)
        os.sync()
        return sum(names.values()) / (time.perf_counter() - begun) / 1e6


def _make(share: Mapping[Path, int]) -> None:
    data = memoryview(random.randbytes(_CHUNK))
    for path, size in share.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb", buffering=0) as file:
            for start in range(0, size, _CHUNK):
                file.write(data[: size - start])


def _disk(folder: Path, total: int) -> dict[str, float]:
    """Return what the disk takes, flushed, and what reading that again adds."""
    path = folder / "limit.bin"
    data = random.randbytes(_CHUNK)
    os.sync()
    try:
        begun = time.perf_counter()
        with path.open("wb", buffering=0) as file:
            for _ in range(total // _CHUNK):
                file.write(data)
            os.fsync(file.fileno())
        written = time.perf_counter()
        with path.open("rb", buffering=0) as file:
            while file.read(_CHUNK):
                pass
        ended = time.perf_counter()
    finally:
        path.unlink(missing_ok=True)
    plain = total / 1e6
    share = _K / (_K + _M)
    return {
        "disk write": plain / (written - begun),
        "disk write and read back, 4+2": share * plain / (ended - begun),
    }
