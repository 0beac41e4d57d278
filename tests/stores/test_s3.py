"""What a bucket keeps beyond what every store keeps."""

import hashlib
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from botocore.exceptions import NoCredentialsError

from restore_lib.errors import (
    ConfigError,
    DigestMismatch,
    DiskFull,
    NeedsDecision,
    ObjectUnreadable,
    Refused,
    StoreUnavailable,
    TapeflowError,
)
from restore_lib.stores import s3_errors, s3_parts
from restore_lib.stores.s3 import S3Store
from tests.stores.conftest import failing, get, keys, noise, put, small_disk
from tests.support.s3server import S3Server, running_s3_server

MOMENT = datetime(2012, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)


@pytest.fixture
def store(s3_server: S3Server) -> S3Store:
    return s3_server.store(s3_server.bucket())


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_parts, "MULTIPART_THRESHOLD", 5 << 20)
    monkeypatch.setattr(s3_parts, "PART_SIZE", 5 << 20)


def test_metadata_and_type_come_back(store: S3Store) -> None:
    given = {"mode": "0640", "owner": "Zoë 名", "empty": "", "spaces": " a ", "rfc": "=?x?="}
    put(store, b"key", content_type="text/x; a=b", metadata=given, modified_at=MOMENT)
    found = store.head(b"key")
    assert found is not None
    assert found.metadata == {**given, "tapeflow-modified-at": MOMENT.isoformat()}
    assert found.content_type == "text/x; a=b"
    put(store, b"copy", metadata=found.metadata, modified_at=found.modified_at)
    copy = store.head(b"copy")
    assert copy is not None
    assert copy.metadata == found.metadata
    assert copy.content_type is None


def test_the_service_vouches_for_its_checksum(store: S3Store) -> None:
    put(store, b"key", b"data")
    found = store.head(b"key")
    assert found is not None
    assert found.sha256 == hashlib.sha256(b"data").hexdigest()


def test_large_objects_go_in_parts(store: S3Store, s3_server: S3Server, small_parts: None) -> None:
    data = noise(12 << 20)
    put(store, b"key", data, metadata={"a": "b"}, content_type="text/x", modified_at=MOMENT)
    found = store.head(b"key")
    assert found is not None
    assert (found.size, found.content_type, found.sha256) == (12 << 20, "text/x", None)
    assert found.metadata["a"] == "b"
    assert found.etag is not None
    assert found.etag.endswith("-3")
    assert get(store, b"key") == data


def test_parts_are_never_too_many() -> None:
    five_tib = 5 << 40
    size = s3_parts.part_size(five_tib)
    assert -(-five_tib // size) <= 10_000
    assert s3_parts.part_size(1) == s3_parts.PART_SIZE


@pytest.mark.parametrize("chunk", [1, 7, 10, 25, 1000])
def test_parts_are_cut_to_size(chunk: int) -> None:
    data = noise(95)
    chunks = [data[start : start + chunk] for start in range(0, len(data), chunk)]
    parts = [(part.size, part.body.read(), part.checksum) for part in s3_parts.cut(chunks, 10)]
    assert [size for size, *_ in parts] == [10] * 9 + [5]
    assert b"".join(body for _, body, _ in parts) == data


def test_a_part_beyond_memory_is_held_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_parts, "MEMORY", 10)
    (part,) = (part for part in s3_parts.cut([noise(95)], 100))
    assert part.size == 95


def test_a_full_temporary_folder(
    store: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_parts, "MEMORY", 10)
    with small_disk(tmp_path) as disk:
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        with pytest.raises(DiskFull, match="disk"):
            put(store, b"key", noise(3_000_000))
        put(store, b"small")
    assert keys(store) == [b"small"]


def test_a_failed_upload_in_parts_is_aborted(
    store: S3Store, s3_server: S3Server, small_parts: None
) -> None:
    with pytest.raises(ValueError, match="source"):
        store.put(b"key", failing(noise(11 << 20), ValueError("source")), size=99 << 20, sha256="")
    bucket = store._bucket
    assert "Uploads" not in s3_server.client().list_multipart_uploads(Bucket=bucket)


@pytest.mark.parametrize("size", [100, 12 << 20])
def test_the_service_refuses_bytes_that_changed_on_the_way(
    store: S3Store, s3_server: S3Server, small_parts: None, size: int
) -> None:
    put(store, b"key", b"old")
    s3_server.corrupt = lambda body: body[:-1] + b"!" if b"<Complete" not in body else body
    with pytest.raises(DigestMismatch):
        put(store, b"key", noise(size))
    s3_server.heal()
    assert get(store, b"key") == b"old"


def test_versions(s3_server: S3Server) -> None:
    store = s3_server.store(s3_server.bucket(versioned=True))
    put(store, b"key", b"old")
    put(store, b"other")
    (old, _) = store.list()
    put(store, b"key", b"new")
    (new, _) = store.list()
    assert old.version != new.version
    assert get(store, b"key", version=old.version) == b"old"
    assert get(store, b"key", version=new.version) == b"new"
    store.delete(b"key")
    assert keys(store) == [b"other"]
    assert store.head(b"key") is None
    assert get(store, b"key", version=new.version) == b"new"


