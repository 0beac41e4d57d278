"""What a rebuild of the catalog has read from tapes so far: a scratch SQLite file, safe to kill.

Each method is one transaction, so a rebuild that is killed goes on behind what is noted. Several
processes or threads may each open the same file.
"""

import json
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from restore_lib.tape.label import Label
    from restore_lib.tape.members import Member

_BUSY_SECONDS = 120
_SCHEMA = """
CREATE TABLE IF NOT EXISTS rebuild (id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sets (
    id TEXT PRIMARY KEY, k INTEGER, m INTEGER, block_size INTEGER, created_at TEXT, recipients TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reclaimed (tape_set TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS volumes (
    barcode TEXT PRIMARY KEY, state TEXT, tape_set TEXT, position INTEGER, files INTEGER,
    closed INTEGER, problem TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS named (
    tape_set TEXT, position INTEGER, barcode TEXT, by_label INTEGER,
    PRIMARY KEY (tape_set, position, barcode)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (
    tape_set TEXT, stripe INTEGER, position INTEGER, blocks INTEGER, sha256 TEXT,
    PRIMARY KEY (tape_set, stripe, position)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spoiled (
    tape_set TEXT, stripe INTEGER, position INTEGER, barcode TEXT, why TEXT,
    PRIMARY KEY (tape_set, stripe, position, barcode)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS segments (
    tape_set TEXT, stripe INTEGER, position INTEGER, index_offset INTEGER, parity INTEGER,
    PRIMARY KEY (tape_set, stripe, position)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS members (
    tape_set TEXT, stripe INTEGER, position INTEGER, ordinal INTEGER, member TEXT, store TEXT,
    key BLOB, version TEXT, etag TEXT, size INTEGER, sha256 TEXT, stored_size INTEGER,
    stored_sha256 TEXT, offset INTEGER, modified_at TEXT, content_type TEXT, metadata TEXT,
    part INTEGER, parts INTEGER, object_size INTEGER, object_sha256 TEXT,
    PRIMARY KEY (tape_set, stripe, position, ordinal)
) WITHOUT ROWID;
"""
_NAMED = """
SELECT position, barcode FROM (
    SELECT named.position, named.barcode, row_number() OVER (
        PARTITION BY named.position
        ORDER BY by_label DESC, coalesce(problem, 'unread') = '' DESC, files DESC,
            named.barcode DESC
    ) AS choice
    FROM named LEFT JOIN volumes ON volumes.barcode = named.barcode WHERE named.tape_set = ?
) WHERE choice = 1
"""
_WRITTEN_OVER = """
SELECT DISTINCT former.id FROM sets AS former JOIN named ON named.tape_set = former.id
JOIN volumes USING (barcode) JOIN sets AS later ON later.id = volumes.tape_set
WHERE volumes.state = 'read' AND later.created_at > former.created_at
"""
_ADD_MEMBER = "INSERT OR REPLACE INTO members VALUES (?" + 20 * ", ?" + ")"


