"""The catalog anew from nothing but tapes, a key and the cluster's id.

Volumes are read in any order, and what they tell is kept in a file of findings on the staging disk,
so that a rebuild that is killed goes on where it was. Once all is there, one transaction fills the
empty catalog: it is empty or whole at any instant.
"""

import fcntl
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from restore_lib.catalog.comparing import reclaimed_sets
from restore_lib.catalog.engine import Catalog
from restore_lib.catalog.findings import Findings, Found, FoundVolume
from restore_lib.catalog.leases import CatalogLeases
from restore_lib.catalog.rebuilding import (
    RebuiltSet,
    RebuiltVolume,
    fill_catalog,
    is_empty,
    is_rebuilt_by,
)
from restore_lib.catalog.tables import objects, versions
from restore_lib.errors import Refused
from restore_lib.integrity.rebuild_diff import Difference, differences
from restore_lib.integrity.rebuild_parity import compute_lost
from restore_lib.integrity.rebuild_read import read_volume
from restore_lib.integrity.rebuild_sets import KnownSet, states
from restore_lib.model.progress import Progress
from restore_lib.model.volume import Content, Flag, Health
from restore_lib.site import Site

UNKNOWABLE = (
    "custody: which vault a volume is in, and all that happened to it",
    "requests: restores, shipments, drills, verifications, incidents and the audit trail",
    "deletions: which objects were deleted from their store, and when; they are restorable",
    "recovery points: when each backup was committed, and which version it held",
    "backups that were under way: whole stripes of theirs count as committed",
    "open sets: whether a set without a closing tape file was closed",
    "change tokens of objects on tapes that were written before these were kept",
)
_NAMED = 1000


@dataclass(frozen=True, slots=True)
class RebuildPlan:
    """Which volumes a rebuild would read, and which it has read already."""

    to_read: tuple[str, ...]
    read: tuple[str, ...]


@dataclass
class RebuildReport:
    """What a rebuild has found.

    ``written`` is whether the catalog holds it. ``away`` are volumes that others name and that are
    not in the library; ``assumed`` is where unreadable ones are thought to belong. ``left_out`` are
    stripes that a crash left unfinished, ``reclaimed`` are sets that later ones are written over,
    volume by volume. ``missing`` is what nothing that was read can tell.
    """

    written: bool = False
    sets: int = 0
    stripes: int = 0
    objects: int = 0
    versions: int = 0
    by_parity: int = 0
    away: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    reclaimed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unknowable: tuple[str, ...] = UNKNOWABLE

    @property
    def complete(self) -> bool:
        """Whether nothing that tapes can tell is missing."""
        return not self.missing


@contextmanager
def rebuild_folder(site: Site, *, compare: bool = False) -> Iterator[Path]:
    """Give the folder of a rebuild, which goes on where an earlier one was killed.

    To ``compare`` begins anew each time, and leaves nothing behind. Refused when the catalog to
    rebuild is not empty, or when another rebuild is at work.
    """
    folder = _folder(site, compare=compare)
    folder.mkdir(exist_ok=True)
    with (site.staging / f"{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(
                "Another rebuild of the catalog is at work.", remedy="wait until it has ended"
            ) from None
        if compare:
            shutil.rmtree(folder)
            folder.mkdir()
        else:
            _check_empty(site, folder)
            CatalogLeases(site.catalog, site.clock).supersede(range(site.library.drives))
        try:
            yield folder
        finally:
            if compare:
                shutil.rmtree(folder, ignore_errors=True)


def plan_rebuild(site: Site, *, compare: bool = False) -> RebuildPlan:
    """Return which volumes of the library are still to be read, in order of their barcodes.

    Those that were read with problems are read again.
    """
    folder = _folder(site, compare=compare)
    there = {element.barcode for element in site.library.inventory() if element.barcode}
    noted: dict[str, FoundVolume] = {}
    if _file(folder).exists():
        findings = Findings(_file(folder))
        noted = {volume.barcode: volume for volume in findings.volumes()}
        findings.close()
    done = {b for b, v in noted.items() if v.state in {Found.READ, Found.BLANK} and not v.problem}
    return RebuildPlan(tuple(sorted(there - done)), tuple(sorted(done)))


