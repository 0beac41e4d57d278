import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from restore_lib.cli.app import app
from restore_lib.config import load_config
from tests.support.commands import as_json, refused, succeeds
from tests.support.sites import digests


def init(root: Path, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["init", str(root), *arguments])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / 'my "data"'
    folder.mkdir()
    (folder / "a").write_bytes(b"content")
    return folder


def test_from_nothing_to_a_restore(tmp_path: Path, data: Path) -> None:
    root = tmp_path / "cluster"
    init(root, "--store", str(data), "--cluster", "shop")
    succeeds(root, "library", "add-blank", *(f"TF{n}L9" for n in range(6)))
    succeeds(root, "backup", "run", "live")
    (data / "a").unlink()
    incident = as_json(root, "loss-scan", "live")["incident_id"]
    succeeds(root, "restore", "run", "--incident", incident, "--yes")
    assert digests(data).keys() == {b"a"}
    assert load_config(root / "tapeflow.toml").cluster.id == "shop"


def test_keys_are_for_their_owner_only(tmp_path: Path, data: Path) -> None:
    init(tmp_path / "cluster", "--store", str(data))
    for name in ("operating", "escrow"):
        mode = (tmp_path / "cluster" / "keys" / f"{name}.txt").stat().st_mode
        assert stat.S_IMODE(mode) == 0o600


def test_the_escrow_key_opens_what_was_written(tmp_path: Path, data: Path) -> None:
    root = tmp_path / "cluster"
    init(root, "--store", str(data))
    succeeds(root, "library", "add-blank", *(f"TF{n}L9" for n in range(6)))
    succeeds(root, "backup", "run", "live")
    (data / "a").unlink()
    (root / "keys" / "operating.txt").unlink()
    choice = ["--everything", "--store", "live", "--yes"]
    assert "operating.txt" in refused(root, "restore", "run", *choice, code=78)
    (root / "keys" / "escrow.txt").rename(root / "keys" / "operating.txt")
    succeeds(root, "restore", "run", *choice)
    assert (data / "a").read_bytes() == b"content"


def test_nothing_is_overwritten(tmp_path: Path, data: Path) -> None:
    root = tmp_path / "cluster"
    init(root, "--store", str(data))
    before = digests(root)
    assert "exists already" in init(root, "--store", str(data), code=64)
    assert digests(root) == before


def test_what_was_interrupted_is_finished_with_the_same_keys(tmp_path: Path, data: Path) -> None:
    root = tmp_path / "cluster"
    init(root, "--store", str(data))
    before = (root / "tapeflow.toml").read_text()
    (root / "tapeflow.toml").unlink()
    (root / "catalog.db").unlink()
    init(root, "--store", str(data))
    assert (root / "tapeflow.toml").read_text() == before
    succeeds(root, "catalog", "check")


def test_a_bad_name_is_refused_before_anything_is_made(tmp_path: Path, data: Path) -> None:
    assert "name of a cluster" in init(
        tmp_path / "cluster", "--store", str(data), "--cluster", "Bad Name", code=64
    )
    assert not (tmp_path / "cluster").exists()


def test_a_folder_that_config_files_cannot_name_is_refused(tmp_path: Path) -> None:
    folder = Path(str(tmp_path).encode().decode(), "odd-\udcff")
    folder.mkdir()
    assert "not UTF-8" in init(tmp_path / "cluster", "--store", str(folder), code=64)
