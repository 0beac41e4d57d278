"""How documents get to a vault vendor and back: one protocol, whatever carries them.

A document that waits is fetched again and again until it is done with or rejected, so a crash loses
none; whoever reads one has to stand reading it twice.
"""

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from restore_lib.config_tables import CourierConfig
from restore_lib.errors import CourierUnavailable, DiskFull, Refused, TapeflowError
from restore_lib.model.objects import display_key
from restore_lib.vault.documents import Document, parse

_SUFFIX = ".json"
_LARGEST = 64 << 20
_LONGEST_NAME = 200
_SEND_AGAIN = "have the sender send the document again, as a file that can be read"


class Courier(Protocol):
    """Carries documents between this cluster and one vendor.

    Every method raises CourierUnavailable when the way is closed for now.
    """

    name: str

    def send(self, document: Document) -> None:
        """Send ``document`` whole or not at all; sending it again changes nothing."""
        ...

    def waiting(self) -> bool:
        """Return whether any document has come that is not done with; cheap."""
        ...

    def receive(self) -> list[tuple[str, Document | TapeflowError]]:
        """Return all documents that have come, by name; the error for one that can't be read."""
        ...

    def done(self, name: str) -> None:
        """Put a received document into the archive; no error when it is there already."""
        ...

    def reject(self, name: str, reason: str) -> None:
        """Set a received document aside, with ``reason`` for a person to read beside it."""
        ...


class DirectoryCourier:
    """Two folders that both sides reach: we write ``outbox`` and read ``inbox``.

    What is read goes to ``archive``, what can't be used to ``rejected``. Files whose names begin
    with a dot are still being written and are not looked at.
    """

    def __init__(self, name: str, path: Path, *, vendor: bool = False) -> None:
        """Set up the folders at ``path``; ``vendor`` is the other side, which reads the outbox."""
        self.name = name
        self.path = path
        self._to, self._from = path / "outbox", path / "inbox"
        if vendor:
            self._to, self._from = self._from, self._to
        self._archive, self._rejected = path / "archive", path / "rejected"
        with self._mapped():
            for folder in (self._to, self._from, self._archive, self._rejected):
                folder.mkdir(parents=True, exist_ok=True)

    def send(self, document: Document) -> None:
        """Send ``document`` whole or not at all; sending it again changes nothing."""
        with self._mapped():
            write_atomically(self._to / document.name, document.json())

    def waiting(self) -> bool:
        """Return whether any document has come that is not done with."""
        with self._mapped(), os.scandir(self._from) as entries:
            return any(_is_document(entry.name) for entry in entries)

    def receive(self) -> list[tuple[str, Document | TapeflowError]]:
        """Return all documents that have come, by name; the error for one that can't be read."""
        with self._mapped():
            names = sorted(path.name for path in self._from.iterdir() if _is_document(path.name))
        letters = [(name, self._read(name)) for name in names]
        return [(name, document) for name, document in letters if document is not None]

    def done(self, name: str) -> None:
        """Put a received document into the archive; no error when it is there already."""
        self._move(name, self._archive)

    def reject(self, name: str, reason: str) -> None:
        """Move a received document to ``rejected``, with ``<name>.reason.txt`` beside it."""
        stem = os.fsdecode(os.fsencode(name)[:_LONGEST_NAME])
        text = f"{reason}\n".encode(errors="backslashreplace")
        with self._mapped():
            write_atomically(self._rejected / f"{stem}.reason.txt", text)
        self._move(name, self._rejected)

    def _read(self, name: str) -> Document | TapeflowError | None:
        """Return a document, why it can't be read, or None when another process is done with it."""
        path = self._from / name
        shown = display_key(os.fsencode(name))
        try:
            if not stat.S_ISREG(path.lstat().st_mode):
                return Refused(f"The document {shown} is not a file.", remedy=_SEND_AGAIN)
            with path.open("rb") as file:
                text = file.read(_LARGEST + 1)
            if len(text) > _LARGEST:
                return Refused(
                    f"The document {shown} is larger than {_LARGEST} bytes.", remedy=_SEND_AGAIN
                )
            return parse(shown, text)
        except TapeflowError as error:
            return error
        except FileNotFoundError:
            return None
        except OSError as error:
            return Refused(
                f"The document {shown} can't be read: {error.strerror}.", remedy=_SEND_AGAIN
            )

    def _move(self, name: str, folder: Path) -> None:
        with self._mapped():
            try:
                (self._from / name).replace(folder / name)
            except FileNotFoundError:
                return
            sync_folder(folder)
            sync_folder(self._from)

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = f"The courier {self.name!r} at {self.path} does not work: {error.strerror}."
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise DiskFull(what) from error
            raise CourierUnavailable(what) from error


def open_courier(name: str, config: CourierConfig) -> Courier:
    """Return the courier of this name as the config describes it."""
    return DirectoryCourier(name, config.path)


def write_atomically(path: Path, content: bytes) -> None:
    """Make ``content`` all of the file at ``path``: after a crash it is the old one or the new."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in ``folder`` last over a power failure."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_document(name: str) -> bool:
    return name.endswith(_SUFFIX) and not name.startswith(".")
