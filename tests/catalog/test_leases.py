"""Drive leases: one live holder a drive, a volume in one drive only, tokens that only grow."""

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from restore_lib.catalog.engine import Catalog
from restore_lib.catalog.leases import CatalogLeases
from restore_lib.errors import DriveBusy, LeaseLost
from restore_lib.library.mounting import Leases, mounted
from restore_lib.library.virtual import VirtualLibrary
from restore_lib.model.clock import SystemClock
from restore_lib.model.lease import Lease
from tests.support.clock import ManualClock

TTL = timedelta(seconds=60)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def leases(catalog: Catalog, clock: ManualClock) -> CatalogLeases:
    return CatalogLeases(catalog, clock)


def taken(lease: Lease | None) -> Lease:
    assert lease is not None
    return lease


def test_it_is_what_the_library_asks_for(leases: CatalogLeases) -> None:
    asked: Leases = leases
    assert asked.holders() == {}


def test_the_first_free_drive_is_leased(leases: CatalogLeases, clock: ManualClock) -> None:
    first = taken(leases.acquire([1, 0], "a", "V1", TTL))
    second = taken(leases.acquire([1, 0], "b", "V2", TTL))
    assert (first.drive, second.drive) == (1, 0)
    assert first.expires_at == clock.now() + TTL
    assert leases.holders() == {1: "V1", 0: "V2"}
    assert leases.acquire([1, 0], "c", "V3", TTL) is None


def test_a_volume_is_leased_in_one_drive_only(leases: CatalogLeases) -> None:
    first = taken(leases.acquire([0], "a", "V1", TTL))
    assert leases.acquire([1], "a", "V1", TTL) is None
    leases.release(first)
    assert taken(leases.acquire([1], "b", "V1", TTL)).drive == 1


def test_only_the_drives_asked_for_are_given(leases: CatalogLeases) -> None:
    leases.acquire([0], "a", "V1", TTL)
    assert leases.acquire([0], "b", "V2", TTL) is None


def test_no_drive_is_no_lease(leases: CatalogLeases) -> None:
    assert leases.acquire([], "a", "V1", TTL) is None


def test_tokens_grow_over_release_and_expiry(leases: CatalogLeases, clock: ManualClock) -> None:
    tokens = []
    for number in range(6):
        lease = taken(leases.acquire([0], f"h{number}", f"V{number}", TTL))
        tokens.append(lease.token)
        if number % 2:
            leases.release(lease)
        else:
            clock.advance(TTL)
    assert tokens == sorted(set(tokens))


def test_a_lease_ends_by_the_clock(leases: CatalogLeases, clock: ManualClock) -> None:
    taken(leases.acquire([0], "a", "V1", TTL))
    clock.advance(TTL - timedelta(microseconds=1))
    assert leases.holders() == {0: "V1"}
    assert leases.acquire([0], "b", "V2", TTL) is None
    clock.advance(timedelta(microseconds=1))
    assert leases.holders() == {}
    assert leases.acquire([0], "b", "V2", TTL) is not None


def test_a_renewal_lasts_its_time_from_then_on(leases: CatalogLeases, clock: ManualClock) -> None:
    lease = taken(leases.acquire([0], "a", "V1", TTL))
    for _ in range(5):
        clock.advance(TTL - timedelta(seconds=1))
        renewed = leases.renew(lease)
        assert renewed.expires_at == clock.now() + TTL
        assert renewed.token == lease.token
    assert leases.holders() == {0: "V1"}


def test_what_was_released_or_taken_is_not_renewed(
    leases: CatalogLeases, clock: ManualClock
) -> None:
    released = taken(leases.acquire([0], "a", "V1", TTL))
    leases.release(released)
    expired = taken(leases.acquire([1], "b", "V2", TTL))
    clock.advance(TTL)
    taken(leases.acquire([1], "c", "V3", TTL))
    for lease in (released, expired):
        with pytest.raises(LeaseLost, match=f"drive {lease.drive}"):
            leases.renew(lease)


def test_a_lease_that_is_over_and_was_not_taken_is_renewed(
    leases: CatalogLeases, clock: ManualClock
) -> None:
    lease = taken(leases.acquire([0], "a", "V1", TTL))
    clock.advance(10 * TTL)
    assert leases.renew(lease).token == lease.token
    assert leases.acquire([0], "b", "V2", TTL) is None
    assert leases.holders() == {0: "V1"}


def test_an_earlier_holder_can_touch_nothing(leases: CatalogLeases, clock: ManualClock) -> None:
    old = taken(leases.acquire([0], "same name", "V1", TTL))
    clock.advance(TTL)
    new = taken(leases.acquire([0], "same name", "V1", TTL))
    with pytest.raises(LeaseLost):
        leases.renew(old)
    leases.release(old)
    assert leases.holders() == {0: "V1"}
    assert leases.renew(new).token == new.token


