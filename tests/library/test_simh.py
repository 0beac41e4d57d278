"""SIMH tape images: the format to the byte, damage, torn ends, and a model in plain lists."""

import errno
import os
import struct
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from restore_lib.errors import DiskFull, EndOfData, MediumError, Refused, VolumeAbsent
from restore_lib.library.base import Position
from restore_lib.library.simh import MAX_RECORD, TapeImage


@pytest.fixture
def path(tmp_path: Path) -> Path:
    image = tmp_path / "VT0001.tap"
    image.touch()
    return image


def write_files(path: Path, *files: list[bytes]) -> None:
    with TapeImage(path, writable=True) as tape:
        for blocks in files:
            for block in blocks:
                tape.write(block)
            tape.write_filemark()


def test_bytes_of_the_format(path: Path) -> None:
    write_files(path, [b"abc", b"defg"], [])
    assert path.read_bytes() == (
        b"\x03\0\0\0abc\0\x03\0\0\0" + b"\x04\0\0\0defg\x04\0\0\0" + b"\0\0\0\0" + b"\0\0\0\0"
    )


def test_reads_what_another_program_wrote_up_to_its_end_of_medium(path: Path) -> None:
    path.write_bytes(b"\x02\0\0\0hi\x02\0\0\0" + bytes(4) + b"\xff" * 4 + b"junk behind")
    with TapeImage(path) as tape:
        assert tape.read() == b"hi"
        assert tape.read() is None
        with pytest.raises(EndOfData, match="file 1, block 0"):
            tape.read()
        assert tape.space_to_end() == Position(1, 0)


def test_blank_tape(path: Path) -> None:
    with TapeImage(path) as tape:
        tape.locate(0, 0)
        with pytest.raises(EndOfData):
            tape.read()
        with pytest.raises(EndOfData):
            tape.locate(1)
        assert tape.space_to_end() == Position(0, 0)


def test_absent_image(tmp_path: Path) -> None:
    with pytest.raises(VolumeAbsent, match=r"NONE\.tap"):
        TapeImage(tmp_path / "NONE.tap")


def test_locate_past_the_end_of_a_file_stops_at_it(path: Path) -> None:
    write_files(path, [b"a", b"b"], [b"c"])
    with TapeImage(path) as tape:
        with pytest.raises(EndOfData, match="2 blocks in file 0"):
            tape.locate(0, 3)
        assert tape.position == Position(0, 2)
        assert tape.read() is None
        assert tape.read() == b"c"
        with pytest.raises(ValueError, match="no such place"):
            tape.locate(0, -1)


def test_locate_is_not_fooled_by_data_that_look_like_framing(path: Path) -> None:
    decoy = struct.pack("<I", 4) + b"evil" + struct.pack("<I", 4)
    blocks = [b"good", decoy, b"true", decoy * 2, b"last"]
    write_files(path, blocks)
    with TapeImage(path) as tape:
        for n in (4, 2, 3, 1, 0, 2, 4):
            tape.locate(0, n)
            assert tape.read() == blocks[n]


def test_locate_in_a_surveyed_file_reads_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(path, [bytes([n]) * 64 for n in range(100)], [])
    with TapeImage(path) as tape:
        tape.space_to_end()
        reads: list[int] = []
        real = os.pread

        def counting(fd: int, size: int, offset: int) -> bytes:
            reads.append(offset)
            return real(fd, size, offset)

        monkeypatch.setattr(os, "pread", counting)
        tape.locate(0, 77)
        assert reads == []
        assert tape.read() == bytes([77]) * 64


@pytest.mark.parametrize("where", [0, 4 + 8])
def test_damaged_length_word_is_a_medium_error(path: Path, where: int) -> None:
    write_files(path, [b"8 bytes!", b"8 bytes?"])
    damaged = bytearray(path.read_bytes())
    damaged[where] ^= 0b110
    path.write_bytes(damaged)
    with TapeImage(path) as tape:
        with pytest.raises(MediumError, match="VT0001 is damaged at byte 0"):
            tape.read()
        with pytest.raises(MediumError):
            tape.space_to_end()
        with pytest.raises(MediumError):
            tape.locate(1)
        assert tape.position == Position(0, 0)


def test_record_of_another_class_is_a_medium_error(path: Path) -> None:
    path.write_bytes(b"\x02\0\0\x80hi\x02\0\0\x80")
    with TapeImage(path) as tape, pytest.raises(MediumError, match="0x80000002"):
        tape.read()


def test_each_torn_end_counts_as_not_written_and_is_overwritten(tmp_path: Path) -> None:
    whole = tmp_path / "whole.tap"
    whole.touch()
    write_files(whole, [b"one", b"two"])
    content = whole.read_bytes()
    ends = [0, 12, 24, 28]
    for size in range(len(content) + 1):
        torn = tmp_path / f"torn-{size}.tap"
        torn.write_bytes(content[:size])
        units = sum(end <= size for end in ends) - 1
        with TapeImage(torn, writable=True) as tape:
            end = tape.space_to_end()
            assert end == [Position(0, 0), Position(0, 1), Position(0, 2), Position(1, 0)][units]
            tape.write(b"new")
        assert torn.read_bytes() == content[: ends[units]] + b"\3\0\0\0new\0\3\0\0\0"


def test_read_only_image_is_not_written(path: Path) -> None:
    write_files(path, [b"a"])
    before = path.read_bytes()
    with TapeImage(path) as tape:
        with pytest.raises(Refused, match="for reading only"):
            tape.write(b"b")
        with pytest.raises(Refused):
            tape.write_filemark()
    assert path.read_bytes() == before


