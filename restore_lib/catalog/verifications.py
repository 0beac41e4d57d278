"""Verification runs: which volumes were read again, and what was found on each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from restore_lib.catalog.bulk import chunks
from restore_lib.catalog.tables import (
    extent_in_tape_file,
    extents,
    objects,
    stripes,
    tape_files,
    tape_sets,
    verification_results,
    verification_runs,
    versions,
    volumes,
)
from restore_lib.errors import Refused
from restore_lib.model.states import SetState
from restore_lib.model.verdict import Verdict
from restore_lib.model.volume import Custody, Health

RUNNING = "running"
ENDED = "ended"
UNMOUNTED = frozenset({Health.DISABLED, Health.BROKEN, Health.LOST, Health.DESTROYED})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A volume that can be verified: what is on it (``bytes``), and when it was verified last."""

    barcode: str
    files: int
    bytes: int
    verified_at: datetime | None


@dataclass(frozen=True, slots=True)
class ExpectedFile:
    """A committed tape file behind the label: its number, length in blocks and SHA-256 (hex)."""

    number: int
    blocks: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ExpectedVolume:
    """What the catalog says is on a volume; ``closed`` ones may have a closing tape file."""

    barcode: str
    tape_set: str
    position: int
    k: int
    block_size: int
    closed: bool
    files: tuple[ExpectedFile, ...]


@dataclass(frozen=True, slots=True)
class ExpectedMember:
    """An object, or part ``part`` of ``parts`` of one, as it is stored in a tape file.

    ``offset`` and ``stored_size`` are in bytes, ``stored_sha256`` (hex) is of the bytes as stored.
    """

    name: str
    offset: int
    stored_size: int
    stored_sha256: str
    store: str
    key: bytes
    part: int
    parts: int


@dataclass(frozen=True, slots=True)
class VolumeResult:
    """What one run found on one volume.

    ``at`` is None until it has been read. ``files`` and ``bytes`` were read. Each of ``problems``
    has ``file`` (number, 0 for the label), ``member`` (name, or None for the whole tape file) and
    ``what``.
    """

    barcode: str
    verdict: Verdict
    files: int
    bytes: int
    problems: tuple[Mapping[str, Any], ...]
    at: datetime | None


@dataclass(frozen=True, slots=True)
class VerificationRun:
    """One run; ``verdict`` is None until it has ended."""

    id: int
    state: str
    started_at: datetime
    ended_at: datetime | None
    verdict: Verdict | None


def candidates(connection: Connection) -> list[Candidate]:
    """Return the volumes in the library that hold committed tape files, oldest verified first.

    Those whose health forbids mounting them are left out.
    """
    query = (
        select(
            volumes.c.barcode,
            func.count().label("files"),
            func.sum(tape_files.c.blocks * tape_sets.c.block_size).label("bytes"),
            volumes.c.verified_at,
        )
        .join(tape_files, tape_files.c.barcode == volumes.c.barcode)
        .join(stripes, stripes.c.id == tape_files.c.stripe_id)
        .join(tape_sets, tape_sets.c.id == stripes.c.tape_set)
        .where(
            volumes.c.custody == Custody.MOUNTABLE,
            volumes.c.health.not_in(UNMOUNTED),
            tape_sets.c.state != SetState.RECLAIMING,
        )
        .group_by(volumes.c.barcode, volumes.c.verified_at)
        .order_by(volumes.c.verified_at.asc().nulls_first(), volumes.c.barcode)
    )
    return [
        Candidate(row.barcode, row.files, int(row.bytes), row.verified_at)
        for row in connection.execute(query)
    ]


def holds_data(connection: Connection, barcode: str, at: datetime | None = None) -> bool:
    """Return whether the catalog has something on a volume, and is not about to forget it.

    With ``at``, only what is of a set that there was at that time counts.
    """
    query = (
        select(tape_sets.c.id)
        .join(volumes, volumes.c.tape_set == tape_sets.c.id)
        .where(volumes.c.barcode == barcode, tape_sets.c.state != SetState.RECLAIMING)
    )
    if at is not None:
        query = query.where(tape_sets.c.created_at <= at)
    return connection.execute(query).first() is not None


def expected_volume(connection: Connection, barcode: str) -> ExpectedVolume:
    """Return what the catalog has on a volume; Refused when it is in no tape set."""
    row = connection.execute(
        select(volumes.c.position, tape_sets)
        .join(tape_sets, tape_sets.c.id == volumes.c.tape_set)
        .where(volumes.c.barcode == barcode)
    ).one_or_none()
    if row is None:
        raise Refused(
            f"The catalog has no tape set with a volume {barcode}.",
            remedy="check the barcode; `tapeflow volumes` lists all",
        )
    query = (
        select(stripes.c.number, tape_files.c.blocks, tape_files.c.sha256)
        .join(stripes, stripes.c.id == tape_files.c.stripe_id)
        .where(tape_files.c.barcode == barcode)
        .order_by(stripes.c.number)
    )
    files = tuple(ExpectedFile(*each) for each in connection.execute(query))
    closed = row.state != SetState.OPEN
    return ExpectedVolume(barcode, row.id, row.position, row.k, row.block_size, closed, files)