def test_a_slow_clock_does_not_bring_a_lease_back(catalog: Catalog, clock: ManualClock) -> None:
    """The volume went to another drive; its first holder's clock says that it still has it."""
    slow = CatalogLeases(catalog, ManualClock(clock.now()))
    old = taken(slow.acquire([0], "slow", "V1", TTL))
    clock.advance(TTL)
    taken(CatalogLeases(catalog, clock).acquire([1], "fast", "V1", TTL))
    with pytest.raises(LeaseLost):
        slow.renew(old)


def test_releasing_twice_does_nothing(leases: CatalogLeases) -> None:
    lease = taken(leases.acquire([0], "a", "V1", TTL))
    leases.release(lease)
    leases.release(lease)
    assert leases.holders() == {}


def test_many_threads_share_two_drives(catalog: Catalog) -> None:
    """Each of 160 attempts that gets a drive checks that nobody else has it or the volume."""
    leases = CatalogLeases(catalog, SystemClock())
    inside: set[str] = set()
    tokens: dict[int, list[int]] = {0: [], 1: []}
    guard = threading.Lock()

    def work(worker: int) -> int:
        got = 0
        for turn in range(20):
            barcode = f"V{(worker + turn) % 3}"
            lease = leases.acquire([turn % 2, 1 - turn % 2], f"worker {worker}", barcode, TTL)
            if lease is None:
                continue
            got += 1
            claims = (f"drive {lease.drive}", barcode)
            with guard:
                assert not inside.intersection(claims)
                inside.update(claims)
                tokens[lease.drive].append(lease.token)
            leases.renew(lease)
            with guard:
                inside.difference_update(claims)
            leases.release(lease)
        return got

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) > 0
    for drawn in tokens.values():
        assert drawn == sorted(set(drawn))


def test_processes_race_for_one_drive(catalog_url: str) -> None:
    context = multiprocessing.get_context("fork")
    with context.Pool(4) as pool:
        drawn = pool.map(_race, [(catalog_url, number) for number in range(4)])
    tokens = sorted(token for part in drawn for token in part)
    assert tokens == list(range(1, len(tokens) + 1))
    assert len(tokens) >= 10


def _race(argument: tuple[str, int]) -> list[int]:
    url, number = argument
    catalog = Catalog(url)
    leases = CatalogLeases(catalog, SystemClock())
    tokens = []
    for turn in range(20):
        lease = leases.acquire([0], f"process {number}", f"V{number}-{turn}", TTL)
        if lease is not None:
            tokens.append(lease.token)
            leases.release(leases.renew(lease))
    catalog.close()
    return tokens


def test_a_mount_holds_its_lease_while_it_lasts(leases: CatalogLeases, tmp_path: Path) -> None:
    library = VirtualLibrary.create(
        tmp_path / "tapes", slots=4, drives=2, import_export=1, capacity_bytes=1 << 20
    )
    library.add_blank(["VT0001"])
    with mounted(library, leases, "VT0001", "task 1") as drive:
        assert leases.holders() == {drive.number: "VT0001"}
        with pytest.raises(DriveBusy), mounted(library, leases, "VT0001", "task 2"):
            pass
    assert leases.holders() == {}


def test_a_lease_outlives_its_killed_holder_until_it_expires(
    leases: CatalogLeases, clock: ManualClock, catalog: Catalog
) -> None:
    taken(leases.acquire([0, 1], "killed", "V1", TTL))
    after = CatalogLeases(catalog, clock)
    assert after.acquire([0, 1], "next", "V1", TTL) is None
    clock.advance(TTL)
    assert taken(after.acquire([0, 1], "next", "V1", TTL)).token == 2


def test_leases_of_a_rebuilt_catalog_outrank_those_of_the_lost_one(
    leases: CatalogLeases, clock: ManualClock
) -> None:
    live = taken(leases.acquire([0], "live", "V1", TTL))
    floor = clock.now().timestamp() * 1_000_000
    leases.supersede([0, 1])
    assert leases.renew(live).token == live.token
    first = taken(leases.acquire([1], "anew", "V2", TTL))
    assert first.token == floor + 1
    leases.release(first)
    clock.advance(timedelta(seconds=1))
    leases.supersede([1])
    second = taken(leases.acquire([1], "anew", "V2", TTL))
    assert second.token == floor + 1_000_001
    leases.release(second)
    clock.advance(timedelta(days=-1))
    leases.supersede([1])
    assert taken(leases.acquire([1], "anew", "V2", TTL)).token == second.token + 1
