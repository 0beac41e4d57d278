import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from restore_lib.cli.app import COMMANDS, app, load_command
from restore_lib.config import Config
from restore_lib.config_tables import Section
from tests.support.commands import as_json, process, refused, succeeds

ROOT = Path(__file__).parents[2]
HEAVY = ["boto3", "botocore", "paramiko", "duckdb", "moto", "sqlalchemy", "pydantic", "airflow"]


def commands(command: Any, *path: str) -> list[tuple[str, ...]]:
    below = getattr(command, "commands", {})
    return [path] + [one for name in below for one in commands(below[name], *path, name)]


def all_commands() -> list[tuple[str, ...]]:
    return [one for name in COMMANDS for one in commands(load_command(name), name)]


@pytest.mark.parametrize("command", all_commands(), ids=" ".join)
def test_every_command_explains_itself(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.stdout
    loaded = load_command(command[0])
    for name in command[1:]:
        loaded = loaded.commands[name]
    assert loaded.help


def test_help_imports_nothing_heavy() -> None:
    code = f"""
import sys
from restore_lib.cli.app import app
try:
    app(["--help"])
except SystemExit as end:
    assert end.code == 0
found = sorted(set({HEAVY}) & set(sys.modules))
assert not found, found
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)


def test_a_local_restore_imports_no_cloud_library(cluster: Path) -> None:
    code = """
import sys
from restore_lib.cli.app import app
try:
    app(["restore", "run", "--everything", "--store", "live", "--to", "out", "--yes"])
except SystemExit as end:
    assert end.code == 0
found = sorted({"boto3", "paramiko", "duckdb", "airflow"} & set(sys.modules))
assert not found, found
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cluster,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def sources() -> Iterator[tuple[Path, str]]:
    """Yield the code that users get messages from, without the line that says what a file is."""
    for folder in ("restore_lib", "dags", "plugins"):
        for path in (ROOT / folder).rglob("*.py"):
            yield path, path.read_text("utf-8").partition("\n")[2]


def runs_alone(command: tuple[str, ...]) -> bool:
    """Whether a command is not only the name of a group."""
    loaded = load_command(command[0])
    for name in command[1:]:
        loaded = loaded.commands[name]
    return not getattr(loaded, "commands", None) or loaded.invoke_without_command


def test_every_command_that_a_message_names_can_be_run() -> None:
    known = tuple(" ".join(command) + " " for command in all_commands() if runs_alone(command))
    named = {}
    for path, text in sources():
        for words in re.findall(r"`tapeflow ([a-z -]+)", text):
            named[" ".join(words.split(" --")[0].split())] = path
    assert len(named) > 15
    assert {name: path for name, path in named.items() if not f"{name} ".startswith(known)} == {}


def test_every_key_that_a_message_names_exists() -> None:
    sections = {
        name: field.annotation.model_fields
        for name, field in Config.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    }
    named = {
        (section, key): path
        for path, text in sources()
        for section, key in re.findall(r"\[(\w+)\] (?!in\b)(\w+)", text)
        if section in sections
    }
    assert len(named) > 3
    assert {
        which: path for which, path in named.items() if which[1] not in sections[which[0]]
    } == {}


def test_the_version_is_the_projects() -> None:
    result = CliRunner().invoke(app, ["--version"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert result.stdout == f"tapeflow {project['version']}\n"


def test_each_error_is_json_where_json_is_asked_for(cluster: Path) -> None:
    for command in (
        ["restore", "run"],
        ["keys", "generate", cluster / "operating.txt"],
        ["init", "--store", cluster / "live", cluster],
    ):
        result = succeeds(cluster, *command, "--json", code=64)
        assert result.stdout == ""
        assert json.loads(result.stderr)["code"] == "refused"
        refused(cluster, *command, code=64)


def test_an_unknown_command_is_a_usage_error(cluster: Path) -> None:
    assert "No such command" in succeeds(cluster, "restroe", code=2).stderr


def test_a_missing_config_is_said(tmp_path: Path) -> None:
    said = refused(tmp_path, "volumes", code=78)
    assert str(tmp_path / "tapeflow.toml") in said
    assert "TAPEFLOW_CONFIG" in said


def test_an_unknown_config_key_is_said_with_the_likely_one(cluster: Path) -> None:
    config = cluster / "tapeflow.toml"
    config.write_text(config.read_text().replace("slots =", "slotz ="))
    said = refused(cluster, "volumes", code=78)
    assert "library.slotz" in said
    assert "did you mean 'slots'?" in said


def test_the_config_comes_from_the_environment_too(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAPEFLOW_CONFIG", str(cluster / "tapeflow.toml"))
    result = CliRunner().invoke(app, ["volumes"])
    assert result.exit_code == 0
    assert "TF0000L9" in result.stdout


def test_an_unexpected_error_shows_its_trace(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restore_lib.catalog.volumes.volumes", lambda *_: 1 / 0)
    result = CliRunner().invoke(app, ["--config", str(cluster / "tapeflow.toml"), "volumes"])
    assert isinstance(result.exception, ZeroDivisionError)


def test_as_a_process_of_its_own(cluster: Path) -> None:
    running = process(cluster, "volumes", "--json")
    out, err = running.communicate()
    assert (running.returncode, err) == (0, "")
    assert out.count("\n") == 1
    assert len(as_json(cluster, "volumes")["volumes"]) == 6


def test_an_error_in_a_process_of_its_own(cluster: Path) -> None:
    running = process(cluster, "backup", "show", "99")
    out, err = running.communicate()
    assert (running.returncode, out) == (64, "")
    assert err.splitlines() == [
        "error: There is no recovery point 99.",
        "remedy: see `tapeflow backup list`",
    ]


def test_output_survives_a_terminal_that_knows_ascii_only(cluster: Path) -> None:
    (cluster / "names").write_text("später")
    choice = ["--names", "names", "--store", "live", "--yes"]
    done = subprocess.run(
        [sys.executable, "-m", "restore_lib.cli", "restore", "run", *choice],
        cwd=cluster,
        env={"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 4, done.stderr
    assert rb"unrestorable: sp\xe4ter" in done.stdout
