"""One object from tape images by hand, as the RESTORE.txt on the tape says; no code of ours."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select

from restore_lib.catalog import tables
from restore_lib.site import Site
from tests.support.programs import require_program
from tests.support.sites import back_up, image, make_site, write_files

READER = Path(__file__).parents[1] / "support" / "simh_reader.py"
SECRET = b"a letter\n" * 4000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for program in ("age", "tar", "zstd", "sha256sum"):
        require_program(program)
    site = make_site(tmp_path / "site")
    contents = {b"%02d" % n: os.urandom(n * 9000) for n in range(20)}
    write_files(tmp_path / "site" / "live", contents | {b"letter": SECRET})
    back_up(site)
    copy_tapes(site, tmp_path)
    site.close()
    return tmp_path


def copy_tapes(site: Site, to: Path) -> None:
    """Leave the key, and of the volume with the letter only its image."""
    query = (
        select(tables.tape_files.c.barcode)
        .join(
            tables.extents,
            (tables.extents.c.stripe_id == tables.tape_files.c.stripe_id)
            & (tables.extents.c.position == tables.tape_files.c.position),
        )
        .join(tables.versions, tables.versions.c.id == tables.extents.c.version_id)
        .join(tables.objects, tables.objects.c.id == tables.versions.c.object_id)
        .where(tables.objects.c.key == b"letter")
    )
    with site.catalog.read() as connection:
        barcode = connection.execute(query).scalar_one()
    (to / "tape.tap").write_bytes(image(site, barcode).read_bytes())
    (to / "key.txt").write_bytes((to / "site" / "operating.txt").read_bytes())


def shell(folder: Path, command: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=folder, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def steps(text: str) -> dict[int, str]:
    """Return the numbered commands of a RESTORE.txt."""
    found = re.findall(r"^ +(\d+)\. +(\S.*)$", text, re.MULTILINE)
    return {int(number): command for number, command in found}


def test_an_object_is_read_with_the_commands_on_the_tape(folder: Path) -> None:
    read = f"{sys.executable} {READER} ../tape.tap"
    (folder / "label").mkdir()
    shell(folder / "label", f"{read} 0 | tar -x")
    step = steps((folder / "label" / "RESTORE.txt").read_text())
    assert step[3].endswith("fsf 1")
    assert step[4].startswith("dd ")
    step[8] = step[8].replace("part/of/the/name", "letter") + " || true"
    for number in range(1, 10):  # the next tape file, in a fresh folder, until it has the letter
        work = folder / f"file-{number}"
        work.mkdir()
        (work / "key.txt").symlink_to(folder / "key.txt")
        shell(work, f"{read} {number} > segment.tar")  # steps 1 to 4, without a drive
        for command in (5, 6, 7):
            shell(work, step[command])
        if found := shell(work, step[8]):
            break
    line = json.loads(found)
    step[9] = step[9].replace("objects/00000000.zst.age", line["member"])
    shell(work, step[9])
    assert shell(work, step[10]).split()[0] == line["sha256"] == hashlib.sha256(SECRET).hexdigest()
    assert (work / "restored").read_bytes() == SECRET