class Found(StrEnum):
    """What a volume in the library turned out to be."""

    READ = "read"
    BLANK = "blank"
    FOREIGN = "foreign"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class FoundVolume:
    """One volume of the library; ``files`` are those behind the label, without a closing one."""

    barcode: str
    state: Found
    tape_set: str | None = None
    position: int | None = None
    files: int = 0
    closed: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class FoundSet:
    """A tape set, as the labels of its volumes tell it."""

    id: str
    k: int
    m: int
    block_size: int
    created_at: datetime
    recipients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A tape file whose length in blocks and SHA-256 (hex) are known, from whichever source."""

    stripe: int
    position: int
    blocks: int
    sha256: str


class Findings:
    """An open file of findings; ``id`` names the rebuild that it belongs to."""

    def __init__(self, path: Path) -> None:
        """Open the file at ``path``, or begin one."""
        self.path = path
        self.database = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        self.database.execute("PRAGMA journal_mode=WAL")
        self.database.execute("PRAGMA synchronous=FULL")
        with self._writing() as database:
            for statement in _SCHEMA.split(";"):
                database.execute(statement)
            if database.execute("SELECT count(*) FROM rebuild").fetchone() == (0,):
                database.execute("INSERT INTO rebuild VALUES (?)", [uuid.uuid4().hex])
        self.id: str = database.execute("SELECT id FROM rebuild").fetchone()[0]

    def close(self) -> None:
        """Close the file; it stays."""
        self.database.close()

    def note_volume(self, found: FoundVolume) -> None:
        """Note what a volume is; an earlier note on it is replaced."""
        row = (
            found.barcode,
            found.state,
            found.tape_set,
            found.position,
            found.files,
            found.closed,
            found.problem,
        )
        with self._writing() as database:
            database.execute("INSERT OR REPLACE INTO volumes VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def note_label(self, label: "Label") -> None:
        """Note what a label tells of its set, and which volume has which position."""
        row = (
            label.tape_set,
            label.k,
            label.m,
            label.block_size,
            label.created_at.isoformat(),
            json.dumps(label.recipients),
        )
        with self._writing() as database:
            database.execute("INSERT OR IGNORE INTO sets VALUES (?, ?, ?, ?, ?, ?)", row)
            database.execute(
                "INSERT OR REPLACE INTO named VALUES (?, ?, ?, TRUE)",
                (label.tape_set, label.position, label.barcode),
            )

    def note_hearsay(
        self, tape_set: str, files: Iterable[FoundFile], barcodes: Iterable[tuple[int, str]]
    ) -> None:
        """Note what another volume tells of tape files; what was read at first hand stays."""
        with self._writing() as database:
            database.executemany(
                "INSERT OR IGNORE INTO named VALUES (?, ?, ?, FALSE)",
                ((tape_set, position, barcode) for position, barcode in barcodes),
            )
            database.executemany(
                "INSERT OR IGNORE INTO files VALUES (?, ?, ?, ?, ?)",
                ((tape_set, f.stripe, f.position, f.blocks, f.sha256) for f in files),
            )

    def note_file(self, tape_set: str, file: FoundFile) -> None:
        """Note a tape file that was read, or computed, through to its end."""
        with self._writing() as database:
            _note_file(database, tape_set, file)

    def note_segment(
        self,
        tape_set: str,
        file: FoundFile,
        index_offset: int,
        members: Sequence["Member"],
        *,
        parity: bool = False,
    ) -> None:
        """Note a segment with its index; ``parity`` says that the index was computed."""
        where = (tape_set, file.stripe, file.position)
        with self._writing() as database:
            _note_file(database, tape_set, file)
            database.execute(
                "INSERT OR REPLACE INTO segments VALUES (?, ?, ?, ?, ?)",
                (*where, index_offset, parity),
            )
            database.executemany(
                _ADD_MEMBER,
                (where + _row(member) for member in members),
            )

    def note_spoiled(
        self, tape_set: str, stripe: int, position: int, barcode: str, why: str
    ) -> None:
        """Note that a tape file can't be read to its end on this volume."""
        with self._writing() as database:
            database.execute(
                "INSERT OR REPLACE INTO spoiled VALUES (?, ?, ?, ?, ?)",
                (tape_set, stripe, position, barcode, why),
            )

    def forgive(self, barcode: str) -> None:
        """Forget the tape files of a volume that could not be read: it is read again."""
        with self._writing() as database:
            database.execute("DELETE FROM spoiled WHERE barcode = ?", [barcode])

    def volumes(self) -> list[FoundVolume]:
        """Return all volumes noted so far, by barcode."""
        query = "SELECT * FROM volumes ORDER BY barcode"
        return [
            FoundVolume(b, Found(state), tape_set, position, files, bool(closed), problem)
            for b, state, tape_set, position, files, closed, problem in self._all(query)
        ]

    def leave_out(self, reclaimed: Iterable[str]) -> None:
        """Note sets that are reclaimed: these, and all of which a volume has a later set's label.

        No volume is written over while any member of its set is live, so nothing of them counts.
        """
        with self._writing() as database:
            database.execute(f"INSERT OR IGNORE INTO reclaimed {_WRITTEN_OVER}")
            database.executemany(
                "INSERT OR IGNORE INTO reclaimed SELECT id FROM sets WHERE id = ?",
                ((tape_set,) for tape_set in reclaimed),
            )

    def left_out(self) -> list[str]:
        """Return the sets that are noted as reclaimed, by id."""
        return [id_ for (id_,) in self._all("SELECT tape_set FROM reclaimed ORDER BY tape_set")]

    def sets(self) -> list[FoundSet]:
        """Return all tape sets but those that are noted as reclaimed, by id."""
        query = "SELECT * FROM sets WHERE id NOT IN (SELECT * FROM reclaimed) ORDER BY id"
        return [
            FoundSet(id_, k, m, block, datetime.fromisoformat(at), tuple(json.loads(recipients)))
            for id_, k, m, block, at, recipients in self._all(query)
        ]

    def named(self, tape_set: str) -> dict[int, str]:
        """Return the barcodes of a set by position, as far as they are known.

        Of two volumes with the label of one position, one was repaired by the other: the sound one
        counts, and of sound ones that with the higher barcode, as new volumes have.
        """
        return dict(self._all(_NAMED, tape_set))

    def files(self, tape_set: str, stripe: int) -> dict[int, FoundFile]:
        """Return the known tape files of a stripe by position."""
        query = "SELECT position, blocks, sha256 FROM files WHERE tape_set = ? AND stripe = ?"
        return {p: FoundFile(stripe, p, *rest) for p, *rest in self._all(query, tape_set, stripe)}

    def spoiled(self, tape_set: str) -> dict[tuple[int, int, str], str]:
        """Return why tape files of a set can't be read, by (stripe, position, barcode)."""
        query = "SELECT stripe, position, barcode, why FROM spoiled WHERE tape_set = ?"
        return {(s, p, barcode): why for s, p, barcode, why in self._all(query, tape_set)}

    def indexed(self, tape_set: str) -> dict[tuple[int, int], tuple[int, bool]]:
        """Return (index offset, whether by parity) of a set's segments, by (stripe, position)."""
        query = "SELECT stripe, position, index_offset, parity FROM segments WHERE tape_set = ?"
        return {(s, p): (at, bool(parity)) for s, p, at, parity in self._all(query, tape_set)}

    def has(self, tape_set: str, stripe: int, position: int) -> bool:
        """Return whether a tape file is noted with all that a catalog needs of it."""
        query = (
            "SELECT 1 FROM files JOIN sets ON id = tape_set LEFT JOIN segments"
            " USING (tape_set, stripe, position) WHERE tape_set = ? AND stripe = ?"
            " AND position = ? AND (position >= k OR index_offset IS NOT NULL)"
        )
        return bool(self._all(query, tape_set, stripe, position))

    def _all(self, query: str, *values: object) -> list[Any]:
        with closing(self.database.execute(query, values)) as rows:
            return rows.fetchall()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        self.database.execute("BEGIN IMMEDIATE")
        try:
            yield self.database
        except BaseException:
            self.database.execute("ROLLBACK")
            raise
        self.database.execute("COMMIT")


def _note_file(database: sqlite3.Connection, tape_set: str, file: FoundFile) -> None:
    where = (tape_set, file.stripe, file.position)
    database.execute(
        "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", (*where, file.blocks, file.sha256)
    )


def _row(member: "Member") -> tuple[object, ...]:
    meta = member.meta
    return (
        member.ordinal,
        member.name,
        meta.store,
        meta.key,
        meta.version,
        meta.etag,
        member.size,
        member.sha256,
        member.stored_size,
        member.stored_sha256,
        member.offset,
        meta.modified_at.isoformat(),
        meta.content_type,
        json.dumps(dict(meta.metadata), sort_keys=True),
        meta.part or 1,
        meta.parts or 1,
        member.size if meta.object_size is None else meta.object_size,
        member.sha256 if meta.part is None else meta.object_sha256,
    )
