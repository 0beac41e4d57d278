"""Rebuild one lost tape file of a stripe from any K others, with Python alone.

usage: python3 rebuild.py K WANTED POSITION=FILE [POSITION=FILE ...] > rebuilt

K is the number of data volumes of the set and WANTED the position of the lost volume (0 ... K-1
data, from K on parity). Give K files: the same tape file number, read from K other volumes.
A data segment comes out at the length of the longest file; cut it to its length in STRIPES.json.
"""

import sys
from pathlib import Path

CHUNK = 1 << 20


def multiply(a: int, b: int) -> int:
    """Multiply in GF(2^8) with the polynomial 0x11d."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a = a << 1 ^ (0x11D if a & 0x80 else 0)
        b >>= 1
    return product


TIMES = [bytes(multiply(a, b) for b in range(256)) for a in range(256)]
INVERSE = [0] + [row.index(1) for row in TIMES[1:]]


def matrix_row(k: int, position: int) -> list[int]:
    """Return the row of the code's matrix for one volume: identity for data, Cauchy for parity."""
    if position < k:
        return [int(position == column) for column in range(k)]
    return [INVERSE[position ^ column] for column in range(k)]


def invert(matrix: list[list[int]]) -> list[list[int]]:
    """Invert a square matrix by Gauss-Jordan elimination."""
    size = len(matrix)
    work = [row + [int(i == j) for j in range(size)] for i, row in enumerate(matrix)]
    for i in range(size):
        pivot = next(row for row in range(i, size) if work[row][i])
        work[i], work[pivot] = work[pivot], work[i]
        scale = TIMES[INVERSE[work[i][i]]]
        work[i] = [scale[value] for value in work[i]]
        for row in range(size):
            if row != i and work[row][i]:
                times = TIMES[work[row][i]]
                work[row] = [a ^ times[b] for a, b in zip(work[row], work[i], strict=True)]
    return [row[size:] for row in work]


def factors(k: int, positions: list[int], wanted: int) -> list[int]:
    """Return what each present volume's bytes are multiplied by, before they are added up."""
    inverse = invert([matrix_row(k, position) for position in positions])
    target = matrix_row(k, wanted)
    result = [0] * k
    for row, coefficient in zip(inverse, target, strict=True):
        result = [a ^ TIMES[coefficient][b] for a, b in zip(result, row, strict=True)]
    return result


def main() -> None:
    """Run as the usage says."""
    k, wanted = int(sys.argv[1]), int(sys.argv[2])
    given = dict(argument.split("=", 1) for argument in sys.argv[3:])
    if len(given) != k:
        sys.exit(f"give exactly {k} files as POSITION=FILE")
    tables = [TIMES[factor] for factor in factors(k, [int(p) for p in given], wanted)]
    files = [Path(name).open("rb") for name in given.values()]  # noqa: SIM115  # closed at exit
    while any(chunks := [file.read(CHUNK) for file in files]):
        length = max(map(len, chunks))
        total = 0
        for chunk, table in zip(chunks, tables, strict=True):
            total ^= int.from_bytes(chunk.ljust(length, b"\0").translate(table), "little")
        sys.stdout.buffer.write(total.to_bytes(length, "little"))


if __name__ == "__main__":
    main()
