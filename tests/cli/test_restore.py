import base64
import contextlib
import hashlib
import json
import os
import pty
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from restore_lib.cli import restore
from tests.support.commands import (
    FILES,
    HOSTILE,
    as_json,
    keys_on,
    process,
    refused,
    send_all_to_the_vault,
    succeeds,
    tapeflow,
    vendor,
)
from tests.support.sites import digests, image, open_site

WANTED = {key: hashlib.sha256(data).hexdigest() for key, data in FILES.items()}


def names(listed: list[dict[str, Any]]) -> set[bytes]:
    return {
        base64.b64decode(each["key_b64"]) if "key_b64" in each else each["key"].encode()
        for each in listed
    }


def remove(root: Path, barcodes: list[str]) -> None:
    site = open_site(root)
    for barcode in barcodes:
        image(site, barcode).unlink()
    site.close()


def test_a_dry_run_shows_the_plan_and_keeps_nothing(cluster: Path) -> None:
    plan = as_json(cluster, "restore", "run", "--everything", "--store", "live", "--dry-run")
    assert plan["request"] is None
    assert plan["counts"]["asked"] == len(FILES)
    text = succeeds(cluster, "restore", "run", "--prefix", "d1/", "--store", "live", "--dry-run")
    assert "TF0001L9" in text.stdout
    assert as_json(cluster, "restore", "list") == {"requests": []}


def test_everything_comes_back_into_another_store(cluster: Path) -> None:
    arguments = ["restore", "run", "--everything", "--store", "live", "--to", "out", "--yes"]
    report = as_json(cluster, *arguments)
    assert report["verdict"] == "passed"
    assert report["counts"]["verified"] == len(FILES)
    assert digests(cluster / "out") == WANTED
    assert json.loads(Path(report["files"]["json"]).read_text())["verdict"] == "passed"
    assert Path(report["files"]["html"]).exists()


def test_lost_objects_of_an_incident_come_back(cluster: Path) -> None:
    for key in HOSTILE:
        (cluster / "live" / key.decode("utf-8", "surrogateescape")).unlink()
    incident = as_json(cluster, "loss-scan", "live")["incident_id"]
    shown = succeeds(cluster, "restore", "run", "--incident", incident, "--yes").stdout
    assert f"verified  {len(HOSTILE)}" in shown
    assert "verdict: passed." in shown
    assert digests(cluster / "live") == WANTED


def test_names_are_taken_byte_for_byte_from_a_file(cluster: Path) -> None:
    listed = cluster / "names"
    listed.write_bytes(b"\0".join(HOSTILE) + b"\0")
    common = ["--store", "live", "--to", "out", "--yes"]
    succeeds(cluster, "restore", "run", "--names", listed, "-0", *common)
    assert digests(cluster / "out") == {key: WANTED[key] for key in HOSTILE}
    some = [key for key in FILES if b"\n" not in key][:3]
    listed.write_bytes(b"\n".join(some))
    report = as_json(cluster, "restore", "run", "--names", listed, *common[:2], "--dry-run")
    assert report["counts"]["asked"] == 3


def test_names_that_were_never_backed_up_make_it_partial(cluster: Path) -> None:
    (cluster / "names").write_bytes(b"d0/file-000.txt\nnew\x1b[31m\xff\n")
    arguments = ["restore", "run", "--names", cluster / "names", "--store", "live", "--to", "out"]
    result = succeeds(cluster, *arguments, "--yes", code=3)
    assert r"unrestorable: new\x1b[31m\xff" in result.stdout
    assert "\x1b" not in result.stdout


def test_three_of_six_volumes_gone_names_exactly_what_is_lost(cluster: Path) -> None:
    held = keys_on(cluster)
    gone = ["TF0000L9", "TF0002L9", "TF0005L9"]
    lost = held["TF0000L9"] | held["TF0002L9"]
    assert 0 < len(lost) < len(FILES)
    remove(cluster, gone)
    arguments = ["restore", "run", "--everything", "--store", "live", "--to", "out", "--yes"]
    report = as_json(cluster, *arguments, code=3)
    assert report["verdict"] == "partial"
    assert names(report["names"]["unrestorable"]) == lost
    assert report["counts"]["unrestorable"] == len(lost)
    assert report["counts"]["verified"] == len(FILES) - len(lost)
    assert digests(cluster / "out") == {k: d for k, d in WANTED.items() if k not in lost}
    assert as_json(cluster, "restore", "list")["requests"][0]["verdict"] == "partial"


def test_two_of_six_volumes_gone_lose_nothing(cluster: Path) -> None:
    remove(cluster, ["TF0001L9", "TF0003L9"])
    arguments = ["restore", "run", "--everything", "--store", "live", "--to", "out", "--yes"]
    result = succeeds(cluster, *arguments)
    assert "Planned again" in result.stderr
    assert digests(cluster / "out") == WANTED


