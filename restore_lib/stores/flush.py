"""Flushing a whole file system, which costs one write of its journal however many files it has."""

import ctypes
import os
import re

_TELLS_ERRORS = (5, 8)
"""The Linux version from which on ``syncfs`` tells that a write has failed."""


_VERSION = re.compile(r"(\d+)\.(\d+)")


def flush_file_system(descriptor: int) -> None:
    """Bring all that was written to the file system of ``descriptor`` to its disk.

    Raises OSError when something could not be written. Only where ``can_flush_file_system()``.
    """
    if _LIBC.syncfs(descriptor):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def can_flush_file_system() -> bool:
    """Whether this system flushes one file system at a time, and tells when that has failed."""
    return _CAN


def _tells_errors(system: str, release: str) -> bool:
    version = _VERSION.match(release)
    return system == "Linux" and version is not None and _numbers(version) >= _TELLS_ERRORS


def _numbers(version: re.Match[str]) -> tuple[int, int]:
    return int(version[1]), int(version[2])


_LIBC = ctypes.CDLL(None, use_errno=True)
_CAN = hasattr(_LIBC, "syncfs") and _tells_errors(os.uname().sysname, os.uname().release)
