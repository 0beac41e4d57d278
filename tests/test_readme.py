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


def test_every_link_of_a_document_leads_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    links = [
        (document, *link)
        for document in documents
        for link in re.findall(
            r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", document.read_text("utf-8")
        )
    ]
    assert len(links) > 20
    for document, target, anchor in links:
        path = document.parent / target if target else document
        assert path.exists(), (document.name, target)
        assert not anchor or anchor in anchors(path), (document.name, target, anchor)


def anchors(document: Path) -> set[str]:
    """Return what GitHub calls the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_leads_to_every_document() -> None:
    for document in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{document.name})" in README, document.name