def read_into(site: Site, folder: Path, barcode: str, progress: Progress | None = None) -> None:
    """Read one volume of a rebuild; several may be read side by side. See ``read_volume``."""
    findings = Findings(_file(folder))
    try:
        read_volume(site, findings, barcode, progress)
    finally:
        findings.close()


def finish_rebuild(
    site: Site,
    folder: Path,
    actor: str,
    *,
    incomplete: bool = False,
    progress: Progress | None = None,
) -> RebuildReport:
    """Compute what parity can give, and fill the empty catalog; return what was found.

    Nothing is written while something is missing that a volume may still tell, unless
    ``incomplete`` says to go without it. Afterwards the findings are removed.
    """
    findings = Findings(_file(folder))
    try:
        if not _is_done(site.catalog, findings):
            report, known = _found(site, findings, folder, progress)
            if not (report.complete or incomplete):
                return report
            _fill(site, site.catalog, findings, known, actor, report)
        else:
            report, _ = _found(site, findings, folder, progress)
        _count_objects(site.catalog, report)
    finally:
        findings.close()
    shutil.rmtree(folder)
    return report


def compare_rebuild(
    site: Site, folder: Path, actor: str, progress: Progress | None = None
) -> tuple[RebuildReport, int, list[Difference]]:
    """Fill a temporary catalog and compare it with the live one, which is not touched.

    Return what was found, how many differences there are, and the first thousand of them.
    """
    findings = Findings(_file(folder))
    rebuilt = Catalog(f"sqlite:///{folder.absolute() / 'catalog.db'}")
    try:
        rebuilt.migrate()
        with site.catalog.read() as connection:
            findings.leave_out(reclaimed_sets(connection))
        report, known = _found(site, findings, folder, progress)
        _fill(site, rebuilt, findings, known, actor, report)
        _count_objects(rebuilt, report)
        report.written = False
        count, first = 0, []
        for difference in differences(rebuilt, site.catalog, folder):
            count += 1
            if count <= _NAMED:
                first.append(difference)
    finally:
        rebuilt.close()
        findings.close()
    return report, count, first


def _folder(site: Site, *, compare: bool) -> Path:
    return site.staging / ("catalog-compare" if compare else "catalog-rebuild")


def _file(folder: Path) -> Path:
    return folder / "findings.db"


def _check_empty(site: Site, folder: Path) -> None:
    with site.catalog.read() as connection:
        empty = is_empty(connection)
    if empty:
        return
    if _file(folder).exists():
        findings = Findings(_file(folder))
        done = _is_done(site.catalog, findings)
        findings.close()
        if done:
            return
    raise Refused(
        "The catalog is not empty; a rebuild does not mix with what is there.",
        remedy="name an empty database in [catalog] url, or compare with --diff",
    )


def _is_done(catalog: Catalog, findings: Findings) -> bool:
    """Return whether the catalog was filled, and the process killed just behind."""
    with catalog.read() as connection:
        return is_rebuilt_by(connection, findings.id)


