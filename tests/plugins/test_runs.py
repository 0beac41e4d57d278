import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from restore_lib.errors import ConfigError
from tapeflow_airflow import runs
from tapeflow_airflow.runs import (
    LoggedProgress,
    actor,
    configured,
    open_site,
    params,
    run_name,
    show,
)
from tests.support.sites import make_site


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger=runs.__name__)
    return caplog


def in_run(monkeypatch: pytest.MonkeyPatch, **context: Any) -> None:
    monkeypatch.setattr(runs, "get_current_context", lambda: context)


def test_the_audit_trail_names_the_run_and_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    run = SimpleNamespace(dag_id="restore", run_id="manual__1", triggering_user_name="ann")
    in_run(monkeypatch, dag_run=run)
    assert run_name() == "airflow:restore/manual__1"
    assert actor() == "airflow:restore/manual__1 by ann"
    run.triggering_user_name = None
    assert actor() == "airflow:restore/manual__1"


def test_parameters_come_from_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    in_run(monkeypatch, params={"policy": "live"})
    assert params()["policy"] == "live"


def test_a_task_opens_the_configured_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_site(tmp_path).close()
    monkeypatch.setenv("TAPEFLOW_CONFIG", str(tmp_path / "tapeflow.toml"))
    with open_site() as site:
        assert list(site.config.policies) == ["live"]
    monkeypatch.setenv("TAPEFLOW_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match=r"none\.toml"), open_site():
        pass


def test_the_form_offers_what_the_config_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "tapeflow.toml"
    monkeypatch.setenv("TAPEFLOW_CONFIG", str(config))
    assert configured("stores") == []
    config.write_text('[stores.live]\nkind = "local"\n[stores.out]\n')
    assert configured("stores") == ["live", "out"]
    assert configured("policies") == []
    config.write_text("stores = 3\n")
    assert configured("stores") == []
    config.write_bytes(b"\xff [")
    assert configured("stores") == []


def test_plans_are_shown_as_tables(log: pytest.LogCaptureFixture) -> None:
    volumes = [{"barcode": "TF0001L9", "bytes": 5}, {"barcode": "TF0002L9", "bytes": 12345}]
    show("The plan", {"batches": 2, "volumes": volumes, "names": []})
    [message] = log.messages
    assert message.splitlines() == [
        "The plan",
        "batches: 2",
        "volumes:",
        "  barcode   bytes",
        "  TF0001L9  5",
        "  TF0002L9  12345",
        "names: []",
    ]


def test_progress_is_told_now_and_then(
    log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("tapeflow_airflow.runs.time.monotonic", lambda: now)
    progress = LoggedProgress()
    progress.stage("reading", 2000, 9000)
    for _ in range(3):
        now += 4.0
        progress.advance(objects=500, size=2000)
    progress.stage("counting")
    now += 20.0
    progress.advance(objects=1)
    assert log.messages == [
        "reading: 2,000 objects",
        "reading: 1,500 of 2,000 objects, 6,000 of 9,000 bytes",
        "counting",
        "counting: 1 objects, 0 bytes",
    ]