def test_nothing_verified_is_no_success(cluster: Path) -> None:
    (cluster / "names").write_bytes(b"never-there")
    arguments = ["restore", "run", "--names", cluster / "names", "--store", "live", "--yes"]
    assert "not_checked" in succeeds(cluster, *arguments, code=4).stdout


def test_another_object_at_the_target_is_kept_unless_told_otherwise(cluster: Path) -> None:
    key = "d1/file-001.txt"
    (cluster / "live" / key).write_bytes(b"changed since")
    arguments = ["restore", "run", "--prefix", key, "--store", "live", "--yes"]
    report = as_json(cluster, *arguments, code=4)
    assert report["counts"]["kept"] == 1
    assert (cluster / "live" / key).read_bytes() == b"changed since"
    succeeds(cluster, *arguments, "--overwrite", "if-different")
    assert digests(cluster / "live") == WANTED


def test_without_a_terminal_it_needs_yes(cluster: Path) -> None:
    said = refused(cluster, "restore", "run", "--everything", "--store", "live", code=64)
    assert "--yes" in said
    assert as_json(cluster, "restore", "list") == {"requests": []}


def waits(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("S")


@pytest.mark.parametrize(
    ("answer", "code", "state"),
    [
        (b"n\n", 1, "cancelled"),
        (b"y\n", 0, "ended"),
        (b"\x04", 130, "cancelled"),
        (signal.SIGINT, 130, "cancelled"),
    ],
    ids=["no", "yes", "end of input", "Ctrl-C"],
)
def test_on_a_terminal_it_asks_first(
    cluster: Path, answer: bytes | signal.Signals, code: int, state: str
) -> None:
    ours, theirs = pty.openpty()
    arguments = ["restore", "run", "--everything", "--store", "live", "--to", "out"]
    running = process(cluster, *arguments, terminal=theirs)
    os.close(theirs)
    said = b""
    while b"Restore these objects? [y/N]" not in said:
        said += os.read(ours, 1000)
    if isinstance(answer, bytes):
        os.write(ours, answer)
    else:
        # Before it waits for the answer, the signal would only be noticed once one is given.
        while not waits(running.pid):
            time.sleep(0.01)
        running.send_signal(answer)
    with contextlib.suppress(OSError):
        while more := os.read(ours, 1000):
            said += more
    assert running.wait() == code
    os.close(ours)
    assert as_json(cluster, "restore", "show", "1")["state"] == state
    assert (b"64/64 objects" in said) is (code == 0)
    assert (b"Nothing was restored." in said) is (code != 0)


def test_exactly_one_choice_of_objects(cluster: Path) -> None:
    for choice in ([], ["--everything", "--prefix", "a"], ["--incident", "1", "--everything"]):
        assert "--incident" in refused(cluster, "restore", "run", *choice, code=64)


def test_vaulted_volumes_are_recalled_and_waited_for(cluster: Path) -> None:
    send_all_to_the_vault(cluster)
    with vendor(cluster):
        arguments = ["restore", "run", "--everything", "--store", "live", "--to", "out", "--yes"]
        result = succeeds(cluster, *arguments)
    assert "Waiting for volumes" in result.stderr
    assert digests(cluster / "out") == WANTED


def test_a_timeout_leaves_all_to_be_resumed(cluster: Path) -> None:
    send_all_to_the_vault(cluster)
    arguments = ["restore", "run", "--everything", "--store", "live", "--to", "out", "--yes"]
    said = refused(cluster, *arguments, "--reason", "verify", "--timeout", "0.5s", code=75)
    assert "`tapeflow restore resume 1`" in said
    [waiting] = as_json(cluster, "restore", "show", "1")["shipments"]
    assert (waiting["state"], waiting["reason"]) == ("pick_listed", "verify")
    assert "drill" in succeeds(cluster, *arguments, "--reason", "drill", code=2).stderr
    with vendor(cluster):
        succeeds(cluster, "restore", "resume", "1")
    assert digests(cluster / "out") == WANTED


def test_killed_and_resumed_it_ends_the_same(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAPEFLOW__LIBRARY__LEASE", "1s")
    arguments = ["restore", "run", "--everything", "--store", "live", "--to", "out", "--yes"]
    running = process(cluster, *arguments)
    while running.poll() is None and len(digests(cluster / "out")) < 3:
        pass
    running.send_signal(signal.SIGKILL)
    running.communicate()
    report = as_json(cluster, "restore", "resume", "1")
    assert report["verdict"] == "passed"
    assert report["counts"]["asked"] == len(FILES)
    assert digests(cluster / "out") == WANTED


def test_ctrl_c_says_how_to_go_on(cluster: Path) -> None:
    send_all_to_the_vault(cluster)
    arguments = ["restore", "run", "--everything", "--store", "live", "--to", "out", "--yes"]
    running = process(cluster, *arguments)
    assert running.stderr is not None
    while "Waiting for volumes" not in running.stderr.readline():
        assert running.poll() is None
    running.send_signal(signal.SIGINT)
    _, said = running.communicate()
    assert running.returncode == 130
    assert "to go on where it was: `tapeflow restore resume 1`" in said
    assert "Traceback" not in said


def test_a_missing_key_is_said_before_anything_moves(cluster: Path) -> None:
    (cluster / "operating.txt").unlink()
    arguments = ["restore", "run", "--everything", "--store", "live", "--to", "out", "--yes"]
    assert "operating.txt can't be read" in refused(cluster, *arguments, code=78)
    assert digests(cluster / "out") == {}


def test_a_wrong_key_is_said_before_anything_moves(cluster: Path) -> None:
    (cluster / "operating.txt").unlink()
    succeeds(cluster, "keys", "generate", cluster / "operating.txt")
    arguments = ["restore", "run", "--everything", "--store", "live", "--to", "out", "--yes"]
    said = refused(cluster, *arguments, code=78)
    assert "no identity of this host is one of them" in said
    assert "escrow key" in said
    assert as_json(cluster, "restore", "list") == {"requests": []}


def test_an_error_is_json_where_json_is_asked_for(cluster: Path) -> None:
    result = tapeflow(cluster, "restore", "show", "7", "--json")
    assert result.exit_code == 64
    assert result.stdout == ""
    error = json.loads(result.stderr)
    assert error.keys() == {"code", "message", "remedy", "context", "retryable"}
    assert error["code"] == "refused"
    assert error["retryable"] is False


def test_show_and_report_tell_of_a_request(cluster: Path) -> None:
    succeeds(cluster, "restore", "run", "--prefix", "d1/", "--store", "live", "--yes")
    shown = as_json(cluster, "restore", "show", "1")
    assert shown["state"] == "ended"
    assert shown["objects"]["restored"] == 12
    assert "12" in succeeds(cluster, "restore", "show", "1").stdout
    assert "d1/" in succeeds(cluster, "restore", "list").stdout
    succeeds(cluster, "restore", "run", "--prefix", "d2/", "--store", "live", "--yes")
    listed = as_json(cluster, "restore", "list")["requests"]
    assert [each["request"] for each in listed] == [2, 1]
    Path(shown["report"]).unlink()
    assert "passed" in succeeds(cluster, "restore", "report", "1").stdout
    assert Path(shown["report"]).exists()
    assert "has ended already" in refused(cluster, "restore", "cancel", "1", code=64)


def test_a_restore_is_cancelled_unless_it_has_ended(cluster: Path) -> None:
    send_all_to_the_vault(cluster)
    arguments = ["restore", "run", "--everything", "--store", "live", "--yes", "--timeout", "0.1s"]
    succeeds(cluster, *arguments, "--to", "out", code=75)
    assert as_json(cluster, "restore", "cancel", "1")["state"] == "cancelled"
    assert as_json(cluster, "restore", "cancel", "1")["state"] == "cancelled"
    report = as_json(cluster, "restore", "resume", "1", code=1)
    assert report["counts"]["unfinished"] == len(FILES)


def test_a_restore_is_paused_and_resumed(cluster: Path) -> None:
    send_all_to_the_vault(cluster)
    arguments = ["restore", "run", "--everything", "--store", "live", "--to", "out", "--yes"]
    succeeds(cluster, *arguments, "--priority", "urgent", "--timeout", "0s", code=75)
    paused = as_json(cluster, "restore", "pause", "1")
    assert (paused["state"], paused["priority"]) == ("paused", "urgent")
    assert "resume 1` goes on" in succeeds(cluster, "restore", "pause", "1").stdout
    listed = succeeds(cluster, "restore", "list").stdout
    assert "paused" in listed
    assert "urgent" in listed
    assert "paused" in succeeds(cluster, "restore", "show", "1").stdout
    assert digests(cluster / "out") == {}
    assert "is active" in succeeds(cluster, "restore", "resume", "1", "--release").stdout
    with vendor(cluster):
        assert as_json(cluster, "restore", "resume", "1")["verdict"] == "passed"
    assert digests(cluster / "out") == WANTED
    assert "there is nothing to pause" in refused(cluster, "restore", "pause", "1", code=64)


def test_a_command_at_work_ends_when_its_restore_is_paused(cluster: Path) -> None:
    send_all_to_the_vault(cluster)
    arguments = ["restore", "run", "--everything", "--store", "live", "--to", "out", "--yes"]
    running = process(cluster, *arguments)
    assert running.stderr is not None
    while "Waiting for volumes" not in running.stderr.readline():
        assert running.poll() is None
    succeeds(cluster, "restore", "pause", "1")
    _, said = running.communicate()
    assert running.returncode == 75
    assert "Restore request 1 is paused" in said
    assert "`tapeflow restore resume 1`" in said


def test_durations_are_of_the_config() -> None:
    assert restore.duration("90min").total_seconds() == 5400
