import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from airflow.cli import cli_parser
from airflow.configuration import conf
from airflow.dag_processing.dagbag import DagBag

from demo.airflow_local import ROOT
from restore_lib.cli.app import load_command
from restore_lib.config_tables import RestoreConfig

TEXT = (ROOT / "docs" / "airflow.md").read_text("utf-8")


@pytest.fixture(scope="module")
def dags() -> Any:
    return DagBag(str(ROOT / "dags")).dags


def test_every_dag_is_described(dags: Any) -> None:
    assert [dag_id for dag_id in dags if f"| `{dag_id}` |" not in TEXT] == []


def test_every_parameter_is_described_with_its_dag(dags: Any) -> None:
    described: dict[str, set[str]] = {}
    table = TEXT.partition("### Parameters")[2].partition("\n## ")[0]
    dag_id = ""
    for line in table.splitlines():
        cells = [re.findall(r"`(\w+)`", cell) for cell in line.split("|")]
        if len(cells) > 3 and cells[2]:
            dag_id = cells[1][0] if cells[1] else dag_id
            described.setdefault(dag_id, set()).update(cells[2])
    assert described == {name: set(dag.params) for name, dag in dags.items() if dag.params}


def test_the_examples_are_accepted(dags: Any) -> None:
    commands = re.findall(r"^\$ airflow dags trigger (.*)$", TEXT, re.MULTILINE)
    assert len(commands) >= len(dags) - 1
    for command in commands:
        dag_id, *options = shlex.split(command)
        conf = json.loads(options[1]) if options else {}
        for name, value in conf.items():
            assert dags[dag_id].params.get_param(name).resolve(value) == value


def test_the_commands_in_containers_exist() -> None:
    """What can't run here, for want of Docker, names real services and real commands at least."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    parser = cli_parser.get_parser()
    inner = list(in_containers(TEXT))
    assert len(inner) >= 7
    for service, words in inner:
        assert service in services
        if words[0] == "airflow":
            parser.parse_args(words[1:])
        else:
            assert words[0] == "tapeflow"
            command, rest = load_command(words[1]), words[2:]
            while rest and getattr(command, "commands", None):
                command = command.commands[rest.pop(0)]
            assert "TAPEFLOW__KEYS__IDENTITY_FILE" in services[service]["environment"]


def in_containers(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield service and command of each `docker compose exec` and `run`, as Compose takes them."""
    for line in re.findall(r"^\$ docker compose (.*)$", text, re.MULTILINE):
        command, *words = shlex.split(line)
        if command not in {"exec", "run"}:
            continue
        entrypoint: list[str] = []
        while words[0].startswith("-"):
            option = words.pop(0)
            if option in {"-e", "--entrypoint"}:
                value = words.pop(0)
                entrypoint = [value] if option == "--entrypoint" else entrypoint
        yield words[0], [*entrypoint, *words[1:]]


def test_the_settings_of_the_table_are_those_of_the_compose_file() -> None:
    compose = (ROOT / "docker-compose.yml").read_text("utf-8")
    table = TEXT.partition("## Settings that matter")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `\[(\w+)\] (\w+)` \|", table, re.MULTILINE)
    assert len(named) >= 8
    missing = {
        option for part, option in named if f"AIRFLOW__{part}__{option}:".upper() not in compose
    }
    assert missing == {"plugins_folder", "max_map_length", "mp_start_method"}
    assert conf.getint("core", "max_map_length") >= RestoreConfig(wave_batches=1000).wave_batches