def expected_members(connection: Connection, barcode: str, number: int) -> list[ExpectedMember]:
    """Return the objects in one tape file of a volume, in the order in which they lie there."""
    query = (
        select(
            extents.c.member,
            extents.c.offset,
            extents.c.stored_size,
            extents.c.stored_sha256,
            objects.c.store,
            objects.c.key,
            extents.c.part,
            versions.c.parts,
        )
        .join(versions, versions.c.id == extents.c.version_id)
        .join(objects, objects.c.id == versions.c.object_id)
        .join(stripes, stripes.c.id == extents.c.stripe_id)
        .join(tape_files, extent_in_tape_file)
        .where(tape_files.c.barcode == barcode, stripes.c.number == number)
        .order_by(extents.c.offset)
    )
    return [ExpectedMember(*row) for row in connection.execute(query)]


def begin_run(connection: Connection, barcodes: Iterable[str], at: datetime) -> int:
    """Insert a run over these volumes, none of them checked yet, and return its id."""
    row = {"state": RUNNING, "started_at": at}
    run_id: int = connection.execute(
        insert(verification_runs).values(row).returning(verification_runs.c.id)
    ).scalar_one()
    rows: list[dict[str, Any]] = [
        {
            "run_id": run_id,
            "barcode": barcode,
            "verdict": Verdict.NOT_CHECKED,
            "files": 0,
            "bytes": 0,
            "problems": [],
        }
        for barcode in barcodes
    ]
    if rows:
        connection.execute(insert(verification_results), rows)
    return run_id


def untouched_run(connection: Connection, barcodes: Sequence[str]) -> int | None:
    """Return the newest running run, if it has exactly these volumes and none was read yet."""
    running = (
        select(verification_runs.c.id)
        .where(verification_runs.c.state == RUNNING)
        .order_by(verification_runs.c.id.desc())
        .limit(1)
    )
    run_id: int | None = connection.execute(running).scalar_one_or_none()
    if run_id is None:
        return None
    found = results(connection, run_id)
    same = [each.barcode for each in found] == sorted(barcodes)
    return run_id if same and all(each.at is None for each in found) else None


def run(connection: Connection, run_id: int) -> VerificationRun:
    """Return a run; Refused when there is none of this id."""
    row = connection.execute(
        select(verification_runs).where(verification_runs.c.id == run_id)
    ).one_or_none()
    if row is None:
        raise Refused(
            f"There is no verification {run_id}.", remedy="see `tapeflow verifications list`"
        )
    return _run(row)


def runs(connection: Connection) -> list[VerificationRun]:
    """Return all runs, newest first."""
    query = select(verification_runs).order_by(verification_runs.c.id.desc())
    return [_run(row) for row in connection.execute(query)]


def verdicts(connection: Connection) -> dict[int, dict[Verdict, int]]:
    """Return by run how many of its volumes came to each verdict."""
    columns = verification_results.c.run_id, verification_results.c.verdict
    found: dict[int, dict[Verdict, int]] = {}
    for run_id, verdict, count in connection.execute(
        select(*columns, func.count()).group_by(*columns)
    ):
        found.setdefault(run_id, {})[Verdict(verdict)] = count
    return found


def results(connection: Connection, run_id: int) -> list[VolumeResult]:
    """Return the results of a run in order of the barcodes."""
    query = (
        select(verification_results)
        .where(verification_results.c.run_id == run_id)
        .order_by(verification_results.c.barcode)
    )
    return [_result(row) for row in connection.execute(query)]


def result(connection: Connection, run_id: int, barcode: str) -> VolumeResult:
    """Return the result of one volume; Refused when the run does not have the volume."""
    row = connection.execute(
        select(verification_results).where(
            verification_results.c.run_id == run_id, verification_results.c.barcode == barcode
        )
    ).one_or_none()
    if row is None:
        raise Refused(
            f"Verification run {run_id} does not have volume {barcode}.",
            remedy="name a volume of the run",
        )
    return _result(row)


def add_result(connection: Connection, run_id: int, found: VolumeResult) -> bool:
    """Keep what was found on a volume, unless another execution has; return whether it was kept."""
    done = connection.execute(
        update(verification_results)
        .where(
            verification_results.c.run_id == run_id,
            verification_results.c.barcode == found.barcode,
            verification_results.c.at.is_(None),
        )
        .values(
            verdict=found.verdict,
            files=found.files,
            bytes=found.bytes,
            problems=[dict(problem) for problem in found.problems],
            at=found.at,
        )
    )
    return done.rowcount == 1


def set_verified(connection: Connection, barcodes: Sequence[str], at: datetime) -> None:
    """Note that these volumes were read through at ``at``."""
    for chunk in chunks(barcodes):
        connection.execute(
            update(volumes).where(volumes.c.barcode.in_(chunk)).values(verified_at=at)
        )


def end_run(connection: Connection, run_id: int, verdict: Verdict, at: datetime) -> bool:
    """End a run with its verdict, unless it has ended already; return whether this call did."""
    done = connection.execute(
        update(verification_runs)
        .where(verification_runs.c.id == run_id, verification_runs.c.state == RUNNING)
        .values(state=ENDED, ended_at=at, verdict=verdict)
    )
    return done.rowcount == 1


def _run(row: Row[Any]) -> VerificationRun:
    verdict = None if row.verdict is None else Verdict(row.verdict)
    return VerificationRun(row.id, row.state, row.started_at, row.ended_at, verdict)


def _result(row: Row[Any]) -> VolumeResult:
    return VolumeResult(
        row.barcode, Verdict(row.verdict), row.files, row.bytes, tuple(row.problems), row.at
    )
