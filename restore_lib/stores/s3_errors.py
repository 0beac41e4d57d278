"""What botocore raises, as Tapeflow's errors."""

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)
from botocore.parsers import ResponseParserError

from restore_lib.errors import (
    ConfigError,
    DigestMismatch,
    DiskFull,
    ObjectUnreadable,
    Refused,
    StoreUnavailable,
    TapeflowError,
)
from restore_lib.model.objects import display_key

ABSENT = frozenset({"NoSuchKey", "NoSuchVersion", "404", "NotFound"})
_UNREADABLE = ABSENT | {"MethodNotAllowed", "405", "InvalidObjectState"}
_DENIED = frozenset({"AccessDenied", "403", "Forbidden", "AllAccessDisabled"})
_MISCONFIGURED = frozenset(
    {
        "NoSuchBucket",
        "PermanentRedirect",
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "InvalidToken",
    }
)
_MISMATCH = frozenset({"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch"})
_FULL = frozenset({"QuotaExceeded", "XMinioStorageFull", "507"})
_BUSY = frozenset(
    {
        "SlowDown",
        "RequestTimeout",
        "ThrottlingException",
        "TooManyRequests",
        "NoSuchUpload",
        "OperationAborted",
        "ConditionalRequestConflict",
    }
)
BROKEN = (BotoConnectionError, HTTPClientError, IncompleteReadError)
_CONNECTION = (*BROKEN, ResponseParserError)


def code_of(error: ClientError) -> str:
    """Return the error code of the service's answer."""
    return str(error.response.get("Error", {}).get("Code", ""))


def translate(error: Exception, store: str, bucket: str, key: bytes | None) -> TapeflowError:
    """Return Tapeflow's error for ``error``, met in a request about ``key`` or the bucket."""
    if isinstance(error, ClientError):
        return _of_answer(error, store, bucket, key)
    if isinstance(error, FlexibleChecksumError):
        return unreadable(store, key, str(error))
    if isinstance(error, _CONNECTION):
        return StoreUnavailable(f"Store {store} (bucket {bucket}): {error}.", store=store)
    return ConfigError(
        f"Store {store} (bucket {bucket}) can't be used: {error}.",
        remedy="check the store's endpoint and region in tapeflow.toml, and the AWS credentials",
        store=store,
    )


def translate_reading(error: Exception, store: str, bucket: str, key: bytes) -> TapeflowError:
    """Return Tapeflow's error for ``error``, met in reading the object ``key``.

    A refusal that is not about the bucket, the credentials or the service concerns this object
    alone: it is archived, or encrypted with a key that is not ours to use.
    """
    found = translate(error, store, bucket, key)
    if isinstance(error, ClientError):
        code = code_of(error)
        if code in _UNREADABLE | _DENIED or isinstance(found, Refused):
            return unreadable(store, key, f"{code}: {_message(error)}")
    return found


def unreadable(store: str, key: bytes | None, problem: str) -> ObjectUnreadable:
    """Return the error for an object that can't be read because of ``problem``."""
    shown = display_key(key or b"")
    return ObjectUnreadable(
        f"{shown} can't be read from store {store}: {problem}", store=store, key=shown
    )


def _of_answer(error: ClientError, store: str, bucket: str, key: bytes | None) -> TapeflowError:
    code = code_of(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    what = f"{display_key(key)} in " if key else ""
    told = f"Store {store}: {what}bucket {bucket}: {code}: {_message(error)}"
    if code in _MISMATCH:
        return DigestMismatch(told, store=store)
    if code in _FULL or status == 507:
        return DiskFull(told, store=store)
    if code in _BUSY or status >= 500:
        return StoreUnavailable(told, store=store)
    if code in _DENIED:
        remedy = "let the credentials list the bucket, and read, write and delete in it"
        return ConfigError(told, remedy=remedy, store=store)
    if key is None or code in _MISCONFIGURED or status in {301, 401, 403}:
        remedy = "check the bucket, region and endpoint in tapeflow.toml, and the credentials"
        return ConfigError(told, remedy=remedy, store=store)
    remedy = "see what the service says of this request; nothing was changed by it"
    return Refused(told, remedy=remedy, store=store)


def _message(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Message", "")) or "no reason given."


CAUGHT = (BotoCoreError, ClientError)
