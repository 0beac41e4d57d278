"""What has to hold after a kill and the same run again, looked at without the code that was killed.

The catalog's rows are read by plain SQL, and the tape images by their framing: each tape file has
to be the one that was committed, with each payload where the catalog says.
"""

import hashlib
import shutil
import sqlite3
import struct
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.kill_scenarios import SETS_OF, Scenario
from restore_lib.model.clock import Clock
from restore_lib.restore.request import RestoreSpec
from restore_lib.site import Site
from restore_lib.tape.label import decode_label
from tests.support.rebuilds import compared, lose_catalog, rebuilt
from tests.support.sites import back_up, digests, open_site, restore, write_files

_COMMITTED = """
SELECT p.id, o.store, o.key, v.size, v.parts, hex(v.sha256), e.part, hex(e.sha256), e.stored_size,
       hex(e.stored_sha256)
FROM recovery_points p
JOIN versions v ON v.first_rp <= p.id AND (v.gone_rp IS NULL OR v.gone_rp > p.id)
JOIN objects o ON o.id = v.object_id AND o.store = p.store
JOIN extents e ON e.version_id = v.id
WHERE (p.state = 'committed' OR p.state = 'open' AND v.first_rp = p.id) AND v.sha256 IS NOT NULL
"""
_FILES = """
SELECT f.barcode, s.number, f.blocks, hex(f.sha256), f.position, s.tape_set
FROM tape_files f JOIN stripes s ON s.id = f.stripe_id
"""
_PAYLOADS = """
SELECT f.barcode, s.number, e."offset", e.stored_size, hex(e.stored_sha256)
FROM extents e JOIN stripes s ON s.id = e.stripe_id
JOIN tape_files f ON f.stripe_id = e.stripe_id AND f.position = e.position
"""
_PARTS = """
SELECT v.id, v.parts, group_concat(e.part) FROM versions v
LEFT JOIN extents e ON e.version_id = v.id WHERE v.sha256 IS NOT NULL GROUP BY v.id, v.parts
"""
_TWICE = """
SELECT object_id, count(*) FROM versions
WHERE gone_rp IS NULL AND sha256 IS NOT NULL GROUP BY object_id HAVING count(*) > 1
"""
_VOLUMES = "SELECT barcode, tape_set, content, health, custody, flags, former_set FROM volumes"
_FREE = "SELECT barcode FROM volumes WHERE content IN ('blank', 'labelled', 'appendable')"
_LEASES = "SELECT drive, expires_at FROM drive_leases WHERE holder IS NOT NULL"
_STATES = {"closed": "full", "quarantined": "reclaim_quarantine"}
_OPEN = "SELECT id FROM recovery_points WHERE state = 'open'"


class Broken(AssertionError):
    """A promise that a kill has broken."""


def rows(root: Path, query: str) -> list[tuple[Any, ...]]:
    """Return what a query finds in the catalog of a site."""
    with closing(sqlite3.connect(root / "catalog.db")) as database:
        return database.execute(query).fetchall()


def committed(root: Path) -> set[tuple[Any, ...]]:
    """Return all parts of all objects that recovery points hold, whole ones, point by point."""
    return set(rows(root, _COMMITTED))


