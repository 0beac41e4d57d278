import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from restore_lib.errors import DiskFull
from restore_lib.tape.streams import BlockReader, digest_of, disk_errors, read_exactly


def test_blocks_read_as_one_stream() -> None:
    blocks = [b"abc", b"", b"defg", b"h"]
    reader = BlockReader(blocks)
    assert read_exactly(reader, 5) == b"abcde"
    assert reader.read() == b"fgh"
    assert reader.read(1) == b""
    assert reader.blocks == 4
    assert reader.sha256 == hashlib.sha256(b"abcdefgh").hexdigest()


def test_what_the_blocks_raise_passes() -> None:
    def failing() -> Iterator[bytes]:
        yield b"a"
        raise ZeroDivisionError

    reader = BlockReader(failing())
    assert reader.read(1) == b"a"
    with pytest.raises(ZeroDivisionError):
        reader.read(1)


def test_read_exactly_stops_at_the_end() -> None:
    assert read_exactly(BlockReader([b"ab", b"c"]), 9) == b"abc"


def test_digest_of_a_stream() -> None:
    data = bytes(3 << 20)
    assert digest_of(io.BytesIO(data)) == (len(data), hashlib.sha256(data).hexdigest())


def test_a_full_disk_is_named() -> None:
    with (
        pytest.raises(DiskFull, match="/staging/x"),
        disk_errors(Path("/staging/x")),
        Path("/dev/full").open("wb") as full,
    ):
        full.write(b"x")