@pytest.mark.parametrize("record", [b"", bytes(MAX_RECORD + 1)], ids=["empty", "too long"])
def test_record_that_the_format_cannot_hold(path: Path, record: bytes) -> None:
    with TapeImage(path, writable=True) as tape, pytest.raises(ValueError, match="a record has"):
        tape.write(record)
    assert path.read_bytes() == b""


def test_full_disk_leaves_nothing_of_the_record(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(path, [b"kept"])
    before = path.read_bytes()
    with TapeImage(path, writable=True) as tape:
        tape.space_to_end()
        with monkeypatch.context() as patch:

            def full(fd: int, data: bytes, offset: int) -> int:
                raise OSError(errno.ENOSPC, "No space left on device")

            real = os.pwrite
            patch.setattr(os, "pwritev", lambda fd, p, o: real(fd, b"".join(p)[:6], o))
            patch.setattr(os, "pwrite", full)
            with pytest.raises(DiskFull, match=r"VT0001\.tap is full"):
                tape.write(b"does not fit")
        assert path.read_bytes() == before
        tape.write(b"fits")
        tape.write_filemark()
        tape.locate(1)
        assert tape.read() == b"fits"


def test_short_write_is_carried_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwritev", lambda fd, p, o: real(fd, b"".join(p)[:5], o))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, o: real(fd, bytes(data)[:2], o))
    write_files(path, [b"in little pieces"])
    with TapeImage(path) as tape:
        assert tape.read() == b"in little pieces"
        assert tape.read() is None


class Tape:
    """A tape as lists of blocks: every list but the last is ended by a filemark."""

    def __init__(self) -> None:
        self.files: list[list[bytes]] = [[]]
        self.file = self.block = 0

    def cut(self) -> None:
        del self.files[self.file + 1 :]
        del self.files[self.file][self.block :]

    def image_size(self) -> int:
        """Return the bytes of an image with these files and nothing torn behind them."""
        blocks = [block for file in self.files for block in file]
        return 4 * (len(self.files) - 1) + sum(8 + len(b) + len(b) % 2 for b in blocks)


class TapeImageAgainstLists(RuleBasedStateMachine):
    """Any row of operations, crashes included, does to an image what it does to lists."""

    folder: Path

    @initialize()
    def blank(self) -> None:
        self.path = self.folder / "model.tap"
        self.path.write_bytes(b"")
        self.model = Tape()
        self.tape = TapeImage(self.path, writable=True)

    @rule(block=st.one_of(st.just(b"same length"), st.binary(min_size=1, max_size=20)))
    def write(self, block: bytes) -> None:
        self.tape.write(block)
        self.model.cut()
        self.model.files[-1].append(block)
        self.model.block += 1

    @rule()
    def write_filemark(self) -> None:
        self.tape.write_filemark()
        self.model.cut()
        self.model.files.append([])
        self.model.file, self.model.block = self.model.file + 1, 0

    @rule()
    def read(self) -> None:
        model = self.model
        if model.block < len(model.files[model.file]):
            assert self.tape.read() == model.files[model.file][model.block]
            model.block += 1
        elif model.file + 1 < len(model.files):
            assert self.tape.read() is None
            model.file, model.block = model.file + 1, 0
        else:
            with pytest.raises(EndOfData):
                self.tape.read()

    @rule(file=st.integers(0, 5), block=st.integers(0, 5))
    def locate(self, file: int, block: int) -> None:
        model = self.model
        if file < len(model.files) and block <= len(model.files[file]):
            self.tape.locate(file, block)
            model.file, model.block = file, block
        else:
            with pytest.raises(EndOfData):
                self.tape.locate(file, block)
            model.file = min(file, len(model.files) - 1)
            model.block = len(model.files[model.file])

    @rule()
    def rewind(self) -> None:
        self.tape.rewind()
        self.model.file = self.model.block = 0

    @rule()
    def space_to_end(self) -> None:
        end = self.tape.space_to_end()
        self.model.file = len(self.model.files) - 1
        self.model.block = len(self.model.files[-1])
        assert end == Position(self.model.file, self.model.block)

    @rule(lost=st.integers(0, 40))
    def crash(self, lost: int) -> None:
        """Open anew, with up to ``lost`` bytes of the last record or filemark torn off."""
        self.tape.close()
        model, size = self.model, self.path.stat().st_size
        if lost and size and size == model.image_size():
            model.files[-1].pop() if model.files[-1] else model.files.pop()
        os.truncate(self.path, max(size - lost, model.image_size()))
        self.tape = TapeImage(self.path, writable=True)
        self.model.file = self.model.block = 0

    @invariant()
    def head_is_where_the_model_has_it(self) -> None:
        if hasattr(self, "tape"):
            assert self.tape.position == Position(self.model.file, self.model.block)

    def teardown(self) -> None:
        if hasattr(self, "tape"):
            self.rewind()
            for file, following in pairwise([*self.model.files, None]):
                for block in file or []:
                    assert self.tape.read() == block
                if following is not None:
                    assert self.tape.read() is None
            with pytest.raises(EndOfData):
                self.tape.read()
            self.tape.close()


def test_any_operations_agree_with_the_model(tmp_path: Path) -> None:
    class Machine(TapeImageAgainstLists):
        folder = tmp_path

    case = Machine.TestCase
    case.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
    case("runTest").runTest()
