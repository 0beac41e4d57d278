"""Clocks: the machine's, and the one that tests pass in."""

from datetime import UTC, datetime, timedelta

from restore_lib.model.clock import Clock, SystemClock
from tests.support.clock import ManualClock


def test_the_machine_s_clock_is_aware_and_goes_on() -> None:
    clock: Clock = SystemClock()
    before = datetime.now(UTC)
    first = clock.now()
    clock.sleep(0.001)
    second = clock.now()
    assert first.utcoffset() == timedelta()
    assert before <= first < second <= datetime.now(UTC)


def test_time_in_tests_goes_when_told() -> None:
    clock: Clock = ManualClock()
    before = clock.now()
    clock.sleep(3600 * 24 * 365)
    assert clock.now() - before == timedelta(days=365)
