"""Requests side by side; what a group brings in is tested with every store's."""

import hashlib
import threading
from collections.abc import Iterator

import pytest

from restore_lib.errors import StoreUnavailable
from restore_lib.stores import s3_group
from restore_lib.stores.s3 import S3Store
from tests.stores.conftest import keys
from tests.support.s3server import S3Server


@pytest.fixture
def store(s3_server: S3Server) -> Iterator[S3Store]:
    opened = s3_server.store(s3_server.bucket(versioned=False))
    yield opened
    opened.close()


def fill(store: S3Store, count: int) -> None:
    data = b"data"
    with store.group() as group:
        for number in range(count):
            digest = hashlib.sha256(data).hexdigest()
            group.add(b"%03d" % number, [data], size=4, sha256=digest)
        assert group.finish() == {}


def test_small_objects_go_side_by_side(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put, together = S3Store.put, threading.Barrier(s3_group.REQUESTS, timeout=30)

    def waiting(self: S3Store, *args: object, **values: object) -> None:
        together.wait()
        put(self, *args, **values)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(S3Store, "put", waiting)
    fill(store, 4 * s3_group.REQUESTS)
    assert len(keys(store)) == 4 * s3_group.REQUESTS


def test_a_service_that_goes_away_ends_the_group(
    store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(S3Store, "put", away)
    with pytest.raises(StoreUnavailable):
        fill(store, 3)
    with pytest.raises(StoreUnavailable):
        fill(store, 100)
