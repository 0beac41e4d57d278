import re
from io import StringIO
from pathlib import Path

import pytest

from restore_lib.cli.session import Session, check_can_ask
from restore_lib.errors import Refused
from tests.support.sites import open_site


def session(root: Path, *, as_json: bool = False) -> Session:
    return Session(open_site(root), as_json=as_json)


def test_results_and_messages_have_their_own_streams(
    cluster: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session(cluster).show({"a": 1}, "text [b]as it is[/b]")
    session(cluster, as_json=True).show({"a": 1}, "text")
    session(cluster).say("message")
    assert capsys.readouterr() == ('text [b]as it is[/b]\n{"a": 1}\n', "message\n")


def test_the_actor_says_who_and_where(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ann")
    assert re.fullmatch(r"cli:ann@\S+", session(cluster).actor)

    def unknown() -> str:
        raise KeyError

    monkeypatch.setattr("getpass.getuser", unknown)
    assert re.fullmatch(r"cli:\d+@\S+", session(cluster).actor)


def test_nobody_there_to_answer_is_refused(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match="confirmed"):
        session(cluster).confirm("Sure?", yes=False)
    assert session(cluster).confirm("Sure?", yes=True)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    with pytest.raises(Refused, match="--json"):
        check_can_ask(as_json=True)


def test_no_answer_is_an_interruption(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", StringIO())
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    with pytest.raises(KeyboardInterrupt):
        session(cluster).confirm("Sure?", yes=False)
