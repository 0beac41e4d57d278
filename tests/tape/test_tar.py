import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_lib.errors import CorruptTapeFile
from restore_lib.tape import tar

MEMBERS = {"objects/00000000.age": b"x" * 700, "empty": b"", "last": bytes(range(256)) * 4}


def test_an_archive_is_one_for_tarfile_and_whole_blocks() -> None:
    data = tar.archive(MEMBERS, 4096)
    assert len(data) % 4096 == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = {m.name: archive.extractfile(m) for m in archive.getmembers()}
        assert {name: file.read() for name, file in found.items() if file} == MEMBERS


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=100),
    st.integers(0, (8 << 30) - 1),
)
def test_headers_are_those_of_tarfile(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mtime = size, 315_532_800
    assert tar.header(name, size) == info.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize(("name", "size"), [("x" * 101, 0), ("x", 8 << 30)])
def test_what_a_header_can_not_say_is_refused(name: str, size: int) -> None:
    with pytest.raises(ValueError, match="does not fit a header"):
        tar.header(name, size)


def test_entries_give_names_offsets_and_payloads() -> None:
    data = tar.archive(MEMBERS, 4096)
    for entry in tar.entries(io.BytesIO(data)):
        assert data[entry.offset : entry.offset + entry.size] == MEMBERS[entry.name]
        assert entry.read() == MEMBERS[entry.name]


def test_payloads_that_nobody_reads_are_skipped() -> None:
    names = [entry.name for entry in tar.entries(io.BytesIO(tar.archive(MEMBERS, 4096)))]
    assert names == list(MEMBERS)


@pytest.mark.parametrize("cut", [100, 600, 1500, 3000, 3600])
def test_a_short_archive_is_corrupt(cut: int) -> None:
    data = tar.archive(MEMBERS, 512)[:cut]
    with pytest.raises(CorruptTapeFile):
        list(tar.entries(io.BytesIO(data)))


@pytest.mark.parametrize("at", [0, 150, 512 + 900, 1536 + 20, -1])
def test_damage_outside_of_payloads_is_corrupt(at: int) -> None:
    data = bytearray(tar.archive(MEMBERS, 4096))
    data[at] ^= 0x41
    with pytest.raises(CorruptTapeFile):
        list(tar.entries(io.BytesIO(data)))


def test_a_link_is_corrupt() -> None:
    info = tarfile.TarInfo("link")
    info.type = tarfile.SYMTYPE
    info.linkname = "/etc/passwd"
    with pytest.raises(CorruptTapeFile, match="not a regular file"):
        list(tar.entries(io.BytesIO(info.tobuf(tarfile.USTAR_FORMAT) + tar.END)))


def test_a_manifest_parses_back() -> None:
    text = tar.manifest_line("a b", "0" * 64) + tar.manifest_line("c", "f" * 64)
    assert tar.parse_manifest(text.encode()) == {"a b": "0" * 64, "c": "f" * 64}


@pytest.mark.parametrize("line", ["junk", "0" * 64 + " a", "0" * 62 + "  a", "zz" * 32 + "  a"])
def test_a_bad_manifest_line_is_named(line: str) -> None:
    good = tar.manifest_line("x", "0" * 64)
    with pytest.raises(CorruptTapeFile, match="Line 2"):
        tar.parse_manifest(f"{good}{line}\n".encode())
    with pytest.raises(CorruptTapeFile, match="cut short"):
        tar.parse_manifest(good.encode() + line.encode())
    with pytest.raises(CorruptTapeFile, match="Line 2"):
        tar.parse_manifest((good + good).encode())
