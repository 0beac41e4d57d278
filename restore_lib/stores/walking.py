"""A walk through a tree of folders in the byte order of whole paths."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

Detail = TypeVar("Detail")


class Child(NamedTuple, Generic[Detail]):
    """A file or folder in its folder; ``detail`` is whatever the store knows of it already."""

    name: bytes
    is_dir: bool
    detail: Detail


@dataclass(frozen=True, slots=True)
class Bounds:
    """The keys asked for: those that begin with ``prefix``, with ``after`` < key <= ``until``."""

    prefix: bytes = b""
    after: bytes | None = None
    until: bytes | None = None

    def hold(self, key: bytes) -> bool:
        """Tell whether ``key`` was asked for."""
        return (
            key.startswith(self.prefix)
            and (self.after is None or key > self.after)
            and not self.end_before(key)
        )

    def end_before(self, path: bytes) -> bool:
        """Tell whether neither ``path`` nor anything behind it was asked for."""
        return self.until is not None and path > self.until

    def meet(self, folder: bytes) -> bool:
        """Tell whether a key that begins with ``folder`` (which ends in a slash) can be wanted."""
        if not (folder.startswith(self.prefix) or self.prefix.startswith(folder)):
            return False
        return self.after is None or folder > self.after or self.after.startswith(folder)


def walk(
    children: Callable[[bytes], Iterable[Child[Detail]]], bounds: Bounds
) -> Iterator[tuple[bytes, Detail]]:
    """Yield the path and detail of each file within ``bounds``, in byte order of the paths.

    ``children`` gets a folder, "" or ending in a slash, and returns what is in it in any order. It
    is asked only for folders that can matter. Held in memory are the names of the folders on the
    way, not the tree.
    """
    stack = [_ordered(b"", children(b""))]
    while stack:
        path, child = next(stack[-1], (b"", None))
        if child is None:
            stack.pop()
        elif bounds.end_before(path):
            return
        elif not child.is_dir:
            if bounds.hold(path):
                yield path, child.detail
        elif bounds.meet(path):
            stack.append(_ordered(path, children(path)))


def _ordered(
    folder: bytes, children: Iterable[Child[Detail]]
) -> Iterator[tuple[bytes, Child[Detail] | None]]:
    pairs = [(child.name + b"/" if child.is_dir else child.name, child) for child in children]
    pairs.sort(key=lambda pair: pair[0])
    for name, child in pairs:
        yield folder + name, child
