"""A lease is a value."""

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta

import pytest

from restore_lib.model.lease import Lease


def test_a_lease_does_not_change() -> None:
    lease = Lease(0, 7, "task", datetime(2030, 1, 1, tzinfo=UTC), timedelta(seconds=60))
    with pytest.raises(FrozenInstanceError):
        lease.token = 8  # type: ignore[misc]  # what must not work
