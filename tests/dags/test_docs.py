import json
import re
import shlex
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag

from demo.airflow_local import ROOT

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
