"""What writing a member of a tape set anew would take: volumes to read, to recall, to write to."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection

from restore_lib.catalog import repairs, tape_sets
from restore_lib.catalog.repairs import Repair
from restore_lib.catalog.tape_sets import TapeSet
from restore_lib.catalog.volumes import known, volumes
from restore_lib.errors import NoScratchVolume, Refused, RetryLater
from restore_lib.model.states import SetState
from restore_lib.model.volume import Custody, Health, Reason, Volume
from restore_lib.restore.plan import readable
from restore_lib.site import Site
from restore_lib.vault.recalls import RecallPlan, plan_recall


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """A member of a tape set, and what it takes to write it anew.

    ``sources`` are read, the damaged volume itself first where it can be. ``replacement`` is
    written: None while the library has no blank volume. ``recall`` names by vault what has to come
    back first, and ``coming`` what is on its way. ``closes_set``: the set still takes stripes and
    is closed as it is. ``done``: the volume has been replaced already, by ``replacement``.
    """

    barcode: str
    tape_set: str
    position: int
    role: str
    health: Health
    files: int
    size: int
    sources: tuple[str, ...]
    replacement: str | None
    recall: Mapping[str, tuple[str, ...]]
    coming: tuple[str, ...]
    closes_set: bool
    done: bool

    @property
    def reason(self) -> Reason:
        """Why volumes are recalled for it."""
        return Reason.MIGRATE if self.barcode in self.sources else Reason.REDUNDANCY

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        return asdict(self)


def plan_repair(site: Site, barcode: str) -> RepairPlan:
    """Say how a volume would be written anew; changes nothing.

    Refused when the catalog does not know it, when it holds nothing of a set, when its set is being
    written, or when too few volumes of the set can be read.
    """
    with site.catalog.read() as connection:
        [volume] = known(connection, [barcode])
        earlier = repairs.latest(connection, barcode)
        if earlier is not None and earlier.state == repairs.DONE:
            return _done(connection, earlier, volume)
        held = set_to_repair(connection, volume)
        files = [f for f in tape_sets.files_of_set(connection, held.id) if f.barcode == barcode]
        members = volumes(connection, held.barcodes)
        replacement = _replacement(connection, earlier)
    sources, whereabouts = _sources(site, held, volume, members)
    return RepairPlan(
        barcode=barcode,
        tape_set=held.id,
        position=volume.position or 0,
        role="data" if (volume.position or 0) < held.k else "parity",
        health=volume.health,
        files=len(files),
        size=sum(file.blocks for file in files) * held.block_size,
        sources=sources,
        replacement=replacement,
        recall=whereabouts.to_recall,
        coming=(*whereabouts.coming, *whereabouts.leaving),
        closes_set=held.state is SetState.OPEN,
        done=False,
    )


def check_ready(plan: RepairPlan) -> None:
    """Raise what keeps the repair from being done now.

    Refused when volumes are in a vault, RetryLater when they are on their way, and NoScratchVolume
    when there is no blank volume.
    """
    if away := [barcode for held in plan.recall.values() for barcode in held]:
        raise Refused(
            f"Volume {plan.barcode} can't be written anew yet: {', '.join(away)} of its set "
            f"{plan.tape_set} are in the vault.",
            remedy=f"call them back with `tapeflow repair {plan.barcode} --recall`, then repair",
        )
    if plan.coming:
        raise RetryLater(
            f"Volume {plan.barcode} can't be written anew yet: {', '.join(plan.coming)} of its set "
            f"{plan.tape_set} are on their way.",
            remedy="run it again when `tapeflow vault receive` has brought them in",
        )
    if plan.replacement is None:
        raise NoScratchVolume("1 blank volume is needed, and the library has none.")


def set_to_repair(connection: Connection, volume: Volume, *, lock: bool = False) -> TapeSet:
    """Return the set of a volume; Refused when it has none, or one that is being written.

    With ``lock``, backups are kept from the set until the transaction ends.
    """
    if volume.tape_set is None:
        raise Refused(
            f"Volume {volume.barcode} is in no tape set; there is nothing on it to write anew.",
            remedy="`tapeflow volumes` lists the volumes with their sets",
        )
    if lock:
        tape_sets.lock_set(connection, volume.tape_set)
    held = tape_sets.tape_set(connection, volume.tape_set)
    if held.state not in {SetState.OPEN, SetState.CLOSED}:
        raise Refused(
            f"Nothing on tape set {held.id} is needed any more: it is {held.state}.",
            remedy=f"to keep it, bring it back first with `tapeflow reclaim undo {held.id}`",
        )
    if not held.stripes:
        raise Refused(
            f"Tape set {held.id} holds nothing yet.",
            remedy="the next backup takes a blank volume in place of one that is not sound",
        )
    if held.state is SetState.OPEN and not tape_sets.is_idle(connection, held.id, lock=lock):
        raise Refused(
            f"A backup is writing to tape set {held.id}.",
            remedy="repair it when the backup has ended; restores go around the volume meanwhile",
        )
    return held


def _sources(
    site: Site, held: TapeSet, volume: Volume, members: Iterable[Volume]
) -> tuple[tuple[str, ...], RecallPlan]:
    """Return the volumes to read, and where those of them are that are not here."""
    others = sorted(
        (other for other in members if other.barcode != volume.barcode and readable(other)),
        key=lambda other: (other.health is not Health.OK, other.position),
    )
    own = [volume.barcode] if readable(volume) and _is_here(volume) else []
    if len(others) < held.k and not own:
        raise Refused(
            f"Volume {volume.barcode} can't be written anew: of its set {held.id} only "
            f"{len(others)} other volumes can be read, and {held.k} are needed.",
            remedy="restore what its set's readable volumes hold, and look for those that are "
            "lost; one that is here again comes back by `tapeflow volumes found`",
        )
    here = [other.barcode for other in others if _is_here(other)]
    missing = held.k - len(here) if len(others) >= held.k else 0
    where = plan_recall(site, [other.barcode for other in others if not _is_here(other)])
    lacking = RecallPlan(
        mountable=(),
        to_recall={},
        coming=where.coming[: max(missing, 0)],
        leaving=(),
        lost=(),
    )
    missing -= len(lacking.coming)
    if missing <= 0:
        return (*own, *here), lacking
    vaulted = {b: vault for vault, held_there in where.to_recall.items() for b in held_there}
    wanted = [other.barcode for other in others if other.barcode in vaulted][:missing]
    to_recall: dict[str, tuple[str, ...]] = {}
    for barcode in wanted:
        vault = vaulted[barcode]
        to_recall[vault] = (*to_recall.get(vault, ()), barcode)
    leaving = where.leaving[: missing - len(wanted)]
    return (*own, *here), RecallPlan((), to_recall, lacking.coming, leaving, ())


def _is_here(volume: Volume) -> bool:
    return volume.custody is Custody.MOUNTABLE


def _replacement(connection: Connection, earlier: Repair | None) -> str | None:
    if earlier is not None and earlier.state == repairs.RUNNING:
        return earlier.replacement
    try:
        return tape_sets.next_blank(connection)
    except NoScratchVolume:
        return None


def _done(connection: Connection, repair: Repair, volume: Volume) -> RepairPlan:
    held = tape_sets.tape_set(connection, repair.tape_set)
    return RepairPlan(
        barcode=volume.barcode,
        tape_set=held.id,
        position=repair.position,
        role="data" if repair.position < held.k else "parity",
        health=volume.health,
        files=volume.files,
        size=volume.bytes,
        sources=(),
        replacement=repair.replacement,
        recall={},
        coming=(),
        closes_set=False,
        done=True,
    )
