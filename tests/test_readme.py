"""The README's commands for one's own store run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_commands_for_your_own_store_bring_a_file_back(tmp_path: Path) -> None:
    section = README.partition("## Your own store")[2]
    [block] = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    store = tmp_path / "objects"
    store.mkdir()
    (store / "photo.jpg").write_bytes(b"the only copy")
    (store / "other.txt").write_bytes(b"another")
    lines = [line.removeprefix("$ ") for line in block.splitlines()]
    script = "\n".join(lines).replace("/data/objects", str(store))
    command = f'set -e\ntapeflow() {{ "{sys.executable}" -m restore_lib.cli "$@"; }}\n{script}'
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (store / "photo.jpg").read_bytes() == b"the only copy"


def test_every_document_that_the_readme_names_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)", README):
        assert (ROOT / target).exists(), target
