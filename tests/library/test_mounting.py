"""Mounts under leases: which drive, renewal, loss, and what is left after an exception."""

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from restore_lib.errors import (
    CatalogUnavailable,
    DriveBusy,
    LeaseLost,
    LibraryOffline,
    MediumError,
    TapeflowError,
    VolumeAbsent,
    VolumeStuck,
)
from restore_lib.library.base import ElementKind
from restore_lib.library.faults import DriveDies, Faults, write_faults
from restore_lib.library.mounting import mounted, put_away
from restore_lib.library.virtual import VirtualLibrary
from restore_lib.model.lease import Lease

SHORT = timedelta(seconds=0.015)


class MemoryLeases:
    """Leases in memory, which end by ``release`` or ``take_over`` and by nothing else."""

    def __init__(self) -> None:
        self.live: dict[int, tuple[Lease, str]] = {}
        self.token = 0
        self.renewals = threading.Semaphore(0)
        self.renew_fails: list[Exception] = []
        self.release_fails = False

    def acquire(
        self, drives: Sequence[int], holder: str, barcode: str, ttl: timedelta
    ) -> Lease | None:
        for drive in drives:
            if drive not in self.live:
                self.token += 1
                lease = Lease(drive, self.token, holder, datetime.now(UTC) + ttl, ttl)
                self.live[drive] = (lease, barcode)
                return lease
        return None

    def renew(self, lease: Lease) -> Lease:
        self.renewals.release()
        if self.renew_fails:
            raise self.renew_fails.pop()
        if self.live.get(lease.drive, (None,))[0] != lease:
            raise LeaseLost(f"Drive {lease.drive} has another holder.")
        return lease

    def release(self, lease: Lease) -> None:
        if self.release_fails:
            raise CatalogUnavailable("The catalog does not answer.")
        if self.live.get(lease.drive, (None,))[0] == lease:
            del self.live[lease.drive]

    def holders(self) -> Mapping[int, str]:
        return {drive: barcode for drive, (_, barcode) in self.live.items()}

    def take_over(self, drive: int, barcode: str) -> Lease:
        """Give the drive to another holder, as after an expiry."""
        self.live.pop(drive, None)
        lease = self.acquire([drive], "successor", barcode, timedelta(seconds=60))
        assert lease is not None
        return lease


@pytest.fixture
def leases() -> MemoryLeases:
    return MemoryLeases()


def place_of(library: VirtualLibrary, barcode: str) -> tuple[ElementKind, int]:
    (found,) = [e for e in library.inventory() if e.barcode == barcode]
    return found.kind, found.number


def until_it_fails(operation: Callable[[], object]) -> TapeflowError:
    """Repeat ``operation`` until it raises, and return the error."""
    while True:
        try:
            operation()
        except TapeflowError as error:
            return error


def test_mount_writes_and_leaves_all_as_it_was(
    library: VirtualLibrary, leases: MemoryLeases
) -> None:
    with mounted(library, leases, "VT0001", "task 1") as drive:
        assert leases.holders() == {0: "VT0001"}
        assert place_of(library, "VT0001") == (ElementKind.DRIVE, 0)
        drive.write(b"a block")
        drive.write_filemark()
        drive.rewind()
        assert drive.position().file == 0
    assert leases.holders() == {}
    assert place_of(library, "VT0001")[0] is ElementKind.STORAGE
    with mounted(library, leases, "VT0001", "task 2") as drive:
        assert (drive.barcode(), drive.read(), drive.read()) == ("VT0001", b"a block", None)
        drive.locate(0)
        assert drive.space_to_end().file == 1


def test_no_free_drive(library: VirtualLibrary, leases: MemoryLeases) -> None:
    with (
        mounted(library, leases, "VT0001", "a") as first,
        mounted(library, leases, "VT0002", "b") as second,
    ):
        assert {first.number, second.number} == {0, 1}
        with (
            pytest.raises(DriveBusy, match="No drive is free"),
            mounted(library, leases, "VT0003", "c"),
        ):
            pytest.fail("mounted in a drive that is taken")