class Checks:
    """Looks at one site after a kill; ``before`` is what was committed at that instant."""

    def __init__(
        self, scenario: Scenario, root: Path, before: set[tuple[Any, ...]], *, thorough: bool
    ) -> None:
        self._scenario = scenario
        self._root = root
        self._before = before
        self._thorough = thorough

    def run(self, site: Site, clock: Clock) -> None:
        """Run all checks, and write all free volumes; Broken when something does not hold."""
        self._settled(clock)
        self._kept()
        self._use_free(site)
        self._settled(clock)
        self._kept()
        _same("volumes that no work can use", [], rows(self._root, _FREE))
        if self._thorough:
            self._restored(site)
            self._rebuilt(site, clock)

    def _kept(self) -> None:
        """Look whether all that was committed is there once, and on the tapes as it was written."""
        after = rows(self._root, _COMMITTED)
        expected = {row for row in self._before if row[0] not in self._scenario.expiring}
        _same("parts lost", set(), expected - set(after))
        _same("parts twice", [], [row for row, count in Counter(after).items() if count > 1])
        _same("objects with two live versions", [], rows(self._root, _TWICE))
        for version, parts, numbers in rows(self._root, _PARTS):
            told = sorted(map(int, (numbers or "0").split(",")))
            _same(f"parts of version {version}", [*range(1, parts + 1)], told)
        self._on_tape()

    def _on_tape(self) -> None:
        tapes = {path.stem: tape_files(path) for path in self._images()}
        for barcode, number, blocks, sha256, position, tape_set in rows(self._root, _FILES):
            label = decode_label(b"".join(tapes[barcode][0]))
            told = (label.barcode, label.tape_set, label.position)
            _same(f"label of {barcode}", (barcode, tape_set, position), told)
            found = tapes[barcode][number]
            _same(f"blocks of {barcode}:{number}", blocks, len(found))
            _same(f"digest of {barcode}:{number}", sha256, _digest(found))
        for barcode, number, offset, size, sha256 in rows(self._root, _PAYLOADS):
            data = b"".join(tapes[barcode][number])[offset : offset + size]
            _same(f"payload at {barcode}:{number}:{offset}", sha256, _digest([data]))

    def _settled(self, clock: Clock) -> None:
        """Look whether something is left in a state that only the killed run knew of."""
        staging = self._root / "staging"
        work = {path for path in staging.glob("*") if path.is_dir()}
        staged = [path.name for path in staging.rglob("*") if path not in work]
        _same("left in staging", [], [name for name in staged if not name.endswith(".lock")])
        now = clock.now().replace(tzinfo=None)
        leases = [row for row in rows(self._root, _LEASES) if datetime.fromisoformat(row[1]) > now]
        _same("leases held", [], leases)
        _same("recovery points that are open", [], rows(self._root, _OPEN))
        places = Counter(path.stem for path in self._images())
        sets = dict(rows(self._root, "SELECT id, state FROM tape_sets"))
        found = rows(self._root, _VOLUMES)
        used = [row for row in found if row[2] != "retired"]
        _same("retired volumes", self._scenario.retired, len(found) - len(used))
        for barcode, tape_set, content, *condition, former in used:
            _same(f"places of {barcode}", 1, places[barcode])
            _same(f"state of {barcode}", ["ok", "mountable", "[]"], condition)
            if tape_set is None:
                _same(f"content of {barcode}", "labelled" if former else "blank", content)
            elif sets[tape_set] != "open":
                _same(f"content of {barcode}", _STATES[sets[tape_set]], content)

    def _use_free(self, site: Site) -> None:
        """Take all volumes that are free for backups, set by set."""
        for number in range(len(rows(self._root, _FREE)) // SETS_OF):
            write_files(self._root / "live", {b"more %d" % number: b"x"})
            back_up(site)

    def _restored(self, site: Site) -> None:
        shutil.rmtree(self._root / "out")
        (self._root / "out").mkdir()
        restore(site, RestoreSpec(store="live", prefix=b"", target="out"))
        _same("restored objects", digests(self._root / "live"), digests(self._root / "out"))

    def _rebuilt(self, site: Site, clock: Clock) -> None:
        """Look whether the tapes alone tell what the catalog holds."""
        site.close()
        lost = lose_catalog(self._root)
        empty = open_site(self._root, clock)
        report = rebuilt(empty)
        _same("missing on the tapes", [], report.missing)
        _same("differences to the tapes", [], compared(empty, lost))
        empty.close()

    def _images(self) -> Iterable[Path]:
        return (self._root / "tapes").rglob("*.tap")


def tape_files(image: Path) -> list[list[bytes]]:
    """Return the blocks of each tape file of an image; what is torn at its end is left out."""
    data, at = image.read_bytes(), 0
    files: list[list[bytes]] = [[]]
    while at + 4 <= len(data):
        (length,) = struct.unpack_from("<I", data, at)
        if length == 0xFFFFFFFF:
            break
        end = at + 4 + length + length % 2
        if length and data[end : end + 4] != data[at : at + 4]:
            break
        if length:
            files[-1].append(data[at + 4 : at + 4 + length])
        else:
            files.append([])
        at = end + 4 if length else at + 4
    return files


def _digest(blocks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest().upper()


def _same(what: str, expected: object, found: object) -> None:
    if expected != found:
        raise Broken(f"{what}: {found!r:.500}, expected {expected!r:.500}")
