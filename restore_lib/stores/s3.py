"""A bucket of an S3 service as a store."""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from restore_lib.errors import ConfigError, Refused
from restore_lib.model.objects import StoredObject, display_key
from restore_lib.stores import s3_attributes, s3_errors, s3_parts
from restore_lib.stores.checking import checked
from restore_lib.stores.paths import name_refused
from restore_lib.stores.s3_body import Body
from restore_lib.stores.s3_group import S3Group
from restore_lib.stores.streams import sequential

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

MAX_KEY = 1024
MAX_ATTEMPTS = 4
CONNECT_TIMEOUT = 10
READ_TIMEOUT = 60
_UNVERSIONED = "null"
_NO_VERSIONING = {"NotImplemented", "MethodNotAllowed", "405", "501"}

log = logging.getLogger(__name__)


class S3Store:
    """The objects of ``bucket`` whose names begin with ``prefix``, which is not part of the key.

    Credentials come from the usual AWS configuration. A request is tried MAX_ATTEMPTS times.
    Where the bucket keeps versions, ``list`` and ``head`` tell the current one.

    ``put`` sends SHA-256 checksums, so the service itself refuses bytes that changed on the way;
    objects above MULTIPART_THRESHOLD go in parts, held in memory one at a time, and appear when
    all are in. A process that is killed leaves an unfinished upload, which is never listed: let a
    lifecycle rule of the bucket (AbortIncompleteMultipartUpload) sweep these. S3 sets an object's
    time itself; the one given to ``put`` is kept as user metadata ``tapeflow-modified-at``.
    ``list`` tells neither metadata nor content type; ``head`` does. Names of metadata come back in
    lower case. An object whose name is the prefix itself, as consoles make to show a folder, has no
    key, and is not one of the store's.
    """

    lists_metadata = False

    def __init__(
        self,
        name: str,
        bucket: str,
        *,
        prefix: str = "",
        endpoint_url: str | None = None,
        region: str | None = None,
    ) -> None:
        self.name = name
        self._bucket = bucket
        self._prefix = prefix.encode()
        self._bucket_seen = False
        with self._mapped(None):
            self._client = _client(endpoint_url, region)

    def list(
        self, prefix: bytes = b"", *, after: bytes | None = None, until: bytes | None = None
    ) -> Iterator[StoredObject]:
        """Yield the objects in ascending byte order of their keys, streaming, page by page.

        Raises Refused for a service that lists in another order (S3 directory buckets do).
        """
        entries = self._versions if self._keeps_versions() else self._objects
        last: bytes | None = None
        for found in entries(prefix, after):
            if last is not None and found.key <= last:
                raise Refused(
                    f"Store {self.name}: bucket {self._bucket} does not list its keys in order.",
                    remedy="use a general purpose bucket",
                    store=self.name,
                )
            last = found.key
            if until is not None and found.key > until:
                return
            if found.key.startswith(prefix) and found.key > (after or b""):
                yield found

    def head(self, key: bytes) -> StoredObject | None:
        """Return what the bucket knows of ``key``, or None; ConfigError when it has no bucket."""
        name = self._object_name(key)
        with self._mapped(key):
            try:
                answer = self._client.head_object(
                    Bucket=self._bucket, Key=name, ChecksumMode="ENABLED"
                )
            except ClientError as error:
                if s3_errors.code_of(error) not in s3_errors.ABSENT:
                    raise
                self._check_bucket()
                return None
        content_type = answer.get("ContentType")
        return StoredObject(
            key=key,
            size=answer["ContentLength"],
            modified_at=answer["LastModified"],
            etag=answer["ETag"].strip('"'),
            version=_version(answer),
            content_type=None if content_type == s3_attributes.DEFAULT_TYPE else content_type,
            metadata=s3_attributes.from_headers(answer.get("Metadata", {})),
            sha256=s3_parts.whole_sha256(answer.get("ChecksumSHA256"), answer["ETag"]),
        )

    @contextlib.contextmanager
    def open(self, key: bytes, *, version: str | None = None) -> Iterator[BinaryIO]:
        """Open the current or the named version of ``key`` for one sequential read.

        A connection that breaks on the way, as it may while a backup waits for its tapes, is made
        anew; ObjectUnreadable when the object was written over meanwhile.
        """
        name = self._object_name(key)
        mapped = functools.partial(self._reading, key)
        which: dict[str, Any] = {} if version is None else {"VersionId": version}
        get = functools.partial(self._client.get_object, Bucket=self._bucket, Key=name, **which)
        with mapped():
            body = Body(get)
        with contextlib.closing(body), sequential(body.read, mapped) as stream:
            yield stream

    def put(
        self,
        key: bytes,
        chunks: Iterable[bytes],
        *,
        size: int,
        sha256: str,
        modified_at: datetime | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        unless: Callable[[], bool] | None = None,
    ) -> None:
        """Write ``key`` whole or not at all; the service checks what it gets.

        Raises DigestMismatch, DiskFull (also for the temporary folder), or Refused for what the
        service does not take, such as more than 2 KB of metadata.
        """
        target: dict[str, Any] = {"Bucket": self._bucket, "Key": self._object_name(key)}
        about: dict[str, Any] = {"Metadata": s3_attributes.to_headers(metadata, modified_at)}
        if content_type is not None:
            about["ContentType"] = content_type
        body = checked(chunks, key=key, size=size, sha256=sha256)
        if size > s3_parts.MULTIPART_THRESHOLD:
            parts = s3_parts.cut(body, s3_parts.part_size(size))
            self._put_parts(key, target, about, parts, unless)
            return
        for part in s3_parts.cut(body, s3_parts.MULTIPART_THRESHOLD):
            if unless is not None and unless():
                return
            with self._mapped(key):
                self._client.put_object(
                    **target, **about, **_sent(part), ChecksumAlgorithm="SHA256"
                )

    def group(self) -> contextlib.AbstractContextManager[S3Group]:
        """Give a group whose small objects are put several at a time."""
        return S3Group.of(self)

    def delete(self, key: bytes) -> None:
        """Remove ``key``; where the bucket keeps versions, hide it behind a delete marker."""
        name = self._object_name(key)
        with self._mapped(key):
            self._client.delete_object(Bucket=self._bucket, Key=name)

    def secure(self) -> None:
        """Do nothing: an object that is listed is safely in."""

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _put_parts(
        self,
        key: bytes,
        target: dict[str, Any],
        about: dict[str, Any],
        parts: Iterator[s3_parts.Part],
        unless: Callable[[], bool] | None,
    ) -> None:
        with self._mapped(key):
            answer = self._client.create_multipart_upload(
                **target, **about, ChecksumAlgorithm="SHA256"
            )
        target = {**target, "UploadId": answer["UploadId"]}
        done: list[CompletedPartTypeDef] = []
        try:
            for number, part in enumerate(parts, 1):
                with self._mapped(key):
                    tag = self._client.upload_part(
                        **target, **_sent(part), PartNumber=number, ChecksumAlgorithm="SHA256"
                    )["ETag"]
                done.append({"PartNumber": number, "ETag": tag, "ChecksumSHA256": part.checksum})
            if unless is not None and unless():
                self._abort(key, target)
                return
            with self._mapped(key):
                self._client.complete_multipart_upload(**target, MultipartUpload={"Parts": done})
        except BaseException:
            self._abort(key, target)
            raise

    def _abort(self, key: bytes, target: dict[str, Any]) -> None:
        try:
            self._client.abort_multipart_upload(**target)
        except s3_errors.CAUGHT as error:
            log.warning("unfinished upload of %s is left behind: %s", display_key(key), error)

    def _objects(self, prefix: bytes, after: bytes | None) -> Iterator[StoredObject]:
        asked: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._bound(prefix)}
        if after is not None:
            asked["StartAfter"] = self._bound(after)
        for page in self._pages("list_objects_v2", asked):
            for entry in page.get("Contents", []):
                yield self._listed(entry)

    def _versions(self, prefix: bytes, after: bytes | None) -> Iterator[StoredObject]:
        asked: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._bound(prefix)}
        if after is not None:
            asked["KeyMarker"] = self._bound(after)
        for page in self._pages("list_object_versions", asked):
            for entry in page.get("Versions", []):
                if entry["IsLatest"]:
                    yield self._listed(entry)

    def _pages(self, operation: Any, asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
        pages = iter(self._client.get_paginator(operation).paginate(**asked))
        while True:
            with self._mapped(None):
                page = next(pages, None)
            if page is None:
                return
            yield page

    def _listed(self, entry: dict[str, Any]) -> StoredObject:
        return StoredObject(
            key=entry["Key"].encode()[len(self._prefix) :],
            size=entry["Size"],
            modified_at=entry["LastModified"],
            etag=entry["ETag"].strip('"'),
            version=_version(entry),
        )

    def _keeps_versions(self) -> bool:
        with self._mapped(None):
            try:
                answer = self._client.get_bucket_versioning(Bucket=self._bucket)
            except ClientError as error:
                if s3_errors.code_of(error) in _NO_VERSIONING:
                    return False
                raise
        return "Status" in answer

    def _check_bucket(self) -> None:
        """Raise unless the bucket is there: a HEAD can't tell a lost object from a lost bucket."""
        if self._bucket_seen:
            return
        try:
            self._client.head_bucket(Bucket=self._bucket)
        except ClientError as error:
            if s3_errors.code_of(error) not in s3_errors.ABSENT:
                raise
            raise ConfigError(
                f"Store {self.name}: there is no bucket {self._bucket}.",
                remedy="check the bucket, region and endpoint in tapeflow.toml",
                store=self.name,
            ) from error
        self._bucket_seen = True

    def _object_name(self, key: bytes) -> str:
        full = self._prefix + key
        if not key:
            raise name_refused(key, self.name, "is empty")
        if len(full) > MAX_KEY:
            raise name_refused(key, self.name, f"has more than {MAX_KEY} bytes with its prefix")
        try:
            return full.decode()
        except UnicodeDecodeError:
            raise name_refused(key, self.name, "is not UTF-8, as S3 demands") from None

    def _bound(self, key: bytes) -> str:
        """Return the name for ``key``, or the nearest before it that is UTF-8."""
        full = (self._prefix + key)[:MAX_KEY]
        try:
            return full.decode()
        except UnicodeDecodeError as error:
            return full[: error.start].decode()

    @contextlib.contextmanager
    def _mapped(self, key: bytes | None) -> Iterator[None]:
        try:
            yield
        except s3_errors.CAUGHT as error:
            raise s3_errors.translate(error, self.name, self._bucket, key) from error

    @contextlib.contextmanager
    def _reading(self, key: bytes) -> Iterator[None]:
        try:
            yield
        except s3_errors.CAUGHT as error:
            raise s3_errors.translate_reading(error, self.name, self._bucket, key) from error


def _client(endpoint_url: str | None, region: str | None) -> "S3Client":
    config = Config(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        retries={"mode": "standard", "total_max_attempts": MAX_ATTEMPTS},
        s3={"addressing_style": "path" if endpoint_url else "auto"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_supported",
    )
    try:
        return boto3.session.Session().client(
            "s3", endpoint_url=endpoint_url, region_name=region, config=config
        )
    except ValueError as error:
        raise ConfigError(
            f"The S3 endpoint {endpoint_url!r} is none: {error}.",
            remedy="write it as in http://host:9000",
        ) from error


def _version(answer: Mapping[str, Any]) -> str | None:
    """Return the version id, unless it is "null": what is written later may bear that one too."""
    version: str | None = answer.get("VersionId")
    return None if version == _UNVERSIONED else version


def _sent(part: s3_parts.Part) -> dict[str, Any]:
    return {"Body": part.body, "ContentLength": part.size, "ChecksumSHA256": part.checksum}
