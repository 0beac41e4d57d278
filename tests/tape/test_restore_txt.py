"""The commands of RESTORE.txt, run as they stand with the real programs, on tapes made here."""

import hashlib
import json
import os
import re
import shlex
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from restore_lib.tape.label import Label, encode_label
from restore_lib.tape.parity import encode_parity
from restore_lib.tape.restore_txt import restore_text
from restore_lib.tape.volume_index import (
    Stripe,
    StripeMember,
    StripeTable,
    TapeFile,
    VolumeIndex,
    encode_stripe_table,
    write_volume_index,
)
from tests.support.programs import require_program
from tests.tape.conftest import BLOCK, WHEN, Keys, WriteSegment

READER = Path(__file__).parents[1] / "support" / "simh_reader.py"
OBJECTS = {
    b"shop/photos/K\xc3\xb6ln.jpg": os.urandom(50_000),
    b"shop/notes/order 17.txt": b"two of them, please\n" * 2000,
    b"shop/odd/\xff\n'name'": b"odd",
    b"shop/empty": b"",
}


@pytest.fixture(scope="module", autouse=True)
def _programs() -> None:
    for name in ("age", "dd", "python3", "sha256sum", "tar", "truncate", "zstd"):
        require_program(name)


def label(position: int, recipient: str, *, m: int = 2) -> Label:
    return Label(
        barcode=f"TF000{position}L9",
        cluster="example",
        tape_set="set-0001",
        k=3,
        m=m,
        position=position,
        block_size=BLOCK,
        created_at=WHEN,
        recipients=(recipient,),
    )


def steps(text: str) -> dict[int, str]:
    """Return the numbered commands of a RESTORE.txt."""
    found = re.findall(r"^  (\d+)\. +(\S.*)$", text, re.MULTILINE)
    return {int(number): command for number, command in found}


