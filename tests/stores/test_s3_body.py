import pytest

from restore_lib.errors import ObjectUnreadable, StoreUnavailable
from restore_lib.stores.s3 import S3Store
from tests.stores.conftest import get, noise, put
from tests.support.s3server import S3Server


@pytest.fixture
def store(s3_server: S3Server) -> S3Store:
    return s3_server.store(s3_server.bucket())


def test_an_answer_that_is_cut_off_is_gone_on_with(store: S3Store, s3_server: S3Server) -> None:
    put(store, b"key", noise(3_500_000))
    s3_server.cut_after = 1_000_000
    assert get(store, b"key") == noise(3_500_000)


def test_answers_without_a_byte_end_the_read(store: S3Store, s3_server: S3Server) -> None:
    put(store, b"key", noise(3_000_000))
    s3_server.cut_after = 0
    with pytest.raises(StoreUnavailable):
        get(store, b"key")


def test_an_object_that_is_written_over_is_not_gone_on_with(
    store: S3Store, s3_server: S3Server
) -> None:
    put(store, b"key", noise(3_000_000))
    s3_server.cut_after = 1_500_000
    with store.open(b"key") as stream:
        assert len(stream.read(1_000_000)) == 1_000_000
        put(store, b"key", noise(3_000_001))
        with pytest.raises(ObjectUnreadable):
            stream.read()
