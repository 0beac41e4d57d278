"""An S3 service for tests: moto behind real HTTP, with what moto lacks and faults on demand."""

import base64
import contextlib
import hashlib
import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from threading import Thread
from typing import Any

import boto3
import pytest
from moto.moto_server.utilities import RegexConverter
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from moto.s3.models import S3Backend
from werkzeug.serving import make_server

from restore_lib.stores.s3 import S3Store

_NAMES = itertools.count(1)
"""moto keeps one set of buckets a process, whatever the server."""

StartResponse = Callable[..., Any]
Environ = dict[str, Any]

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "tapeflow-tests",
    "AWS_SECRET_ACCESS_KEY": "tapeflow-tests",
    "AWS_DEFAULT_REGION": "us-east-1",
}


class _QuietHandler(MotoRequestHandler):
    def log(self, *args: Any) -> None:
        """Say nothing of requests."""


class S3Server:
    """One service on loopback; ``stop`` makes it unreachable.

    ``fail`` is asked before each request and may answer in the service's place with a status and an
    error code. ``corrupt`` sees each body on its way in. ``cut_after`` ends answers after so many
    bytes of body.
    """

    def __init__(self) -> None:
        self.fail: Callable[[str, str], tuple[str, str] | None] = lambda method, path: None
        self.corrupt: Callable[[bytes], bytes] = lambda body: body
        self.cut_after: int | None = None
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._client: Any = None
        self._server = make_server(
            "127.0.0.1", 0, self._answer, threaded=True, request_handler=_QuietHandler
        )
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self.endpoint_url = f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """End, and free the port."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def heal(self) -> None:
        """End all faults."""
        self.fail = lambda method, path: None
        self.corrupt = lambda body: body
        self.cut_after = None

    def client(self) -> Any:
        """Return a client with rights to everything."""
        self._client = self._client or boto3.client("s3", endpoint_url=self.endpoint_url)
        return self._client

    def bucket(self, *, versioned: bool = False) -> str:
        """Create a bucket and return its name."""
        name = f"bucket-{next(_NAMES)}"
        client = self.client()
        client.create_bucket(Bucket=name)
        if versioned:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def store(self, bucket: str, *, prefix: str = "", name: str = "cloud") -> S3Store:
        """Return a store in ``bucket``."""
        return S3Store(
            name, bucket, prefix=prefix, endpoint_url=self.endpoint_url, region="us-east-1"
        )

    def _answer(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        failure = self.fail(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        if failure:
            return _error(start_response, *failure)
        body = self.corrupt(body)
        declared = environ.get("HTTP_X_AMZ_CHECKSUM_SHA256")
        if declared and body and declared != _checksum(body):
            return _error(start_response, "400 Bad Request", "BadDigest")
        environ["wsgi.input"] = io.BytesIO(body)
        answer: Iterable[bytes] = self._moto(environ, start_response)
        if self.cut_after is not None and environ["REQUEST_METHOD"] == "GET":
            return [b"".join(answer)[: self.cut_after]]
        return answer


@contextlib.contextmanager
def running_s3_server() -> Iterator[S3Server]:
    """Run a service, with credentials for it in the environment and no others."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        patch.setattr(S3Backend, "list_object_versions", _after_marker())
        patch.setattr(RegexConverter, "__init__", _matching_newlines())
        server = S3Server()
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _after_marker() -> Callable[..., Any]:
    """Return moto's listing of versions, made to begin right behind any key marker, as S3 does.

    moto leaves out the first version behind a marker that names no object.
    """
    original = S3Backend.list_object_versions

    def list_object_versions(
        backend: S3Backend, bucket_name: str, *args: Any, **kwargs: Any
    ) -> Any:
        marker = kwargs.get("key_marker")
        if marker is not None and not kwargs.get("version_id_marker"):
            keys = backend.get_bucket(bucket_name).keys
            before = [name for name, _ in keys.iterlists() if name <= marker]
            kwargs["key_marker"] = max(before, default=None)
            if before:
                versions = [
                    v for name, found in keys.iterlists() if name == max(before) for v in found
                ]
                oldest = min(versions, key=lambda version: version.last_modified)
                kwargs["version_id_marker"] = oldest.version_id
        return original(backend, bucket_name, *args, **kwargs)

    return list_object_versions


def _matching_newlines() -> Callable[..., None]:
    """Return moto's way to its routes, open to keys with newlines in them, which S3 takes."""
    original = RegexConverter.__init__

    def begin(converter: RegexConverter, url_map: Any, *items: str) -> None:
        original(converter, url_map, *(f"(?s:{item})" for item in items))

    return begin


def _checksum(body: bytes) -> str:
    return base64.b64encode(hashlib.sha256(body).digest()).decode()


def _error(start_response: StartResponse, status: str, code: str) -> list[bytes]:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>test</Message></Error>"
    start_response(status, [("Content-Type", "application/xml")])
    return [body.encode()]
