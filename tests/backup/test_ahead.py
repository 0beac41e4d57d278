import shutil
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from types import SimpleNamespace

import pytest

from restore_lib.backup import ahead
from restore_lib.backup.ahead import Ahead, MayBegin
from restore_lib.backup.seal import StagedFile
from restore_lib.backup.stage import StagedStripe
from restore_lib.errors import DiskFull, StoreUnavailable

STRIPE = 1000
Staged = Generator[tuple[StagedStripe, bool]]


def stripe(folder: Path, number: int) -> StagedStripe:
    path = folder / f"stripe-{number}"
    path.write_bytes(bytes(10))
    return StagedStripe(number, (StagedFile(0, path, 1, "", "", b"", 0),), ())


def disk(monkeypatch: pytest.MonkeyPatch, free: Callable[[], int]) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free()))


def numbers(taken: list[StagedStripe]) -> list[int]:
    return [one.number for one in taken]


def test_what_is_staged_is_taken_in_order_until_there_is_no_more(tmp_path: Path) -> None:
    def three(_: object) -> Staged:
        for number in (1, 2, 3):
            yield stripe(tmp_path, number), number < 3

    with Ahead(tmp_path, STRIPE, 0, three) as staging:
        found = staging.take()
        while not staging.complete:
            found += staging.take()
        assert numbers(found) == [1, 2, 3]
        assert staging.take() == []


def test_it_is_not_complete_before_the_last_is_taken(tmp_path: Path) -> None:
    ended = threading.Event()

    def one(_: object) -> Staged:
        yield stripe(tmp_path, 1), False
        ended.set()

    with Ahead(tmp_path, STRIPE, 0, one) as staging:
        assert ended.wait(10)
        assert not staging.complete
        assert numbers(staging.take()) == [1]
        assert staging.complete


def test_an_error_comes_behind_what_was_staged_before_it(tmp_path: Path) -> None:
    def broken(_: object) -> Staged:
        yield stripe(tmp_path, 1), True
        raise StoreUnavailable("gone")

    with Ahead(tmp_path, STRIPE, 0, broken) as staging:
        found = staging.take()
        with pytest.raises(StoreUnavailable, match="gone"):
            staging.take()
    assert numbers(found) == [1]


def staged_as_allowed(folder: Path, allowed: list[bool]) -> Callable[[MayBegin], Staged]:
    """Stage three stripes, two side by side where that is allowed."""

    def staged(may_begin: MayBegin) -> Staged:
        for number in (1, 2, 3):
            assert may_begin(0, 0)
            allowed.append(may_begin(1, 0))
            yield stripe(folder, number), number < 3

    return staged


def test_half_of_the_free_disk_is_left_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk(monkeypatch, lambda: 100 + 4 * STRIPE - 1)
    monkeypatch.setattr(ahead, "_LOOK_SECONDS", 0.01)
    waiting = threading.Event()

    def staged(may_begin: MayBegin) -> Staged:
        for number in (1, 2, 3):
            if number == 3:
                waiting.set()
            may_begin(0, 0)
            yield stripe(tmp_path, number), number < 3

    with Ahead(tmp_path, STRIPE, 100, staged) as staging:
        assert waiting.wait(10)
        first, second = staging.take()
        assert [path.name for path in tmp_path.iterdir()].count("stripe-3") == 0
        staging.remove(first)
        assert numbers(staging.take()) == [3]
        assert second.files[0].path.exists()


def test_staging_goes_on_when_another_job_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [STRIPE]
    disk(monkeypatch, lambda: free[0])
    monkeypatch.setattr(ahead, "_LOOK_SECONDS", 0.01)
    with Ahead(tmp_path, STRIPE, 0, staged_as_allowed(tmp_path, [])) as staging:
        assert numbers(staging.take()) == [1]
        free[0] = 100 * STRIPE
        assert numbers(staging.take())[0] == 2


def test_extents_in_memory_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "MOST_PIECES", 0)
    allowed: list[bool] = []
    with Ahead(tmp_path, STRIPE, 0, staged_as_allowed(tmp_path, allowed)) as staging:
        for number in (1, 2, 3):
            [one] = staging.take()
            assert one.number == number
            staging.remove(one)
    assert allowed == [False, False, False]
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_for_one_stripe_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk(monkeypatch, lambda: 100 + STRIPE - 1)
    with (
        Ahead(tmp_path, STRIPE, 100, staged_as_allowed(tmp_path, [])) as staging,
        pytest.raises(
            DiskFull, match=f"{tmp_path} has 999 bytes free beside the 100 .* needs 1,000"
        ),
    ):
        staging.take()


def test_leaving_ends_a_staging_that_waits_for_room(tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "none", ignore_errors=True)
    began = threading.Event()
    closed = threading.Event()

    def endless(may_begin: MayBegin) -> Staged:
        try:
            for number in range(1_000_000):
                may_begin(0, 0)
                began.set()
                yield stripe(tmp_path, number), True
        finally:
            closed.set()

    with Ahead(tmp_path, STRIPE, shutil.disk_usage(tmp_path).free // 2, endless):
        assert began.wait(10)
    assert closed.is_set()