def _found(
    site: Site, findings: Findings, folder: Path, progress: Progress | None
) -> tuple[RebuildReport, list[KnownSet]]:
    findings.leave_out(())
    compute_lost(site, findings, folder, progress)
    known = states(findings)
    there = {volume.barcode for volume in findings.volumes()}
    report = RebuildReport(
        sets=len(known),
        stripes=sum(state.stripes for state in known),
        by_parity=sum(
            parity for state in known for _, parity in findings.indexed(state.found.id).values()
        ),
        away=sorted(b for s in known for b in s.barcodes.values() if b not in there),
        problems=[f"{v.barcode}: {v.problem}" for v in findings.volumes() if v.problem],
        reclaimed=findings.left_out(),
    )
    for state in known:
        name = state.found.id
        report.problems += [f"{b}: it ends before its set does" for b in state.short]
        report.assumed += [f"{b} is position {p} of {name}" for p, b in state.assumed.items()]
        report.left_out += [f"{name}, stripe {number}" for number in state.left_out]
        report.missing += [
            f"{name}, position {lost.position}, tape file {lost.stripe}: {lost.why}"
            for lost in state.lost
        ]
        if state.stripes:
            report.missing += [
                f"{name}, position {position}: which volume it is" for position in state.unnamed
            ]
    return report, known


def _fill(
    site: Site,
    catalog: Catalog,
    findings: Findings,
    known: Sequence[KnownSet],
    actor: str,
    report: RebuildReport,
) -> None:
    sets = _sets(known)
    held = _volumes(findings.volumes(), known, sets)
    detail: dict[str, Any] = {
        "volumes": len(held),
        "tape_sets": report.sets,
        "by_parity": report.by_parity,
        "missing": report.missing[:_NAMED],
        "problems": report.problems[:_NAMED],
    }
    with catalog.write() as connection:
        fill_catalog(
            connection, findings, sets, held, actor=actor, at=site.clock.now(), detail=detail
        )
    report.written = True


def _sets(known: Sequence[KnownSet]) -> list[RebuiltSet]:
    """Return the sets; a place that nobody names the volume of gets a made-up one."""
    unknown = 0
    sets: list[RebuiltSet] = []
    for state in known:
        barcodes = {**state.barcodes, **state.assumed}
        for position in state.unnamed if state.stripes else ():
            unknown += 1
            barcodes[position] = f"unknown-{unknown:04d}"
        found = state.found
        half_labelled = not state.stripes and bool(state.unnamed)
        sets.append(
            RebuiltSet(
                found.id,
                found.k,
                found.m,
                found.block_size,
                found.recipients,
                found.created_at,
                state.stripes,
                state.closed or half_labelled,
                barcodes,
            )
        )
    return sets


def _volumes(
    found: Sequence[FoundVolume], known: Sequence[KnownSet], sets: Sequence[RebuiltSet]
) -> list[RebuiltVolume]:
    """Return the volumes; one whose place another one has taken over is retired."""
    noted = {volume.barcode: volume for volume in found}
    short = {barcode for state in known for barcode in state.short}
    held: list[RebuiltVolume] = []
    for one in sets:
        content = Content.FULL if one.closed else Content.APPENDABLE
        for position, barcode in one.barcodes.items():
            held.append(
                RebuiltVolume(
                    barcode,
                    one.id,
                    position,
                    content if one.stripes else Content.LABELLED,
                    *_health(noted.get(barcode), short=barcode in short),
                )
            )
    entered = {volume.barcode for volume in held}
    others = {Found.BLANK: Content.BLANK, Found.READ: Content.RETIRED}
    held += [
        RebuiltVolume(
            volume.barcode, None, None, others[volume.state], *_health(volume, short=False)
        )
        for volume in found
        if volume.barcode not in entered and volume.state in others
    ]
    return held


def _health(volume: FoundVolume | None, *, short: bool) -> tuple[Health, tuple[Flag, ...]]:
    if volume is None:
        return Health.LOST, (Flag.MISSING,)
    if volume.state is Found.UNREADABLE:
        return Health.BROKEN, ()
    return Health.SUSPECT if volume.problem or short else Health.OK, ()


def _count_objects(catalog: Catalog, report: RebuildReport) -> None:
    with catalog.read() as connection:
        for name, table in (("objects", objects), ("versions", versions)):
            count = connection.execute(select(func.count()).select_from(table)).scalar_one()
            setattr(report, name, count)
    report.written = True
