"""Drive leases, and mounts that hold one.

A drive is used under a lease with a fencing token. A holder that dies stops renewing, and the drive
comes free when its lease expires; should it wake up later, the drive refuses its older token.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Protocol, Self, TypeVar

from restore_lib.errors import (
    DriveBusy,
    LeaseLost,
    LibraryOffline,
    TapeflowError,
    VolumeStuck,
)
from restore_lib.library.base import Drive, Library, Position, Range
from restore_lib.library.lto import Geometry
from restore_lib.model.lease import Lease

DEFAULT_TTL = timedelta(seconds=60)

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class Leases(Protocol):
    """The drive leases of one library, the same for all its processes."""

    def acquire(
        self, drives: Sequence[int], holder: str, barcode: str, ttl: timedelta
    ) -> Lease | None:
        """Lease the first of ``drives`` without a live lease, for ``barcode``; None: all taken."""
        ...

    def renew(self, lease: Lease) -> Lease:
        """Let the lease last its time to live from now; LeaseLost when another holder has it."""
        ...

    def release(self, lease: Lease) -> None:
        """End the lease; nothing happens when it has ended or another holder has the drive."""
        ...

    def holders(self) -> Mapping[int, str]:
        """Return the drives under a live lease, each with the barcode that it was leased for."""
        ...


@contextlib.contextmanager
def mounted(
    library: Library, leases: Leases, barcode: str, holder: str, *, ttl: timedelta = DEFAULT_TTL
) -> Iterator[Drive]:
    """Mount volume ``barcode`` in a free drive, under a lease that is renewed in the background.

    The drive that holds the volume already is taken, else the first free one that answers. On
    leaving, the volume is put back and the lease released, also after an exception, which is then
    the one that is raised. Once the lease is lost, the next operation of the drive raises LeaseLost
    and leaving touches nothing. After a kill, the volume stays in the drive until the next mount.

    Raises VolumeAbsent when the volume is in no element, DriveBusy when no drive is free or the
    volume is in use, LibraryOffline when no free drive answers, VolumeStuck when the drive that has
    the volume does not, be it before or during its use, and whatever ``library.load`` does.
    """
    with _told_when_stuck(library, barcode), _mounted(library, leases, barcode, holder, ttl) as one:
        yield one


@contextlib.contextmanager
def _mounted(
    library: Library, leases: Leases, barcode: str, holder: str, ttl: timedelta
) -> Iterator[Drive]:
    candidates = _candidates(library, leases, barcode)
    dead: LibraryOffline | None = None
    while candidates:
        lease = leases.acquire(candidates, holder, barcode, ttl)
        if lease is None:
            raise DriveBusy(f"No drive is free for {barcode}.", volume=barcode) from dead
        with contextlib.ExitStack() as stack:
            keeper = stack.enter_context(_Keeper(leases, lease, ttl))
            try:
                drive = library.load(barcode, lease.drive, lease.token)
            except LibraryOffline as error:
                dead = error
                candidates.remove(lease.drive)
                continue
            stack.push(_PutBack(library, keeper))
            yield _LeasedDrive(drive, keeper)
            return
    raise dead or LibraryOffline("The library has no drive.")


def put_away(
    library: Library, leases: Leases, barcode: str, holder: str, *, ttl: timedelta = DEFAULT_TTL
) -> None:
    """Put volume ``barcode`` into a slot if a killed holder has left it in a drive.

    Nothing happens when it is in no drive. Raises DriveBusy when the drive is under a live lease,
    and VolumeStuck when it is dead.
    """
    drive = _drive_holding(library, barcode)
    if drive is None:
        return
    lease = leases.acquire([drive], holder, barcode, ttl)
    if lease is None:
        raise DriveBusy(f"The volume {barcode} is in use in drive {drive}.", volume=barcode)
    with _told_when_stuck(library, barcode), _Keeper(leases, lease, ttl):
        library.unload(drive, lease.token)


@contextlib.contextmanager
def _told_when_stuck(library: Library, barcode: str) -> Iterator[None]:
    try:
        yield
    except LibraryOffline as error:
        if _drive_holding(library, barcode) is None:
            raise
        raise VolumeStuck(f"{error.message} {barcode} is in it.", volume=barcode) from error


def _candidates(library: Library, leases: Leases, barcode: str) -> list[int]:
    """Return the drives that may take ``barcode``, the most wanted one first."""
    if barcode in leases.holders().values():
        raise DriveBusy(f"The volume {barcode} is in use.", volume=barcode)
    loaded = library.loaded()
    holding = [drive for drive, held in loaded.items() if held == barcode]
    return holding or sorted(range(library.drives), key=lambda drive: (drive in loaded, drive))


def _drive_holding(library: Library, barcode: str) -> int | None:
    return next((drive for drive, held in library.loaded().items() if held == barcode), None)


class _Keeper:
    """Renews a lease every third of its time to live, and releases it at the end."""

    def __init__(self, leases: Leases, lease: Lease, ttl: timedelta) -> None:
        self.lease = lease
        self._leases = leases
        self._interval = ttl.total_seconds() / 3
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(
            target=self._renew, name=f"lease-of-drive-{lease.drive}", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        try:
            self._leases.release(self.lease)
        except TapeflowError as error:
            _log.warning("Lease on drive %s left to expire: %s", self.lease.drive, error)

    @property
    def lost(self) -> bool:
        """Whether another holder may have the drive."""
        return self._failure is not None

    def check(self) -> None:
        """Raise LeaseLost when the lease is known to be lost."""
        if self._failure is not None:
            raise LeaseLost(
                f"The lease of {self.lease.holder} on drive {self.lease.drive} is lost."
            ) from self._failure

    def _renew(self) -> None:
        while not self._stop.wait(self._interval):
            try:
                self.lease = self._leases.renew(self.lease)
            except LeaseLost as error:
                self._failure = error
                return
            except TapeflowError as error:
                # The fence keeps a newer holder safe from us, so we go on until we hear of one.
                _log.warning("Lease on drive %s not renewed: %s", self.lease.drive, error)
            except Exception as error:  # noqa: BLE001  a thread's error has to reach its owner
                self._failure = error
                return


class _PutBack:
    """Unloads the drive at the end of a mount, without hiding the exception that ended it."""

    def __init__(self, library: Library, keeper: _Keeper) -> None:
        self._library = library
        self._keeper = keeper

    def __enter__(self) -> None:
        """Do nothing: the drive is loaded."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._keeper.lost:
            return
        lease = self._keeper.lease
        try:
            self._library.unload(lease.drive, lease.token)
        except TapeflowError as failure:
            if error is None:
                raise
            error.add_note(f"Unloading drive {lease.drive} failed too: {failure}")


class _LeasedDrive:
    """A drive whose every operation fails once its lease is lost."""

    def __init__(self, drive: Drive, keeper: _Keeper) -> None:
        self.number = drive.number
        self._drive = drive
        self._keeper = keeper

    def barcode(self) -> str | None:
        return self._held(self._drive.barcode)

    def rewind(self) -> None:
        self._held(self._drive.rewind)

    def locate(self, file: int, block: int = 0) -> None:
        self._held(lambda: self._drive.locate(file, block))

    def space_to_end(self) -> Position:
        return self._held(self._drive.space_to_end)

    def position(self) -> Position:
        return self._held(self._drive.position)

    def read(self) -> bytes | None:
        return self._held(self._drive.read)

    def write(self, block: bytes) -> None:
        self._held(lambda: self._drive.write(block))

    def write_filemark(self) -> None:
        self._held(self._drive.write_filemark)

    def geometry(self) -> Geometry | None:
        return self._held(self._drive.geometry)

    def recommended_order(self, ranges: Sequence[Range]) -> Sequence[int] | None:
        return self._held(lambda: self._drive.recommended_order(ranges))

    def _held(self, operation: Callable[[], _Result]) -> _Result:
        self._keeper.check()
        return operation()
