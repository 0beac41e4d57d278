"""The write boundaries of a piece of work: the instants at which a kill leaves something else.

They are found by watching a process, not listed by hand: each change to a file or folder below a
root, which Python's audit events and the few calls that write to an open file tell of, and each
commit of the catalog. What goes into a staged file between two of them is of no account, since no
later run uses a staged file of an earlier one; nor is a flush, which only a machine that goes down
needs: what a killed process wrote is there.

Which methods of a drive and a library change something is found out the same way: those that are
not among ``READING`` have to, and those that are must not.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from inspect import CO_GENERATOR
from pathlib import Path
from types import FrameType
from typing import Any

from sqlalchemy import Engine, event

from restore_lib.library.base import Drive, Library
from restore_lib.library.virtual import VirtualLibrary
from restore_lib.library.virtual_drive import VirtualDrive

DEVICES: dict[type, type] = {Drive: VirtualDrive, Library: VirtualLibrary}
READING: dict[type, frozenset[str]] = {
    Drive: frozenset(
        {
            "barcode",
            "rewind",
            "locate",
            "space_to_end",
            "position",
            "read",
            "geometry",
            "recommended_order",
        }
    ),
    Library: frozenset({"inventory", "loaded", "dock"}),
}

_PATHS = {
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)),
    "os.link": ((0, 2), (1, 3)),
    "os.truncate": ((0, None),),
}
"""Audit events that tell of a change: where among their arguments paths and their folders are."""
_MADE = {"os.mkdir": (0, 2), "os.symlink": (1, 2)}
"""The same of events that tell of something new."""
_EVENTS = frozenset({"open", *_PATHS, *_MADE})
_WRITES = ("pwrite", "pwritev", "write", "writev")
_MACHINERY = ("restore_lib.library.", "restore_lib.catalog.engine")


def methods(protocol: type) -> set[str]:
    """Return the methods that a protocol asks for."""
    return {name for name, value in vars(protocol).items() if callable(value) and name[0] != "_"}


def changing(protocol: type) -> set[str]:
    """Return those methods of a protocol that change something: all that don't only read."""
    return methods(protocol) - READING[protocol]


class Watch:
    """Tells ``reached`` of each boundary below ``root``, for the rest of this process's life.

    ``reached`` is called right before the change, with a name of where in the code that is, and
    with what makes half of the change: a record torn on a tape, else nothing.
    """

    def __init__(self, root: Path, reached: Callable[[str, Callable[[], object]], None]) -> None:
        self._root = root.resolve()
        self._reached = reached
        self._thread = threading.local()
        for protocol, device in DEVICES.items():
            for name in methods(protocol):
                setattr(device, name, self._noted(protocol, name, getattr(device, name)))
        for name in _WRITES:
            setattr(os, name, self._written(name, getattr(os, name)))
        event.listen(Engine, "commit", lambda _: self._change("commit"))
        sys.addaudithook(self._audit)

    def _noted(self, protocol: type, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **kwargs: Any) -> Any:
            with self._set(device=f"{protocol.__name__}.{name}", reads=name in READING[protocol]):
                return method(*args, **kwargs)

        return noted

    def _written(self, name: str, write: Callable[..., int]) -> Callable[..., int]:
        def written(handle: int, data: Any, *rest: int) -> int:
            if self._is_below(handle):
                vector = name.endswith("v")
                whole = b"".join(data) if vector else bytes(data)
                half: Any = whole[: len(whole) // 2]
                self._change(name)
                torn = [half] if vector else half
                self._change(f"half of {name}", lambda: write(handle, torn, *rest))
            return write(handle, data, *rest)

        return written

    def _audit(self, name: str, args: tuple[Any, ...]) -> None:
        if name in _EVENTS and self._changes(name, args):
            self._change(name)

    def _changes(self, name: str, args: tuple[Any, ...]) -> bool:
        """Return whether this changes anything below the root."""
        if name in _MADE:
            path, folder = (args[at] for at in _MADE[name])
            return self._is_below(path, folder) and not _exists(path, folder)
        if name == "open":
            path, _, flags = args
            if isinstance(path, int) or not flags & (os.O_CREAT | os.O_TRUNC):
                return False
            if not _exists(path):
                return bool(flags & os.O_CREAT) and self._is_below(path)
            return bool(flags & os.O_TRUNC and _whole(path).stat().st_size) and self._is_below(path)
        places = [(args[at], args[of] if of is not None else -1) for at, of in _PATHS[name]]
        return _exists(*places[0]) and any(self._is_below(*place) for place in places)

    def _is_below(self, path: Any, folder: int = -1) -> bool:
        return _whole(path, folder).is_relative_to(self._root)

    def _change(self, what: str, half: Callable[[], object] = lambda: None) -> None:
        device = getattr(self._thread, "device", None)
        if device and self._thread.reads:
            raise AssertionError(f"{device} is said to read only, and has come to {what}")
        where = _where(sys._getframe(1))
        name = f"{where}: {device}: {what}" if device else f"{where}: {what}"
        self._reached(name, half)

    @contextmanager
    def _set(self, **values: object) -> Iterator[None]:
        before = dict(vars(self._thread))
        vars(self._thread).update(values)
        try:
            yield
        finally:
            vars(self._thread).clear()
            vars(self._thread).update(before)


def _whole(path: Any, folder: int = -1) -> Path:
    """Return where a file is that is open, or that is named as seen from a folder that is open."""
    if isinstance(path, int):
        return Path(f"/proc/self/fd/{path}").readlink()
    base = Path(f"/proc/self/fd/{folder}").readlink() if folder >= 0 else Path()
    named = base / os.fsdecode(path)
    return named.parent.resolve() / named.name


def _exists(path: Any, folder: int = -1) -> bool:
    return isinstance(path, int) or os.path.lexists(_whole(path, folder))


def _where(frame: FrameType | None) -> str:
    """Return the function of a flow that comes to a change, without what serves all flows."""
    for at in _callers(frame):
        code, module = at.f_code, at.f_globals.get("__name__", "")
        if not module.startswith("restore_lib.") or module.startswith(_MACHINERY):
            continue
        if code.co_name == "write" and code.co_flags & CO_GENERATOR:
            continue  # a transaction: of interest is whose
        return f"{module.removeprefix('restore_lib.')}.{code.co_qualname}".replace(".<locals>", "")
    return "library"


def _callers(frame: FrameType | None) -> Iterable[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
