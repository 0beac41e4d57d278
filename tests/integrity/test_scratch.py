"""The scratch database keeps to its memory, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from restore_lib.errors import DiskFull
from restore_lib.integrity import scratch
from restore_lib.integrity.scratch import fill, scratch_database

ROOT = Path(__file__).parents[2]


def left_in(folder: Path) -> list[str]:
    return [each.name for each in folder.glob("tapeflow-scratch-*")]


def test_rows_come_back_byte_for_byte(tmp_path: Path) -> None:
    rows = [(b"\\x41", 1), (b"\0\xff", None), (b"", -5), (b"'\"", 2**62)]
    counts: list[int] = []
    with scratch_database(tmp_path) as database:
        database.execute("CREATE TABLE t (key BLOB, n BIGINT)")
        assert fill(database, "t", ("BLOB", "BIGINT"), iter(rows), counts.append) == 4
        assert database.execute("SELECT * FROM t").fetchall() == rows
    assert counts == [4]
    assert left_in(tmp_path) == []


def test_what_is_not_its_own_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "scratch-of-mine" / "letter.txt"
    mine.parent.mkdir()
    mine.write_text("dear friend")
    with scratch_database(tmp_path):
        pass
    assert mine.read_text() == "dear friend"


def test_nothing_to_append(tmp_path: Path) -> None:
    with scratch_database(tmp_path) as database:
        database.execute("CREATE TABLE t (key BLOB)")
        assert fill(database, "t", ("BLOB",), []) == 0


def test_what_memory_can_not_hold_goes_to_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "MEMORY_LIMIT", "40MiB")
    folder = tmp_path / "it's [staging] *?"
    folder.mkdir()
    spilled = 0
    with scratch_database(folder) as database:
        database.execute(
            "CREATE TABLE t AS SELECT sha256(range::VARCHAR)::BLOB AS key FROM range(2_000_000)"
        )
        spilled = sum(each.stat().st_size for each in folder.glob("tapeflow-scratch-*/*"))
        found = database.execute("SELECT count(*), count(DISTINCT key) FROM t").fetchone()
    assert found == (2_000_000, 2_000_000)
    assert spilled > 40 << 20
    assert left_in(folder) == []


def fill_the_disk(staging: Path) -> None:
    with scratch_database(staging) as database:
        database.execute("SET max_temp_directory_size = '1MB'; SET memory_limit = '20MB'")
        database.execute(
            "CREATE TABLE t AS SELECT random() AS a, random() AS b FROM range(9000000)"
        )


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match=str(tmp_path)):
        fill_the_disk(tmp_path)
    assert left_in(tmp_path) == []


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(duckdb.ParserException), scratch_database(tmp_path) as database:
        database.execute("no SQL")
    assert left_in(tmp_path) == []


def test_what_a_killed_process_left_is_removed_and_what_lives_is_not(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from restore_lib.integrity.scratch import scratch_database\n"
        "with scratch_database(Path(sys.argv[1])):\n"
        "    print('open', flush=True); time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        (theirs,) = left_in(tmp_path)
        with scratch_database(tmp_path):
            assert theirs in left_in(tmp_path)
        assert left_in(tmp_path) == [theirs]
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert left_in(tmp_path) == [theirs]
    with scratch_database(tmp_path):
        assert theirs not in left_in(tmp_path)
    assert left_in(tmp_path) == []
