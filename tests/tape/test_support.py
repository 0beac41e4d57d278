"""The helpers that this folder's tests lean on."""

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import require_program

READER = Path(__file__).parents[1] / "support" / "simh_reader.py"


def test_a_program_that_no_package_has_fails_the_test_by_name() -> None:
    with pytest.raises(AssertionError, match="tapeflow-no-such"):
        require_program("tapeflow-no-such")


def test_a_program_that_is_there_is_found() -> None:
    assert require_program("tar").is_file()


def read(image: Path, number: int) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, str(READER), str(image), str(number)]
    return subprocess.run(command, capture_output=True, check=False)


def record(data: bytes) -> bytes:
    word = struct.pack("<I", len(data))
    return word + data + bytes(len(data) % 2) + word


def test_the_reader_of_images_finds_each_tape_file(tmp_path: Path) -> None:
    image = tmp_path / "a.tap"
    mark, end = bytes(4), b"\xff" * 4
    image.write_bytes(record(b"odd") + record(b"even") + mark + mark + record(b"x") + mark + end)
    assert [read(image, number).stdout for number in range(4)] == [b"oddeven", b"", b"x", b""]
    image.write_bytes(record(b"odd")[:-1] + b"\1")
    assert read(image, 0).returncode == 1