def test_the_null_version_is_none_since_it_can_be_written_over(s3_server: S3Server) -> None:
    bucket = s3_server.bucket(versioned=True)
    suspended = {"Status": "Suspended"}
    s3_server.client().put_bucket_versioning(Bucket=bucket, VersioningConfiguration=suspended)
    store = s3_server.store(bucket)
    put(store, b"key", b"old")
    (old,) = store.list()
    put(store, b"key", b"new")
    (new,) = store.list()
    assert (old.version, new.version) == (None, None)
    assert old.etag != new.etag
    head = store.head(b"key")
    assert head is not None
    assert (head.version, head.etag) == (new.version, new.etag)


def test_an_object_of_the_prefix_itself_is_not_listed(s3_server: S3Server) -> None:
    bucket = s3_server.bucket()
    s3_server.client().put_object(Bucket=bucket, Key="folder/", Body=b"")
    store = s3_server.store(bucket, prefix="folder/")
    put(store, b"key")
    assert keys(store) == [b"key"]


@pytest.mark.parametrize("versioned", [False, True])
def test_a_listing_of_many_pages(
    s3_server: S3Server, versioned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")
    bucket = s3_server.bucket(versioned=versioned)
    client = s3_server.client()
    names = [f"p/{number:04}" for number in range(45)]
    for name in [*names, "o", "q"]:
        client.put_object(Bucket=bucket, Key=name, Body=b"")
    store = s3_server.store(bucket, prefix="p/")
    assert keys(store) == [name[2:].encode() for name in names]
    assert keys(store, after=b"0040") == [b"0041", b"0042", b"0043", b"0044"]
    assert all((found.version is not None) == versioned for found in store.list(until=b"0003"))


def test_a_service_that_lists_out_of_order(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, b"a")
    put(store, b"b")
    entries = list(store.list())
    monkeypatch.setattr(store, "_objects", lambda prefix, after: reversed(entries))
    with pytest.raises(Refused, match="order"):
        keys(store)


def test_a_bucket_that_is_not_there(s3_server: S3Server) -> None:
    store = s3_server.store("no-such-bucket")
    for use in (
        lambda: keys(store),
        lambda: store.head(b"key"),
        lambda: get(store, b"key"),
        lambda: put(store, b"key"),
        lambda: store.delete(b"key"),
    ):
        with pytest.raises(ConfigError, match="no-such-bucket"):
            use()


@pytest.mark.parametrize(
    ("status", "code", "listing", "reading", "writing"),
    [
        ("503 Slow Down", "SlowDown", StoreUnavailable, StoreUnavailable, StoreUnavailable),
        ("500 Error", "InternalError", StoreUnavailable, StoreUnavailable, StoreUnavailable),
        ("403 Forbidden", "AccessDenied", ConfigError, ObjectUnreadable, ConfigError),
        ("403 Forbidden", "InvalidAccessKeyId", ConfigError, ConfigError, ConfigError),
        ("400 Bad Request", "ExpiredToken", ConfigError, ConfigError, ConfigError),
        ("403 Forbidden", "InvalidObjectState", ConfigError, ObjectUnreadable, ConfigError),
        ("507 Full", "XMinioStorageFull", DiskFull, DiskFull, DiskFull),
        ("400 Bad Request", "MetadataTooLarge", ConfigError, ObjectUnreadable, Refused),
        ("400 Bad Request", "KMS.DisabledException", ConfigError, ObjectUnreadable, Refused),
    ],
)
def test_what_the_service_answers_becomes_one_of_our_errors(
    store: S3Store,
    s3_server: S3Server,
    status: str,
    code: str,
    listing: type[TapeflowError],
    reading: type[TapeflowError],
    writing: type[TapeflowError],
) -> None:
    s3_server.fail = lambda method, path: (status, code)
    with pytest.raises(listing):
        keys(store)
    with pytest.raises(reading):
        get(store, b"key")
    with pytest.raises(writing) as raised:
        put(store, b"key")
    assert raised.value.remedy
    assert code in raised.value.message


def test_a_passing_fault_goes_unnoticed(store: S3Store, s3_server: S3Server) -> None:
    seen: list[str] = []

    def fail_once(method: str, path: str) -> tuple[str, str] | None:
        seen.append(path)
        return ("503 Slow Down", "SlowDown") if len(seen) == 1 else None

    s3_server.fail = fail_once
    put(store, b"key")
    assert len(seen) == 2
    assert get(store, b"key") == b"data"


def test_a_service_that_goes_away() -> None:
    with running_s3_server() as server:
        bucket = server.bucket()
        store = server.store(bucket)
        put(store, b"key")
        store.close()
        store = server.store(bucket)
        server.stop()
        for use in (lambda: keys(store), lambda: get(store, b"key"), lambda: put(store, b"key")):
            with pytest.raises(StoreUnavailable, match=bucket):
                use()


def test_missing_credentials(store: S3Store) -> None:
    error = s3_errors.translate(NoCredentialsError(), "cloud", "bucket", None)
    assert isinstance(error, NeedsDecision)
    assert "credentials" in error.remedy


def test_an_endpoint_that_is_none() -> None:
    with pytest.raises(ConfigError, match="nonsense"):
        S3Store("cloud", "bucket", endpoint_url="nonsense", region="us-east-1")
