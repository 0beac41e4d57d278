"""Proving that media are readable: volumes are read again, the one verified longest ago first.

A run is planned, begun, carried out volume by volume, and finished. Each of these steps may be done
twice: what an earlier execution has found is kept.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from restore_lib.catalog import audit, verifications
from restore_lib.catalog import volumes as custody
from restore_lib.catalog.leases import CatalogLeases
from restore_lib.catalog.verifications import (
    Candidate,
    ExpectedMember,
    ExpectedVolume,
    VolumeResult,
)
from restore_lib.errors import MediumError, Refused, VolumeAbsent
from restore_lib.integrity.tape_check import Damage, Findings, check_volume
from restore_lib.library.mounting import mounted
from restore_lib.model.progress import Progress, Silent
from restore_lib.model.verdict import Verdict, combined
from restore_lib.model.volume import Custody, Flag, Health, Volume
from restore_lib.site import Site

_HEALTH = {
    Damage.SOME: Health.SUSPECT,
    Damage.ALL: Health.BROKEN,
    Damage.STRANGER: Health.SUSPECT,
    Damage.MISLABELLED: Health.SUSPECT,
}
_FLAGS = {
    Damage.STRANGER: Flag.FOREIGN,
    Damage.MISLABELLED: Flag.LABEL_MISMATCH,
    Damage.ABSENT: Flag.MISSING,
}


def plan_verification(
    site: Site, *, barcodes: Sequence[str] | None = None, limit: int | None = None
) -> list[Candidate]:
    """Return the volumes to verify, the one verified longest ago first.

    Those are the volumes in the library with committed tape files and in a health to be mounted;
    of these only ``barcodes`` where given, and at most ``limit``. Refused, naming it, when one of
    ``barcodes`` is not among them.
    """
    with site.catalog.read() as connection:
        found = verifications.candidates(connection)
    if barcodes is not None:
        wanted = set(barcodes)
        found = [candidate for candidate in found if candidate.barcode in wanted]
        if missing := sorted(wanted - {candidate.barcode for candidate in found}):
            raise Refused(
                f"These volumes can't be verified now: {', '.join(missing)}.",
                remedy="name volumes with data on them that are in the library and not broken; one "
                "that was given up and is here again comes back by `tapeflow volumes found`",
            )
    return found[:limit]


def begin_verification(site: Site, plan: Sequence[Candidate], actor: str) -> int:
    """Make a run over the volumes of ``plan``, and return its id.

    A run of the same volumes of which none has been read yet is taken up instead. A run over no
    volume is allowed, and ends as not checked.
    """
    barcodes = sorted(candidate.barcode for candidate in plan)
    with site.catalog.write() as connection:
        begun = verifications.untouched_run(connection, barcodes)
        if begun is not None:
            return begun
        now = site.clock.now()
        run_id = verifications.begin_run(connection, barcodes, now)
        detail = {"volumes": barcodes}
        audit.record(connection, now, actor, "verify", f"verification {run_id}", detail)
    return run_id


def verify_volume(
    site: Site, run_id: int, barcode: str, progress: Progress | None = None
) -> VolumeResult:
    """Mount one volume of a run, read all of it, and keep what was found.

    Damage makes the volume SUSPECT, or BROKEN when its label or all of its tape files can't be
    read; a label that is another volume's, or not ours, makes it SUSPECT with a flag. Where all of
    it passes, what stood against the volume before it was read is lifted: a SUSPECT one is OK, and
    its flags are cleared. A volume that is not in the library stays unchecked and, unless it was
    sent out since, is flagged as MISSING. A volume that the run has read already is not read again,
    and one whose set is being reclaimed is not read at all.

    Raises DriveBusy, LibraryOffline or LeaseLost when the library can't serve now; then nothing is
    kept, and the call may be made again.
    """
    progress = progress or Silent()
    with site.catalog.read() as connection:
        run = verifications.run(connection, run_id)
        known = verifications.result(connection, run_id, barcode)
        if known.at is not None or run.verdict is not None:
            return known
        if not verifications.holds_data(connection, barcode):
            return known
        (before,) = custody.known(connection, [barcode])
        expected = verifications.expected_volume(connection, barcode)
    size = sum(file.blocks for file in expected.files) * expected.block_size
    progress.stage(f"Verifying {barcode}", objects=len(expected.files), size=size)
    findings = _read(site, run_id, expected, progress)
    found = VolumeResult(
        barcode,
        _verdict(findings),
        findings.files,
        findings.bytes,
        tuple(findings.problems),
        site.clock.now(),
    )
    with site.catalog.write() as connection:
        if verifications.add_result(connection, run_id, found):
            _mark(connection, site, run_id, expected.barcode, findings)
            if found.verdict is Verdict.PASSED:
                _absolve(connection, site, run_id, before)
        return verifications.result(connection, run_id, barcode)


def finish_verification(site: Site, run_id: int) -> Verdict:
    """End a run and return its verdict.

    FAILED when any volume failed, NOT_CHECKED when none was read, PARTIAL when some were not, else
    PASSED. A run that has ended keeps its verdict.
    """
    with site.catalog.write() as connection:
        found = verifications.results(connection, run_id)
        verdict = combined(result.verdict for result in found)
        now = site.clock.now()
        if verifications.end_run(connection, run_id, verdict, now):
            subject = f"verification {run_id}"
            detail = {"verdict": verdict, "volumes": {r.barcode: r.verdict for r in found}}
            audit.record(connection, now, subject, "verified", subject, detail)
            return verdict
        return verifications.run(connection, run_id).verdict or verdict


def _read(site: Site, run_id: int, expected: ExpectedVolume, progress: Progress) -> Findings:
    leases = CatalogLeases(site.catalog, site.clock)
    holder = f"verification {run_id} of {expected.barcode}"
    ttl = site.config.library.lease

    def members(number: int) -> list[ExpectedMember]:
        with site.catalog.read() as connection:
            return verifications.expected_members(connection, expected.barcode, number)

    try:
        with mounted(site.library, leases, expected.barcode, holder, ttl=ttl) as drive:
            return check_volume(drive, site.config.cluster.id, expected, progress.advance, members)
    except (MediumError, VolumeAbsent) as error:
        absent = isinstance(error, VolumeAbsent)
        findings = Findings(Damage.ABSENT if absent else Damage.ALL)
        findings.add(None, None, error.message)
        return findings


def _verdict(findings: Findings) -> Verdict:
    if findings.damage is Damage.ABSENT:
        return Verdict.NOT_CHECKED
    if findings.problems:
        return Verdict.FAILED
    return Verdict.PASSED if findings.files else Verdict.NOT_CHECKED


def _mark(
    connection: Connection, site: Site, run_id: int, barcode: str, findings: Findings
) -> None:
    """Bring the volume's health, flags and date of verification in line with what was found."""
    actor, now, reason = f"verification {run_id}", site.clock.now(), "found by verification"
    (volume,) = custody.known(connection, [barcode], lock=True)
    if findings.damage is Damage.ABSENT and volume.custody is not Custody.MOUNTABLE:
        return
    if flag := _FLAGS.get(findings.damage):
        custody.set_flag(connection, [barcode], flag, actor=actor, reason=reason, at=now)
    if findings.damage is not Damage.ABSENT:
        verifications.set_verified(connection, [barcode], now)
    after = _HEALTH.get(findings.damage)
    if after is None or volume.health in {after, *verifications.UNMOUNTED}:
        return
    custody.change(
        connection,
        [barcode],
        "health",
        volume.health,
        after,
        actor=actor,
        reason=reason,
        at=now,
    )


def _absolve(connection: Connection, site: Site, run_id: int, before: Volume) -> None:
    """Lift what stood against a volume before it was read, now that all of it has passed.

    What came up meanwhile stays.
    """
    how: dict[str, Any] = {
        "actor": f"verification {run_id}",
        "reason": "passed verification",
        "at": site.clock.now(),
    }
    (volume,) = custody.known(connection, [before.barcode], lock=True)
    for flag in sorted(before.flags & volume.flags):
        custody.clear_flag(connection, [volume.barcode], flag, **how)
    if before.health is volume.health is Health.SUSPECT:
        step = (Health.SUSPECT, Health.OK)
        custody.change(connection, [volume.barcode], "health", *step, **how)