def test_volume_in_use(library: VirtualLibrary, leases: MemoryLeases) -> None:
    with mounted(library, leases, "VT0001", "a"), pytest.raises(DriveBusy, match="VT0001"):
        mounted(library, leases, "VT0001", "b").__enter__()
    assert leases.holders() == {}


def test_volume_absent_leaves_no_lease(library: VirtualLibrary, leases: MemoryLeases) -> None:
    with pytest.raises(VolumeAbsent, match="VT0009"):
        mounted(library, leases, "VT0009", "a").__enter__()
    assert leases.holders() == {}


def test_volume_that_a_killed_holder_left_in_a_drive(
    library: VirtualLibrary, leases: MemoryLeases
) -> None:
    leases.token = 10
    old = library.load("VT0001", 1, token=5)
    with mounted(library, leases, "VT0001", "a") as drive:
        assert drive.number == 1
        with pytest.raises(LeaseLost):
            old.write(b"from the dead")


def test_empty_drives_are_taken_first(library: VirtualLibrary, leases: MemoryLeases) -> None:
    library.load("VT0001", 0, token=0)
    with mounted(library, leases, "VT0002", "a") as drive:
        assert drive.number == 1
        with mounted(library, leases, "VT0003", "b") as other:
            assert other.number == 0
            assert place_of(library, "VT0001")[0] is ElementKind.STORAGE


def test_exception_in_the_body_puts_all_back(library: VirtualLibrary, leases: MemoryLeases) -> None:
    with (
        pytest.raises(MediumError, match="as if"),
        mounted(library, leases, "VT0001", "a"),
    ):
        raise MediumError("as if")
    assert leases.holders() == {}
    assert place_of(library, "VT0001")[0] is ElementKind.STORAGE


def test_dead_drive_ends_its_mount_and_others_are_used(
    library: VirtualLibrary, leases: MemoryLeases
) -> None:
    image = library.root / "library" / "slot-0001" / "VT0001.tap"
    write_faults(image, Faults(drive_dies=DriveDies(after_blocks=0)))
    with (
        pytest.raises(VolumeStuck, match=r"Drive 0 is dead\. VT0001 is in it") as caught,
        mounted(library, leases, "VT0001", "a") as drive,
    ):
        drive.write(b"x")
    assert caught.value.__cause__ is not None
    assert caught.value.__cause__.__notes__[0].startswith("Unloading drive 0 failed too")
    assert leases.holders() == {}
    with pytest.raises(VolumeStuck, match="VT0001 is in it"):
        put_away(library, leases, "VT0001", "a")
    with pytest.raises(VolumeStuck, match="Drive 0 is dead"):
        mounted(library, leases, "VT0001", "a").__enter__()
    with mounted(library, leases, "VT0002", "b") as drive:
        assert drive.number == 1
        assert leases.holders() == {1: "VT0002"}
    library.repair_drive(0)
    with mounted(library, leases, "VT0001", "a") as drive:
        drive.write(b"x")


def test_empty_dead_drive_is_passed_over(library: VirtualLibrary, leases: MemoryLeases) -> None:
    (library.root / "library" / "drive-0" / ".dead").touch()
    with mounted(library, leases, "VT0001", "a") as drive:
        assert drive.number == 1
        assert leases.holders() == {1: "VT0001"}
        with pytest.raises(DriveBusy, match="VT0002") as caught:
            mounted(library, leases, "VT0002", "b").__enter__()
    assert "Drive 0 is dead" in str(caught.value.__cause__)


def test_volume_that_another_holder_is_about_to_load(
    library: VirtualLibrary, leases: MemoryLeases
) -> None:
    leases.take_over(1, "VT0001")
    with pytest.raises(DriveBusy, match="VT0001 is in use"):
        mounted(library, leases, "VT0001", "a").__enter__()
    assert leases.holders() == {1: "VT0001"}


