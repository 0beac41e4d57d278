"""The documents for users say what is: their examples run, their tables are complete."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ByteSize, TypeAdapter
from pydantic.fields import FieldInfo
from typer.testing import CliRunner

from demo.vendor import open_vendors
from restore_lib.cli.app import COMMANDS, app, load_command
from restore_lib.config import Config, load_config
from restore_lib.config_tables import Duration, RetentionConfig, Section
from restore_lib.restore.request import RestoreSpec, plan_restore
from tests.cli.test_app import all_commands
from tests.support.sites import ACTOR, back_up, make_site, write_files

ROOT = Path(__file__).parents[2]
CLI = (ROOT / "docs" / "cli.md").read_text("utf-8")
DAMAGE = (ROOT / "docs" / "damage-guide.md").read_text("utf-8")
SCALE = (ROOT / "docs" / "scale.md").read_text("utf-8")
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text("utf-8")


def examples(document: str = CLI) -> Iterator[tuple[str, list[str]]]:
    """Yield each command of the examples, and the lines that it is said to print."""
    for block in re.findall(r"```console\n(.*?)```", document, re.DOTALL):
        command = ""
        output: list[str] = []
        for line in block.splitlines():
            if line.startswith("$ "):
                if command:
                    yield command, output
                command, output = line[2:], []
            elif line.startswith("> "):
                command += "\n" + line[2:]
            else:
                output.append(line)
        yield command, output


def alike(text: str) -> str:
    """Return ``text`` without what differs from run to run: times, sizes and runs of spaces."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", text)
    text = re.sub(r"[\d.]+ k?B\b", "SIZE", text)
    return " ".join(text.split())


def shell(command: str, **environment: str) -> str:
    done = subprocess.run(
        ["bash", "-c", command],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def run(command: str, code: int) -> str:
    """Run one command as a shell would, but for `tapeflow`, which runs in this process."""
    if not command.startswith("tapeflow "):
        return shell(command)
    words = shell(f"printf '%s\\0' {command.removeprefix('tapeflow ')}").split("\0")[:-1]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == code, (command, result.output, result.exception)
    return result.stdout


@pytest.mark.parametrize(("document", "commands"), [(CLI, 40), (DAMAGE, 15)])
def test_the_examples_run_and_print_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, document: str, commands: int
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tapeflow").write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -m restore_lib.cli "$@"\n'
    )
    (tmp_path / "bin" / "tapeflow").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    count = 0
    for command, output in examples(document):
        text, _, note = command.partition("  # exit code ")
        shown = [alike(line) for line in run(text, int(note or 0)).splitlines()]
        for line in output:
            assert alike(line) in shown, (command, line, shown)
            shown = shown[shown.index(alike(line)) + 1 :]
        if (tmp_path / "van").exists() or "couriers" in command:
            for vendor in open_vendors(load_config(tmp_path / "tapeflow.toml")):
                vendor.work()
        count += 1
    assert count > commands


def test_the_plan_in_the_docs_holds_what_plans_hold(tmp_path: Path) -> None:
    [shown] = re.findall(r"## What a plan holds.*?```json\n(.*?)```", SCALE, re.DOTALL)
    site = make_site(tmp_path)
    write_files(tmp_path / "live", {b"a": b"1"})
    back_up(site)
    spec = RestoreSpec(store="live", prefix=b"", target="out")
    made = plan_restore(site, spec, ACTOR, dry_run=True)
    site.close()
    assert names_in(json.loads(shown)) == names_in(made.as_dict())


def names_in(value: Any, path: str = "") -> set[str]:
    """Return where in JSON which names are; the members of a list are alike."""
    if isinstance(value, dict):
        return {f"{path}.{name}" for name in value}.union(
            *(names_in(inner, f"{path}.{name}") for name, inner in value.items())
        )
    return (
        set().union(*(names_in(inner, path) for inner in value))
        if isinstance(value, list)
        else set()
    )


def test_every_command_has_an_example() -> None:
    shown = {command for command, _ in examples()}
    for words in all_commands():
        loaded = load_command(words[0])
        if len(words) == 1 and getattr(loaded, "commands", None) and words[0] != "volumes":
            continue
        name = "tapeflow " + " ".join(words)
        assert any(f"{command} ".startswith(f"{name} ") for command in shown), name
    for name in COMMANDS:
        assert f"## `tapeflow {name}`" in CLI


def sections() -> Iterator[tuple[str, type[Section]]]:
    """Yield the heading of each table of the config, and its model."""
    for name, field in Config.model_fields.items():
        models = list(models_in(field.annotation))
        if field.annotation in models:
            yield f"## `[{name}]`", models[0]
        elif len(models) == 1:
            yield f"## `[{name}.NAME]`", models[0]
        else:
            for model in models:
                [kind] = get_args(model.model_fields["kind"].annotation)
                yield f'### `kind = "{kind}"`', model


def models_in(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)


def documented(heading: str) -> dict[str, str]:
    """Return the defaults by key in the table under ``heading``."""
    _, _, rest = CONFIGURATION.partition(f"{heading}\n")
    assert rest, f"docs/configuration.md has no {heading}"
    table = re.split(r"^#", rest, maxsplit=1, flags=re.MULTILINE)[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \| .+ \|$", table, re.MULTILINE))


def same(shown: str, field: FieldInfo) -> bool:
    if field.is_required():
        return shown == "required"
    default: Any = field.default
    if default is None:
        return shown == "none"
    text = shown.strip('`"')
    if isinstance(default, timedelta):
        return TypeAdapter[timedelta](Duration).validate_python(text) == default
    if isinstance(default, ByteSize):
        return TypeAdapter(ByteSize).validate_python(text) == default
    if isinstance(default, bool):
        return text == str(default).lower()
    return text == str(default)


def test_every_key_of_the_config_is_documented_with_its_default() -> None:
    nested: list[tuple[str, type[Section]]] = [("## `[policies.NAME.retention]`", RetentionConfig)]
    found = [*sections(), *nested]
    assert len(found) == len(Config.model_fields) + 3
    for heading, model in found:
        shown = documented(heading)
        assert shown.keys() == model.model_fields.keys(), heading
        for name, field in model.model_fields.items():
            assert same(shown[name], field), (heading, name, shown[name], field.default)
