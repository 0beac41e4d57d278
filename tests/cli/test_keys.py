import stat
from pathlib import Path

import pytest

from restore_lib.cli.keys import write_new
from restore_lib.errors import ConfigError, Refused
from restore_lib.tape.age import load_identities
from tests.support.commands import as_json, refused, succeeds


def test_a_key_is_made_and_its_public_half_shown(tmp_path: Path) -> None:
    file = tmp_path / "new" / "key.txt"
    shown = succeeds(tmp_path, "keys", "generate", file).stdout.strip()
    assert load_identities(file)[0].recipient == shown
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "SECRET" not in shown
    other = as_json(tmp_path, "keys", "generate", tmp_path / "other.txt")
    assert other["recipient"].startswith("age1")
    assert other["recipient"] != shown


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "key.txt"
    file.write_text("precious")
    assert "not overwritten" in refused(tmp_path, "keys", "generate", file, code=64)
    assert file.read_text() == "precious"


def test_a_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="can't be written"):
        write_new(tmp_path / "file" / "below", "text", mode=0o600)
    with pytest.raises(Refused):
        write_new(tmp_path / "file", "text", mode=0o600)
