"""The reader in independent_reader.py knows docs/tape-format.md only; it reads what we write."""

import ast
import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import require_program
from tests.support.sites import back_up, image, make_site, write_files

READER = Path(__file__).with_name("independent_reader.py")
DOCUMENT = Path(__file__).parents[1] / "docs" / "tape-format.md"
POLICY = 'k = 3\nm = 1\nblock_size = "4KiB"\nsegment_size = "64KiB"'
CONTENTS = {b"%03d" % n: os.urandom(n * 150) for n in range(40)} | {
    b"cut/noise": os.urandom(200_000),
    b"cut/zeros": bytes(3_000_000),
    b"empty": b"",
    b"a\nb/\xff": b"hostile " * 500,
}


@pytest.fixture(scope="module", autouse=True)
def _programs() -> None:
    for name in ("age", "zstd"):
        require_program(name)


@pytest.fixture(scope="module")
def tapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the key and the images of a real backup to one set of 3+1, and its second."""
    root = tmp_path_factory.mktemp("site")
    folder = tmp_path_factory.mktemp("tapes")
    site = make_site(root, policy=POLICY)
    write_files(root / "live", CONTENTS)
    back_up(site)
    for position in range(4):
        shutil.copy(image(site, f"TF{position:04}L9"), folder)
    shutil.copy(root / "operating.txt", folder / "key.txt")
    site.close()
    return folder


def read(folder: Path, out: Path, *images: Path) -> tuple[int, list[str]]:
    """Run the reader as a program without our code at hand; return its status and report."""
    out.mkdir()
    command = [sys.executable, "-I", *map(str, (READER, folder / "key.txt", out, *images))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=out)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def restored(out: Path) -> dict[bytes, str]:
    """Return the digest of each object that was restored by its name."""
    found = {}
    for text in (out / "objects.jsonl").read_text().splitlines():
        line = json.loads(text)
        key = line["key"].encode() if "key" in line else base64.b64decode(line["key_b64"])
        found[key] = hashlib.sha256((out / line["file"]).read_bytes()).hexdigest()
    return found


def digests(contents: dict[bytes, bytes]) -> dict[bytes, str]:
    return {key: hashlib.sha256(data).hexdigest() for key, data in contents.items()}


def test_everything_is_read_from_the_data_volumes(tapes: Path, tmp_path: Path) -> None:
    images = sorted(tapes.glob("*.tap"))[:3]
    assert read(tapes, tmp_path / "out", *images) == (0, [])
    assert restored(tmp_path / "out") == digests(CONTENTS)


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_with_a_volume_missing_the_rest_is_read_and_the_lack_named(
    tapes: Path, tmp_path: Path, lost: int
) -> None:
    images = sorted(tapes.glob("*.tap"))
    del images[lost]
    status, report = read(tapes, tmp_path / "out", *images)
    assert status == 1
    assert [line for line in report if line.startswith(f"data volume {lost} of tape set")]
    found, wanted = restored(tmp_path / "out"), digests(CONTENTS)
    assert found.items() <= wanted.items()
    assert 0 < len(found) < len(wanted)
    assert [line for line in report if line.startswith("parts [") and "cut/noise" in line]


def test_damage_costs_what_is_damaged_and_is_named(tapes: Path, tmp_path: Path) -> None:
    images = sorted(tapes.glob("*.tap"))[:3]
    spoiled = tmp_path / images[0].name
    data = bytearray(images[0].read_bytes())
    data[data.index(b"objects/", len(data) // 4) + 512 + 150] ^= 1  # in a payload
    spoiled.write_bytes(data)
    status, report = read(tapes, tmp_path / "out", spoiled, *images[1:])
    assert status == 1
    assert report
    found = restored(tmp_path / "out")
    assert found.items() < digests(CONTENTS).items()


def test_a_tape_of_another_format_is_refused_by_name(tapes: Path, tmp_path: Path) -> None:
    data = (tapes / "TF0000L9.tap").read_bytes()
    start = data.index(b'{"format":1')
    ours = data[start : data.index(b"\n", start) + 1]
    theirs = ours.replace(b'"format":1', b'"format":2')
    old, new = (hashlib.sha256(text).hexdigest().encode() for text in (ours, theirs))
    (tmp_path / "TF0000L9.tap").write_bytes(data.replace(ours, theirs).replace(old, new))
    (tmp_path / "out").mkdir()
    paths = READER, tapes / "key.txt", tmp_path / "out", tmp_path / "TF0000L9.tap"
    command = [sys.executable, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "format 2 is not known" in done.stderr


def test_it_is_short_and_uses_the_standard_library_alone() -> None:
    text = READER.read_text("utf-8")
    assert len(text.splitlines()) < 150
    nodes = list(ast.walk(ast.parse(text)))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


def test_every_name_that_it_uses_is_in_the_document() -> None:
    named = set(re.findall(r"`([^`]+)`", DOCUMENT.read_text("utf-8")))
    used = set(re.findall(r'(?:line|label|found|last)(?:\.get\(|\[)"([^"]+)"', READER.read_text()))
    assert len(used) > 8
    assert used <= named
