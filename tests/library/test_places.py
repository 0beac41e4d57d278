"""Images in folders: barcodes, moves, stray faults, locks."""

import errno
import threading
from pathlib import Path

import pytest

from restore_lib.errors import LibraryOffline, Refused, VolumeAbsent
from restore_lib.library.places import (
    check_barcode,
    create_blank,
    holding,
    images_in,
    locked,
    move_image,
)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    (tmp_path / "there").mkdir()
    return tmp_path / "there"


@pytest.mark.parametrize("barcode", ["VT0001L9", "A", "9-9", "X" * 32])
def test_barcodes(barcode: str) -> None:
    check_barcode(barcode)


@pytest.mark.parametrize(
    "barcode", ["", "vt0001", "../VT1", "VT 1", "VT1\n", "-VT1", "X" * 33, "VT1/X"]
)
def test_not_a_barcode(barcode: str) -> None:
    with pytest.raises(Refused, match="is not a barcode"):
        check_barcode(barcode)


def test_images_in(here: Path) -> None:
    for name in ("B.tap", "A.tap", ".C.tap", "A.faults.json", ".lock"):
        (here / name).touch()
    assert images_in(here) == [here / "A.tap", here / "B.tap"]
    with pytest.raises(LibraryOffline, match="nowhere"):
        images_in(here / "nowhere")


def test_move_takes_the_faults_along(here: Path, there: Path) -> None:
    create_blank(here, "A")
    (here / "A.faults.json").write_text("{}")
    assert move_image(here / "A.tap", there) == there / "A.tap"
    assert sorted(p.name for p in there.iterdir()) == ["A.faults.json", "A.tap"]
    assert list(here.iterdir()) == []
    with pytest.raises(VolumeAbsent, match="A is no longer in here"):
        move_image(here / "A.tap", there)


def test_move_to_another_file_system(
    here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_blank(here, "A")

    def cross_device(self: Path, target: Path) -> Path:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", cross_device)
        with pytest.raises(LibraryOffline, match="one file system"):
            move_image(here / "A.tap", there)
    assert images_in(here) == [here / "A.tap"]


def test_move_to_a_folder_that_has_gone(here: Path) -> None:
    create_blank(here, "A")
    with pytest.raises(LibraryOffline, match="A can't be moved"):
        move_image(here / "A.tap", here / "gone")
    assert images_in(here) == [here / "A.tap"]


def test_blank_never_overwrites(here: Path) -> None:
    (here / "A.tap").write_bytes(b"data")
    with pytest.raises(LibraryOffline, match="No blank volume"):
        create_blank(here, "A")
    assert (here / "A.tap").read_bytes() == b"data"


def test_faults_that_an_earlier_move_left_behind_are_no_longer_in_effect(
    here: Path, there: Path
) -> None:
    create_blank(here, "A")
    (there / "A.faults.json").write_text("stray")
    (there / "B.faults.json").write_text("of another volume")
    move_image(here / "A.tap", there)
    assert sorted(p.name for p in there.iterdir()) == ["A.tap", "B.faults.json"]


def test_faults_of_the_image_win_over_those_left_behind(here: Path, there: Path) -> None:
    create_blank(here, "A")
    (here / "A.faults.json").write_text("its own")
    (there / "A.faults.json").write_text("stray")
    move_image(here / "A.tap", there)
    assert (there / "A.faults.json").read_text() == "its own"
    assert list(here.iterdir()) == []


def test_holding(here: Path, there: Path) -> None:
    create_blank(here, "A")
    create_blank(here, "AB")
    assert holding([str(here), str(there)], "A.tap") == [here / "A.tap"]
    create_blank(there, "A")
    assert holding([str(here), str(there)], "A.tap") == [here / "A.tap", there / "A.tap"]


def test_lock_is_held_by_one_at_a_time(here: Path) -> None:
    lock = here / ".lock"
    lock.touch()
    inside = 0
    most = 0

    def enter() -> None:
        nonlocal inside, most
        for _ in range(50):
            with locked(lock, "robot", 60):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, inside) == (1, 0)


def test_lock_that_stays_busy(here: Path) -> None:
    lock = here / ".lock"
    lock.touch()
    with locked(lock, "robot", 0), pytest.raises(LibraryOffline, match="robot has been busy"):  # noqa: SIM117
        with locked(lock, "robot", 0.01):
            pass
    with locked(lock, "robot", 0):
        pass


def test_lock_that_is_not_there(here: Path) -> None:
    with (
        pytest.raises(LibraryOffline, match="robot does not answer"),
        locked(here / "no", "robot", 0),
    ):
        pass