def test_all_drives_dead(library: VirtualLibrary, leases: MemoryLeases) -> None:
    for number in (0, 1):
        (library.root / "library" / f"drive-{number}" / ".dead").touch()
    with pytest.raises(LibraryOffline, match="is dead"):
        mounted(library, leases, "VT0001", "a").__enter__()
    assert leases.holders() == {}


def test_drive_that_dies_at_the_very_end(library: VirtualLibrary, leases: MemoryLeases) -> None:
    with (
        pytest.raises(LibraryOffline, match="Drive 0 is dead"),
        mounted(library, leases, "VT0001", "a"),
    ):
        (library.root / "library" / "drive-0" / ".dead").touch()
    assert leases.holders() == {}


def test_lease_is_renewed(library: VirtualLibrary, leases: MemoryLeases) -> None:
    with mounted(library, leases, "VT0001", "a", ttl=SHORT) as drive:
        for _ in range(3):
            assert leases.renewals.acquire(timeout=60)
        drive.write(b"still here")
    assert not [t for t in threading.enumerate() if t.name.startswith("lease-of-drive")]


def test_lost_lease_stops_the_holder_and_leaves_the_successor_alone(
    library: VirtualLibrary, leases: MemoryLeases
) -> None:
    with mounted(library, leases, "VT0001", "a", ttl=SHORT) as drive:
        successor = leases.take_over(0, "VT0001")
        error = until_it_fails(drive.position)
        assert isinstance(error, LeaseLost)
        assert "lease of a on drive 0" in str(error)
        newer = library.load("VT0001", 0, successor.token)
        with pytest.raises(LeaseLost):
            drive.write(b"late")
    assert leases.holders() == {0: "VT0001"}
    newer.write(b"successor's")
    assert place_of(library, "VT0001") == (ElementKind.DRIVE, 0)


def test_catalog_that_does_not_answer_for_a_while(
    library: VirtualLibrary, leases: MemoryLeases
) -> None:
    leases.renew_fails = [CatalogUnavailable("The catalog does not answer.")] * 3
    with mounted(library, leases, "VT0001", "a", ttl=SHORT) as drive:
        for _ in range(5):
            assert leases.renewals.acquire(timeout=60)
        drive.write(b"went on")
    assert leases.holders() == {}


def test_unexpected_error_of_the_renewal_reaches_the_holder(
    library: VirtualLibrary, leases: MemoryLeases
) -> None:
    leases.renew_fails = [RuntimeError("bug")]
    with mounted(library, leases, "VT0001", "a", ttl=SHORT) as drive:
        error = until_it_fails(drive.position)
    assert isinstance(error, LeaseLost)
    assert isinstance(error.__cause__, RuntimeError)


def test_failed_release_does_not_fail_the_work(
    library: VirtualLibrary, leases: MemoryLeases
) -> None:
    leases.release_fails = True
    with mounted(library, leases, "VT0001", "a"):
        pass
    assert place_of(library, "VT0001")[0] is ElementKind.STORAGE


def test_put_away(library: VirtualLibrary, leases: MemoryLeases) -> None:
    library.load("VT0001", 1, token=0)
    put_away(library, leases, "VT0001", "a")
    assert place_of(library, "VT0001")[0] is ElementKind.STORAGE
    put_away(library, leases, "VT0001", "a")
    assert leases.holders() == {}
    with mounted(library, leases, "VT0001", "a"), pytest.raises(DriveBusy, match="VT0001"):
        put_away(library, leases, "VT0001", "b")


def test_other_library_errors_release_the_lease(
    library: VirtualLibrary, leases: MemoryLeases, tmp_path: Path
) -> None:
    (tmp_path / "library" / "slot-0004" / "VT0001.tap").touch()
    with pytest.raises(TapeflowError, match="VT0001 is in"):
        mounted(library, leases, "VT0001", "a").__enter__()
    assert leases.holders() == {}
