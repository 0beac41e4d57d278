"""Pieces of bulk statements."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
CHUNK = 5000


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut ``values`` into pieces that one statement can name."""
    return (values[start : start + CHUNK] for start in range(0, len(values), CHUNK))
