"""What every tape library does, whatever the machine behind: add yours to ``RIGS``."""

import contextlib
import multiprocessing
import random
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

import pytest

from restore_lib.errors import (
    DriveBusy,
    EndOfData,
    LeaseLost,
    LibraryOffline,
    Refused,
    VolumeAbsent,
    VolumeFull,
)
from restore_lib.library.base import Drive, ElementKind, Library, Position
from restore_lib.library.virtual import VirtualLibrary

BLOCK = 4096
CAPACITY = 40 * BLOCK
BLANKS = ("VT0001", "VT0002", "VT0003")


class Rig(Protocol):
    """A machine with two drives, two import/export slots, six slots and the three ``BLANKS``."""

    def open(self) -> Library:
        """Connect to the machine, as a process that has just started does."""
        ...


class VirtualRig:
    def __init__(self, folder: Path) -> None:
        self.root = folder
        VirtualLibrary.create(
            folder, slots=6, drives=2, import_export=2, capacity_bytes=CAPACITY
        ).add_blank(BLANKS)

    def open(self) -> Library:
        return VirtualLibrary(
            self.root, slots=6, drives=2, import_export=2, capacity_bytes=CAPACITY
        )


RIGS: dict[str, Callable[[Path], Rig]] = {"virtual": VirtualRig}


@pytest.fixture(params=RIGS)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    return RIGS[request.param](tmp_path)


@pytest.fixture
def library(rig: Rig) -> Library:
    return rig.open()


@pytest.fixture
def drive(library: Library) -> Drive:
    return library.load("VT0001", 0, token=1)


