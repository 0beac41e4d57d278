import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from restore_lib.config_tables import CourierConfig
from restore_lib.errors import CourierUnavailable, Refused
from restore_lib.vault import courier as module
from restore_lib.vault.courier import Courier, DirectoryCourier, open_courier, write_atomically
from restore_lib.vault.documents import Acknowledgement

NOTE = Acknowledgement(
    cluster="test",
    shipment=1,
    vault="north",
    issued_at=datetime(2030, 1, 1, tzinfo=UTC),
    volumes=("V00001",),
)


@pytest.fixture
def ours(tmp_path: Path) -> Courier:
    return open_courier("vendor", CourierConfig(path=tmp_path / "courier"))


@pytest.fixture
def theirs(ours: Courier, tmp_path: Path) -> DirectoryCourier:
    return DirectoryCourier("vendor", tmp_path / "courier", vendor=True)


def test_what_one_side_sends_the_other_receives(ours: Courier, theirs: DirectoryCourier) -> None:
    assert not ours.waiting()
    theirs.send(NOTE)
    assert ours.waiting()
    assert not theirs.waiting()
    assert ours.receive() == [(NOTE.name, NOTE)]
    ours.send(NOTE)
    assert theirs.receive() == [(NOTE.name, NOTE)]


def test_a_document_waits_until_it_is_done_with(
    ours: Courier, theirs: DirectoryCourier, tmp_path: Path
) -> None:
    theirs.send(NOTE)
    assert ours.receive() == ours.receive()
    ours.done(NOTE.name)
    ours.done(NOTE.name)
    assert ours.receive() == []
    assert not ours.waiting()
    assert (tmp_path / "courier/archive" / NOTE.name).read_bytes() == NOTE.json()


def test_sending_twice_is_sending_once(ours: Courier, theirs: DirectoryCourier) -> None:
    ours.send(NOTE)
    ours.send(NOTE)
    assert len(theirs.receive()) == 1


def test_what_cant_be_read_keeps_nothing_else(
    ours: Courier, theirs: DirectoryCourier, tmp_path: Path
) -> None:
    inbox = tmp_path / "courier/inbox"
    (inbox / "aaa.json").write_bytes(b"{")
    (inbox / "folder.json").mkdir()
    (inbox / "link.json").symlink_to("/etc/passwd")
    os.mkfifo(inbox / "pipe.json")
    (inbox / ("x" * 245 + ".json")).write_bytes(b"{")
    (inbox / os.fsdecode(b"\xff.json")).write_bytes(b"{")
    theirs.send(NOTE)
    received = ours.receive()
    assert [d for _, d in received if not isinstance(d, Refused)] == [NOTE]
    assert len(received) == 7
    for name, document in received:
        if isinstance(document, Refused):
            ours.reject(name, document.message)
    assert ours.receive() == [(NOTE.name, NOTE)]
    rejected = tmp_path / "courier/rejected"
    assert "Invalid JSON" in (rejected / "aaa.json.reason.txt").read_text()
    assert (rejected / "aaa.json").read_bytes() == b"{"


def test_a_document_that_is_too_large_is_refused(
    ours: Courier, theirs: DirectoryCourier, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs.send(NOTE)
    monkeypatch.setattr(module, "_LARGEST", 10)
    (_, document) = ours.receive()[0]
    assert isinstance(document, Refused)
    assert "larger than 10 bytes" in document.message


def test_a_file_that_is_still_being_written_is_not_looked_at(ours: Courier, tmp_path: Path) -> None:
    (tmp_path / "courier/inbox/.half.json").write_bytes(b"{")
    assert not ours.waiting()
    assert ours.receive() == []


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.json"
    write_atomically(path, b"old")

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_way_that_is_closed_is_worth_a_retry(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CourierUnavailable, match="'vendor'") as caught:
        DirectoryCourier("vendor", tmp_path / "file" / "courier")
    assert caught.value.retryable


def test_a_folder_that_vanishes_is_worth_a_retry(ours: Courier, tmp_path: Path) -> None:
    for folder in ("inbox", "outbox"):
        (tmp_path / "courier" / folder).rmdir()
    for call in (ours.waiting, ours.receive, lambda: ours.send(NOTE)):
        with pytest.raises(CourierUnavailable):
            call()