def shell(command: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-ec", command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    assert done.stderr == "" or "records in" in done.stderr, done.stderr
    return done.stdout


def write_tap(path: Path, files: list[bytes]) -> None:
    with path.open("wb") as tape:
        for data in files:
            for start in range(0, len(data), BLOCK):
                word = struct.pack("<I", BLOCK)
                tape.write(word + data[start : start + BLOCK] + word)
            tape.write(bytes(4))
        tape.write(b"\xff" * 4)


def read_tap(image: Path, number: int) -> bytes:
    command = [sys.executable, str(READER), str(image), str(number)]
    return subprocess.run(command, capture_output=True, check=True).stdout


def test_a_person_gets_objects_back_from_a_data_volume(
    tmp_path: Path, keys: Keys, write_segment: WriteSegment
) -> None:
    write_segment(tmp_path / "segment", OBJECTS)
    image, desk = tmp_path / "TF0000L9.tap", tmp_path / "desk"
    write_tap(
        image,
        [encode_label(label(0, keys.recipient)), (tmp_path / "segment").read_bytes()],
    )
    desk.mkdir()
    (desk / "key.txt").write_text(keys.path.read_text())
    (desk / "label.tar").write_bytes(read_tap(image, 0))
    shell("tar -xf label.tar", desk)
    text = (desk / "RESTORE.txt").read_text()
    commands = steps(text)
    assert sorted(commands) == list(range(1, 11))

    (desk / "tape-file-1").write_bytes(read_tap(image, 1))
    shell(commands[4].replace("/dev/nst0", "tape-file-1"), desk)
    for number in (5, 6, 7):
        assert shell(commands[number], desk) == ""
    lines = [json.loads(line) for line in (desk / "index.jsonl").read_text().splitlines()]
    assert len(lines) == len(OBJECTS)

    direct = re.search(r"^      (age .*00000000\.age.*)$", text, re.MULTILINE)
    assert direct is not None
    for line, (key, data) in zip(lines, OBJECTS.items(), strict=True):
        if "key" in line:
            search = commands[8].replace("'part/of/the/name'", shlex.quote(line["key"]))
            assert json.loads(shell(search, desk)) == line
            assert line["key"].encode() == key
        else:
            shown = f"printf %s {line['key_b64']} | base64 -d | sha256sum"
            assert shell(shown, desk).split()[0] == hashlib.sha256(key).hexdigest()
        packed = line["member"].endswith(".zst.age")
        decode = commands[9] if packed else direct.group(1)
        shell(re.sub(r"objects/\S+\.age", line["member"], decode), desk)
        assert (desk / "restored").read_bytes() == data
        assert shell(commands[10], desk).split()[0] == line["sha256"]
    assert {line["member"].endswith(".zst.age") for line in lines} == {True, False}


def test_damage_is_seen_by_a_person_without_a_key(
    tmp_path: Path, keys: Keys, write_segment: WriteSegment
) -> None:
    summary = write_segment(tmp_path / "segment", OBJECTS)
    damaged = bytearray((tmp_path / "segment").read_bytes())
    damaged[summary.members[1].offset + 150] ^= 1
    (tmp_path / "segment.tar").write_bytes(damaged)
    shell("tar -xf segment.tar", tmp_path)
    done = subprocess.run(
        ["sha256sum", "-c", "--quiet", "MANIFEST.sha256"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == f"{summary.members[1].name}: FAILED\n"


def test_the_volume_index_names_the_contents_of_every_tape_file(
    tmp_path: Path, keys: Keys, write_segment: WriteSegment
) -> None:
    summary = write_segment(tmp_path / "segment", OBJECTS)
    sha256 = hashlib.sha256((tmp_path / "segment").read_bytes()).hexdigest()
    index = VolumeIndex("TF0000L9", "set-0001", (TapeFile(1, summary.blocks, sha256),))
    write_volume_index(tmp_path / "contents.tar", index, [(1, summary.sealed_index)], BLOCK)
    (tmp_path / "key.txt").write_text(keys.path.read_text())
    text = encode_text(label(0, keys.recipient))
    assert "tar -xf contents.tar" in text
    shell("tar -xf contents.tar", tmp_path)
    assert shell("sha256sum -c --quiet MANIFEST.sha256", tmp_path) == ""
    read = steps(text)[7].replace("INDEX", "segments/00000001/INDEX")
    shell(read, tmp_path)
    keys_found = [
        json.loads(line).get("key") for line in (tmp_path / "index.jsonl").read_text().splitlines()
    ]
    assert "shop/notes/order 17.txt" in keys_found


def encode_text(volume: Label) -> str:
    return restore_text(
        barcode=volume.barcode,
        cluster=volume.cluster,
        tape_set=volume.tape_set,
        k=volume.k,
        m=volume.m,
        position=volume.position,
        block_size=volume.block_size,
        recipients=volume.recipients,
    )


def test_a_person_rebuilds_lost_volumes_with_the_program_on_the_tape(
    tmp_path: Path, keys: Keys, write_segment: WriteSegment
) -> None:
    paths = [tmp_path / f"data{n}" for n in range(3)]
    for number, path in enumerate(paths):
        write_segment(path, {b"%d-%d" % (number, n): os.urandom(9000) for n in range(5 - number)})
    parity = [tmp_path / "parity0", tmp_path / "parity1"]
    members = [
        StripeMember(number, f"TF000{number}L9", made.blocks, made.sha256)
        for number, made in enumerate(encode_parity(paths, parity, BLOCK))
    ]
    volume = label(4, keys.recipient)
    table = StripeTable(volume.barcode, "set-0001", 3, 2, 4, BLOCK, (Stripe(1, tuple(members)),))
    desk = tmp_path / "desk"
    desk.mkdir()
    image = tmp_path / "TF0004L9.tap"
    write_tap(image, [encode_label(volume), parity[1].read_bytes(), encode_stripe_table(table)])
    (desk / "label.tar").write_bytes(read_tap(image, 0))
    shell("tar -xf label.tar", desk)
    text = (desk / "RESTORE.txt").read_text()
    commands = steps(text)
    assert sorted(commands) == list(range(1, 11))

    (desk / "tape-file-2").write_bytes(read_tap(image, 2))
    shell(commands[4].replace("/dev/nst0", "tape-file-2"), desk)
    shell(commands[5], desk)
    told = json.loads(shell(commands[6], desk))["stripes"][0]["members"]

    program = text.split("rebuild.py: all lines below", 1)[1].split("\n", 1)[1]
    (desk / "rebuild.py").write_text(program)
    everything = [*paths, *parity]
    for wanted, given in [(0, (1, 2, 4)), (1, (0, 3, 4)), (2, (4, 0, 3)), (3, (0, 1, 2))]:
        for position in given:
            (desk / f"{position}.bin").write_bytes(everything[position].read_bytes())
        files = " ".join(f"{position}={position}.bin" for position in given)
        rebuild = re.sub(r"WANTED .* >", f"{wanted} {files} >", commands[9])
        shell(rebuild, desk)
        length = told[wanted]["blocks"] * BLOCK
        finish = commands[10].replace("LENGTH", str(length))
        assert shell(finish, desk).split()[0] == told[wanted]["sha256"]
        assert (desk / "segment.tar").read_bytes() == everything[wanted].read_bytes()
    assert "python3 rebuild.py 3 WANTED 1=1.bin 2=2.bin 4=4.bin > segment.tar" in text


@pytest.mark.parametrize("position", [0, 2])
def test_the_text_is_true_for_its_volume(position: int) -> None:
    volume = replace(label(position, "age1operating"), recipients=("age1operating", "age1escrow"))
    text = encode_text(volume)
    for fact in (volume.barcode, "set-0001", "example", f"bs={BLOCK}", "age1escrow", "3 data and"):
        assert fact in text
    assert f"data volume {position + 1} of 3" in text
    assert "any 3 other" in text
    assert max(map(len, text.splitlines())) < 100


def test_a_set_without_parity_promises_none() -> None:
    text = encode_text(label(0, "age1operating", m=0))
    assert "no parity volumes" in text
    assert "can be computed" not in text


def test_a_parity_volume_says_that_it_holds_no_files() -> None:
    text = encode_text(label(4, "age1operating"))
    assert text.startswith("THIS TAPE HOLDS PARITY, NOT FILES")
    assert "(positions 0 ... 2) first" in text