def block(n: int) -> bytes:
    return n.to_bytes(4, "big") * (BLOCK // 4)


def write_files(drive: Drive, *counts: int) -> None:
    n = 0
    for count in counts:
        for _ in range(count):
            drive.write(block(n))
            n += 1
        drive.write_filemark()


def places(library: Library) -> dict[str, ElementKind | str]:
    """Return where each volume is; fails when one is at two places."""
    found: dict[str, ElementKind | str] = {}
    for element in library.inventory():
        if element.barcode:
            assert element.barcode not in found
            found[element.barcode] = element.kind
    for barcode in library.dock():
        assert barcode not in found
        found[barcode] = "dock"
    return found


# Changer


def test_inventory_lists_each_element_once(library: Library) -> None:
    elements = library.inventory()
    numbers = {kind: sorted(e.number for e in elements if e.kind is kind) for kind in ElementKind}
    assert numbers == {
        ElementKind.STORAGE: [1, 2, 3, 4, 5, 6],
        ElementKind.IMPORT_EXPORT: [1, 2],
        ElementKind.DRIVE: [0, 1],
    }
    assert places(library) == dict.fromkeys(BLANKS, ElementKind.STORAGE)
    assert library.drives == 2


def test_load_and_unload(library: Library) -> None:
    drive = library.load("VT0002", 1, token=5)
    assert (drive.number, drive.barcode()) == (1, "VT0002")
    assert drive.position() == Position(0, 0)
    assert places(library)["VT0002"] is ElementKind.DRIVE
    library.unload(1, token=5)
    assert places(library)["VT0002"] is ElementKind.STORAGE
    library.unload(1, token=5)


def test_load_puts_back_what_is_in_the_drive(library: Library) -> None:
    library.load("VT0001", 0, token=1)
    drive = library.load("VT0002", 0, token=2)
    assert drive.barcode() == "VT0002"
    assert places(library)["VT0001"] is ElementKind.STORAGE


def test_load_of_the_loaded_volume_begins_a_new_mount(library: Library) -> None:
    old = library.load("VT0001", 0, token=1)
    write_files(old, 2)
    new = library.load("VT0001", 0, token=1)
    assert new.position() == Position(0, 0)
    assert new.read() == block(0)
    with pytest.raises(LeaseLost):
        old.write(block(9))


def test_load_of_a_volume_in_another_drive(library: Library) -> None:
    library.load("VT0001", 0, token=1)
    with pytest.raises(DriveBusy, match=r"VT0001.*drive 0"):
        library.load("VT0001", 1, token=1)


def test_absent_volume(library: Library) -> None:
    with pytest.raises(VolumeAbsent, match="VT9999"):
        library.load("VT9999", 0, token=1)
    with pytest.raises(VolumeAbsent, match="VT9999"):
        library.export("VT9999")
    with pytest.raises(VolumeAbsent, match="VT9999"):
        library.admit("VT9999")


def test_unknown_drive(library: Library) -> None:
    with pytest.raises(Refused, match="no drive 2"):
        library.load("VT0001", 2, token=1)
    with pytest.raises(Refused, match="no drive -1"):
        library.unload(-1, token=1)


def test_export_and_admit(library: Library) -> None:
    for barcode in BLANKS:
        library.export(barcode)
    assert library.dock() == set(BLANKS)
    with pytest.raises(VolumeAbsent, match="VT0001"):
        library.load("VT0001", 0, token=1)
    library.admit("VT0001")
    assert library.dock() == {"VT0002", "VT0003"}
    assert places(library)["VT0001"] is ElementKind.STORAGE
    assert library.load("VT0001", 0, token=1).barcode() == "VT0001"


def test_export_and_admit_can_be_done_again(library: Library) -> None:
    library.export("VT0001")
    library.export("VT0001")
    assert library.dock() == {"VT0001"}
    library.admit("VT0001")
    library.admit("VT0001")
    assert library.dock() == set()


def test_volume_in_a_drive_is_not_exported(library: Library) -> None:
    library.load("VT0001", 0, token=1)
    with pytest.raises(DriveBusy, match="VT0001"):
        library.export("VT0001")
    library.admit("VT0001")
    assert places(library)["VT0001"] is ElementKind.DRIVE


def test_what_was_written_survives_moves_and_a_new_connection(rig: Rig) -> None:
    library = rig.open()
    write_files(library.load("VT0001", 0, token=1), 3, 1)
    library.unload(0, token=1)
    library.export("VT0001")
    library.admit("VT0001")
    drive = rig.open().load("VT0001", 1, token=1)
    assert [drive.read() for _ in range(6)] == [block(0), block(1), block(2), None, block(3), None]


# Drive


def test_read_write_and_position(drive: Drive) -> None:
    drive.write(block(0))
    drive.write(block(1))
    assert drive.position() == Position(0, 2)
    drive.write_filemark()
    assert drive.position() == Position(1, 0)
    drive.write(b"short")
    drive.rewind()
    assert drive.position() == Position(0, 0)
    assert drive.read() == block(0)
    assert drive.read() == block(1)
    assert drive.position() == Position(0, 2)
    assert drive.read() is None
    assert drive.position() == Position(1, 0)
    assert drive.read() == b"short"
    with pytest.raises(EndOfData):
        drive.read()


def test_blank_volume(drive: Drive) -> None:
    assert drive.space_to_end() == Position(0, 0)
    with pytest.raises(EndOfData):
        drive.read()
    with pytest.raises(EndOfData):
        drive.locate(1)


def test_locate(drive: Drive) -> None:
    write_files(drive, 3, 0, 2)
    for file, number, expected in [(2, 1, block(4)), (0, 2, block(2)), (1, 0, None), (0, 3, None)]:
        drive.locate(file, number)
        assert drive.position() == Position(file, number)
        assert drive.read() == expected
    drive.locate(3)
    assert drive.position() == Position(3, 0)


@pytest.mark.parametrize(("file", "number"), [(2, 1), (3, 0), (0, 4)])
def test_locate_past_an_end(drive: Drive, file: int, number: int) -> None:
    write_files(drive, 3, 2)
    with pytest.raises(EndOfData, match="VT0001"):
        drive.locate(file, number)
    drive.locate(0, 0)
    assert drive.read() == block(0)


def test_space_to_end_then_append(drive: Drive) -> None:
    write_files(drive, 2, 1)
    drive.rewind()
    assert drive.space_to_end() == Position(2, 0)
    drive.write(block(7))
    assert drive.space_to_end() == Position(2, 1)
    drive.write_filemark()
    drive.locate(1)
    assert [drive.read() for _ in range(4)] == [block(2), None, block(7), None]


@pytest.mark.parametrize("with_filemark", [False, True])
def test_overwriting_loses_all_behind(drive: Drive, with_filemark: bool) -> None:
    write_files(drive, 3, 2, 2)
    drive.locate(1, 1)
    if with_filemark:
        drive.write_filemark()
        assert drive.space_to_end() == Position(2, 0)
    else:
        drive.write(block(99))
        assert drive.space_to_end() == Position(1, 2)
        drive.locate(1, 1)
        assert drive.read() == block(99)
    drive.locate(1, 0)
    assert drive.read() == block(3)


def test_full_volume(drive: Drive) -> None:
    written = 0

    def fill() -> None:
        nonlocal written
        while True:
            drive.write(block(written))
            written += 1

    with pytest.raises(VolumeFull, match="VT0001"):
        fill()
    assert 30 <= written <= 40
    drive.write_filemark()
    assert drive.space_to_end() == Position(1, 0)
    drive.locate(0, written - 1)
    assert drive.read() == block(written - 1)
    assert drive.read() is None
    drive.locate(0, 5)
    drive.write(block(5))


# Fencing


def test_an_older_token_is_refused(rig: Rig) -> None:
    rig.open().load("VT0001", 0, token=7)
    late = rig.open()
    with pytest.raises(LeaseLost):
        late.load("VT0002", 0, token=6)
    with pytest.raises(LeaseLost):
        late.unload(0, token=6)
    assert places(late)["VT0001"] is ElementKind.DRIVE
    late.load("VT0002", 1, token=1)


@pytest.mark.parametrize("successor", ["other volume", "same volume", "unload"])
def test_an_older_mount_cannot_touch_a_volume(rig: Rig, successor: str) -> None:
    old = rig.open().load("VT0001", 0, token=1)
    write_files(old, 2)
    newer = rig.open()
    if successor == "unload":
        newer.unload(0, token=2)
    else:
        newer.load("VT0001" if successor == "same volume" else "VT0002", 0, token=2)
    operations: list[Callable[[], object]] = [
        lambda: old.write(block(66)),
        old.write_filemark,
        old.read,
        old.rewind,
        old.position,
        old.space_to_end,
        lambda: old.locate(0),
    ]
    for operation in operations:
        with pytest.raises(LeaseLost):
            operation()
    drive = rig.open().load("VT0001", 0, token=3)
    assert [drive.read() for _ in range(3)] == [block(0), block(1), None]
    with pytest.raises(EndOfData):
        drive.read()


def test_own_mount_after_unload_is_no_more(library: Library, drive: Drive) -> None:
    library.unload(0, token=1)
    with pytest.raises((LeaseLost, LibraryOffline)):
        drive.write(block(0))


# Several at once


def test_inventory_shows_each_volume_once_while_the_robot_moves(rig: Rig) -> None:
    stop = threading.Event()

    def move_on() -> None:
        library = rig.open()
        while not stop.is_set():
            library.load("VT0001", 0, token=1)
            library.load("VT0002", 0, token=1)
            library.unload(0, token=1)

    library = rig.open()
    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(move_on)
        seen = [[e.barcode for e in library.inventory() if e.barcode] for _ in range(50)]
        stop.set()
        moving.result()
    assert [sorted(barcodes) for barcodes in seen] == [list(BLANKS)] * 50


def test_a_writer_that_is_overtaken_writes_nothing_more(rig: Rig) -> None:
    old = rig.open().load("VT0001", 0, token=1)
    written = threading.Event()

    def write_on() -> None:
        while True:
            old.rewind()
            old.write(block(1))
            written.set()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write_on)
        assert written.wait(60)
        new = rig.open().load("VT0001", 0, token=2)
        new.write(block(2))
        new.write_filemark()
        assert isinstance(writing.exception(), LeaseLost)
    new.rewind()
    assert [new.read(), new.read()] == [block(2), None]
    assert new.space_to_end() == Position(1, 0)


