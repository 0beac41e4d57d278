import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from restore_lib.backup.pack import Piece, pieces
from restore_lib.backup.sources import Sources
from restore_lib.errors import ObjectUnreadable
from restore_lib.stores.local import LocalStore
from tests.support.sites import write_files

DATA = bytes(range(250))


@pytest.fixture
def live(tmp_path: Path) -> Path:
    write_files(tmp_path / "live", {b"a/b": DATA, b"c": b"xyz"})
    return tmp_path / "live"


def cut(live: Path, part_size: int) -> list[Piece]:
    found = LocalStore("live", live).list()
    return [piece for source in found for piece in pieces(source, part_size)]


@pytest.fixture
def sources(live: Path) -> Iterator[Sources]:
    opened = Sources(LocalStore("live", live))
    yield opened
    opened.close()


def test_the_pieces_of_an_object_are_read_one_after_the_other(sources: Sources, live: Path) -> None:
    read = []
    for piece in cut(live, 100):
        read.append(sources.open(piece).read())
        if piece.parts > 1 and piece.is_last:
            assert sources.digest() == hashlib.sha256(DATA).hexdigest()
    assert read == [DATA[:100], DATA[100:200], DATA[200:], b"xyz"]


def test_small_reads_end_where_the_piece_ends(sources: Sources, live: Path) -> None:
    [first, *_] = cut(live, 100)
    part = sources.open(first)
    assert [len(part.read(64)) for _ in range(4)] == [64, 36, 0, 0]


def test_of_an_object_that_has_grown_more_than_announced_is_read(
    sources: Sources, live: Path
) -> None:
    [*_, last] = cut(live, 1000)
    with (live / "c").open("ab") as file:
        file.write(b"more")
    assert len(sources.open(last).read()) > last.size


def test_an_object_that_changes_before_its_end_is_unreadable(sources: Sources, live: Path) -> None:
    [*_, last] = cut(live, 1000)
    part = sources.open(last)
    assert part.read(3) == b"xyz"
    (live / "c").write_bytes(b"123")
    with pytest.raises(ObjectUnreadable, match="changed while it was read"):
        part.read(3)


def test_a_part_whose_object_is_closed_is_unreadable(sources: Sources, live: Path) -> None:
    first, second, *_ = cut(live, 100)
    sources.open(first)
    sources.close()
    with pytest.raises(ObjectUnreadable, match="not open any more"):
        sources.open(second)


def test_a_name_too_long_for_the_catalog_is_unreadable(live: Path) -> None:
    [piece, *_] = cut(live, 1000)
    with pytest.raises(ObjectUnreadable, match="a/b has a name of 3 bytes"):
        Sources(LocalStore("live", live), longest_key=2).open(piece)
