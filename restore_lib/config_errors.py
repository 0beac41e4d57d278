"""What is wrong with a config, in words: file, key, value and remedy, and never a secret."""

import difflib
from collections.abc import Collection
from pathlib import Path

from pydantic import ValidationError

from restore_lib.errors import ConfigError

_SECRETS = ("key", "recipient", "catalog")
"""Words of names whose values are not shown: they may hold a secret key, or a password."""


def explained(path: Path, error: ValidationError, keys: Collection[str]) -> ConfigError:
    """Return what to say of the first value in the file ``path`` that ``error`` is about.

    ``keys`` are those that there are, for what a mistyped one may have meant.
    """
    first = error.errors()[0]
    loc = list(first["loc"])
    if loc[:1] == ["stores"] and len(loc) > 2 and loc[2] in {"local", "s3", "sftp"}:
        del loc[2]
    where = ".".join(map(str, loc))
    more = error.error_count() - 1
    also = f" ({more} more after this one)" if more else ""
    if first["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(first["loc"][-1]), keys, n=1)
        hint = (
            f"did you mean {close[0]!r}?" if close else "remove it; docs/configuration.md lists all"
        )
        return ConfigError(f"{path}: unknown key {where!r}{also}.", remedy=hint)
    if first["type"] == "missing":
        return ConfigError(f"{path}: {where!r} is missing{also}.", remedy=f"set {where}")
    secret = any(word in str(part) for part in first["loc"] for word in _SECRETS)
    shown = "" if secret or isinstance(first["input"], dict) else f" = {first['input']!r}"
    problem = first["msg"].removeprefix("Value error, ")
    return ConfigError(
        f"{path}: {where or 'the file'}{shown}: {problem}{also}.",
        remedy="correct the value; docs/configuration.md describes it",
    )