# kill -9


def killed(work: Callable[[Connection], None], steps: int, seconds: float) -> int:
    """Run ``work`` in a process and kill it ``seconds`` after it has told of ``steps`` steps.

    Return how many it has told of in all.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def run() -> None:
        work(sender)
        signal.pause()

    process = context.Process(target=run)
    process.start()
    sender.close()
    told = sum(1 for _ in range(steps) if receiver.recv())
    process.join(seconds)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with contextlib.suppress(EOFError, OSError):
        while receiver.recv():
            told += 1
    return told


@pytest.mark.parametrize("seed", range(16))
def test_kill_while_writing_loses_nothing_flushed(rig: Rig, seed: int) -> None:
    """Each flushed file is whole, the next one is cut at a block, and writing goes on there."""

    def write_on(tell: Connection) -> None:
        drive = rig.open().load("VT0001", 0, token=1)
        for file in range(9):
            for n in range(4):
                drive.write(block(4 * file + n))
            drive.write_filemark()
            tell.send(True)

    flushed = killed(write_on, seed % 8, random.Random(seed).uniform(0, 0.004))
    drive = rig.open().load("VT0001", 0, token=2)
    end = drive.space_to_end()
    assert flushed <= end.file <= flushed + 1
    drive.rewind()
    for file in range(end.file):
        assert [drive.read() for _ in range(5)] == [
            *(block(4 * file + n) for n in range(4)),
            None,
        ]
    left = [drive.read() for _ in range(end.block)]
    assert left == [block(4 * end.file + n) for n in range(end.block)]
    drive.locate(end.file)
    write_files(drive, 1)
    drive.locate(end.file)
    assert [drive.read(), drive.read()] == [block(0), None]
    assert drive.space_to_end() == Position(end.file + 1, 0)


@pytest.mark.parametrize("seed", range(16))
def test_kill_while_moving_leaves_each_volume_at_one_place(rig: Rig, seed: int) -> None:
    def move_on(tell: Connection) -> None:
        library = rig.open()
        for n in range(10_000):
            drive = n % 2
            library.load(BLANKS[drive], drive, token=1)
            tell.send(True)
            library.export("VT0003")
            tell.send(True)
            library.unload(drive, token=1)
            tell.send(True)
            library.admit("VT0003")
            tell.send(True)

    killed(move_on, seed, random.Random(seed).uniform(0, 0.01))
    library = rig.open()
    assert set(places(library)) == set(BLANKS)
    for drive in (0, 1):
        library.unload(drive, token=2)
    library.export("VT0003")
    assert places(library) == {
        "VT0001": ElementKind.STORAGE,
        "VT0002": ElementKind.STORAGE,
        "VT0003": "dock",
    }
    library.admit("VT0003")
    for barcode in BLANKS:
        assert library.load(barcode, 0, token=2).space_to_end() == Position(0, 0)
