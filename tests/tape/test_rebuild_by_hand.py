import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_lib.tape import rebuild_by_hand as by_hand


@given(st.integers(1, 255), st.integers(1, 255))
def test_the_field_has_inverses(a: int, b: int) -> None:
    product = by_hand.multiply(a, b)
    assert product == by_hand.multiply(b, a)
    assert by_hand.TIMES[product][by_hand.INVERSE[b]] == a


@pytest.mark.parametrize("k", [1, 2, 5, 28])
def test_a_present_volume_needs_no_other(k: int) -> None:
    positions = list(range(k))[::-1]
    assert by_hand.factors(k, positions, 0) == [int(position == 0) for position in positions]


def test_too_few_files_are_refused(tmp_path: Path) -> None:
    command = [sys.executable, by_hand.__file__, "2", "0", f"1={tmp_path / 'one'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "exactly 2 files" in done.stderr
