import subprocess
import sys
from pathlib import Path

import pytest

from restore_lib.cli import main

ROOT = Path(__file__).parents[2]


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "restore_lib.cli", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("tapeflow ")


def test_main_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["tapeflow", "no-such-command"])
    monkeypatch.setattr("sys.stdout", sys.__stdout__)
    monkeypatch.setattr("sys.stderr", sys.__stderr__)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
