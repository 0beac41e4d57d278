"""A virtual drive under injected faults, and one whose volume is taken away."""

from pathlib import Path

import pytest

from restore_lib.errors import ConfigError, DriveBusy, LibraryOffline, MediumError, VolumeFull
from restore_lib.library.base import ElementKind, Position, Range
from restore_lib.library.faults import DriveDies, Faults, faults_path, read_faults, write_faults
from restore_lib.library.places import locked
from restore_lib.library.simh import TapeImage
from restore_lib.library.virtual import VirtualLibrary


def image_of(library: VirtualLibrary, barcode: str) -> Path:
    (image,) = library.root.rglob(f"{barcode}.tap")
    return image


def fill(library: VirtualLibrary, barcode: str) -> None:
    """Write two files of three blocks each."""
    drive = library.load(barcode, 0, token=1)
    for text in (b"abc", b"def"):
        for n in range(3):
            drive.write(text[n : n + 1] * 10)
        drive.write_filemark()
    library.unload(0, token=1)


def test_unreadable_volume_loads_and_fails_when_it_is_used(library: VirtualLibrary) -> None:
    fill(library, "VT0001")
    write_faults(image_of(library, "VT0001"), Faults(unreadable=True))
    drive = library.load("VT0001", 0, token=1)
    assert drive.barcode() == "VT0001"
    with pytest.raises(MediumError, match="VT0001"):
        drive.read()
    with pytest.raises(MediumError, match="VT0001"):
        drive.locate(1)
    with pytest.raises(MediumError, match="VT0001"):
        drive.write(b"x")
    with pytest.raises(MediumError, match="VT0001"):
        drive.space_to_end()
    library.unload(0, token=1)


def test_unreadable_blocks_can_be_passed(library: VirtualLibrary) -> None:
    fill(library, "VT0001")
    write_faults(image_of(library, "VT0001"), Faults(unreadable_blocks=((1, 0, 1),)))
    drive = library.load("VT0001", 0, token=1)
    assert drive.read() == b"a" * 10
    for bad in (0, 1):
        drive.locate(1, bad)
        with pytest.raises(MediumError, match=f"Block {bad} of file 1 on VT0001"):
            drive.read()
    drive.locate(1, 2)
    assert drive.read() == b"f" * 10


def test_short_volume(library: VirtualLibrary) -> None:
    write_faults(image_of(library, "VT0001"), Faults(capacity_bytes=40))
    drive = library.load("VT0001", 0, token=1)
    drive.write(b"x" * 12)
    drive.write(b"y" * 12)
    with pytest.raises(VolumeFull, match="VT0001"):
        drive.write(b"z")
    drive.write_filemark()
    assert drive.position() == Position(1, 0)


@pytest.mark.parametrize("operation", ["read", "write"])
def test_drive_dies_with_the_volume_inside(library: VirtualLibrary, operation: str) -> None:
    fill(library, "VT0001")
    write_faults(
        image_of(library, "VT0001"), Faults(drive_dies=DriveDies(after_blocks=2), unreadable=False)
    )
    drive = library.load("VT0001", 0, token=1)
    assert drive.read() == b"a" * 10
    assert drive.read() == b"b" * 10
    with pytest.raises(LibraryOffline, match="Drive 0 is dead"):
        drive.read() if operation == "read" else drive.write(b"new")

    for dead in (drive.rewind, drive.position, drive.write_filemark):
        with pytest.raises(LibraryOffline, match="Drive 0 is dead"):
            dead()
    with pytest.raises(LibraryOffline, match="Drive 0 is dead"):
        library.unload(0, token=2)
    with pytest.raises(LibraryOffline, match="Drive 0 is dead"):
        library.load("VT0002", 0, token=2)
    with pytest.raises(LibraryOffline, match="Drive 0 is dead"):
        library.load("VT0001", 1, token=2)
    with pytest.raises(DriveBusy, match="VT0001"):
        library.export("VT0001")
    stuck = [e for e in library.inventory() if e.barcode == "VT0001"]
    assert [(e.kind, e.number) for e in stuck] == [(ElementKind.DRIVE, 0)]

    library.repair_drive(0)
    library.unload(0, token=2)
    drive = library.load("VT0001", 1, token=2)
    assert [drive.read() for _ in range(4)] == [b"a" * 10, b"b" * 10, b"c" * 10, None]


def test_the_other_faults_stay_when_a_drive_has_died(library: VirtualLibrary) -> None:
    faults = Faults(drive_dies=DriveDies(after_blocks=0), capacity_bytes=40)
    write_faults(image_of(library, "VT0001"), faults)
    drive = library.load("VT0001", 0, token=1)
    with pytest.raises(LibraryOffline):
        drive.write(b"x")
    assert read_faults(image_of(library, "VT0001")) == Faults(capacity_bytes=40)


def test_bad_file_of_faults_is_told_at_load(library: VirtualLibrary) -> None:
    faults_path(image_of(library, "VT0001")).write_text('{"broken": 1}')
    with pytest.raises(ConfigError, match="broken"):
        library.load("VT0001", 0, token=1)
    faults_path(image_of(library, "VT0001")).unlink()
    assert library.load("VT0001", 0, token=1).barcode() == "VT0001"


def test_no_other_process_can_claim_the_drive_during_a_write(
    library: VirtualLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = library.load("VT0001", 0, token=1)
    real = TapeImage.write

    def write(self: TapeImage, record: bytes) -> None:
        lock = library.root / "library" / "drive-0" / ".lock"
        with pytest.raises(LibraryOffline, match="busy"), locked(lock, "drive 0", 0):
            pass
        real(self, record)

    monkeypatch.setattr(TapeImage, "write", write)
    drive.write(b"x")
    assert drive.position() == Position(0, 1)


def test_volume_taken_out_by_hand_is_not_written(library: VirtualLibrary) -> None:
    drive = library.load("VT0001", 0, token=1)
    image = image_of(library, "VT0001")
    away = image.rename(library.root / "VT0001.tap")
    with pytest.raises(LibraryOffline, match="VT0001 is no longer in drive 0"):
        drive.write(b"x")
    image.write_bytes(b"")
    with pytest.raises(LibraryOffline, match="VT0001 is no longer in drive 0"):
        drive.write(b"x")
    assert away.read_bytes() == image.read_bytes() == b""


def test_on_an_image_no_order_of_reads_is_better_than_another(library: VirtualLibrary) -> None:
    drive = library.load("VT0001", 0, token=1)
    ranges = [Range(Position(0, block), Position(0, block)) for block in (3, 1)]
    assert drive.geometry() is None
    assert drive.recommended_order(ranges) is None
