"""What repacking would move: sets that hold mostly what has expired, and how they can be read.

Only closed sets are repacked. A payload keeps the recipients that it is encrypted to, so sets of
one policy and of the same recipients go together to new sets.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import Connection

from restore_lib.backup.pack import Geometry, weight
from restore_lib.catalog import tape_sets
from restore_lib.catalog.liveness import SetUse, live_bytes_of_sets, live_on_volumes
from restore_lib.catalog.tape_sets import TapeSet
from restore_lib.catalog.volumes import volumes
from restore_lib.errors import Refused, RetryLater
from restore_lib.model.volume import Custody, Health, Volume
from restore_lib.restore.plan import readable
from restore_lib.site import Site
from restore_lib.tape.segment import empty_size
from restore_lib.vault.recalls import RecallPlan, plan_recall

HALF = 0.5
_PER_MEMBER = 12 << 10
"""What a payload's header and its lines in manifest and index take at most, as a rule."""


@dataclass(frozen=True, slots=True)
class SetToRepack:
    """A set whose live payloads are to be moved; sizes are as stored, in bytes.

    ``sources`` are the volumes to read, the sound ones first. ``recall`` names by vault those that
    have to come back before, ``coming`` those that are on their way. ``why_not`` says what keeps
    the set from being repacked at all.
    """

    tape_set: str
    policy: str
    recipients: tuple[str, ...]
    extents: int
    size: int
    live_extents: int
    live_size: int
    largest: int
    sources: tuple[str, ...] = ()
    recall: Mapping[str, tuple[str, ...]] | None = None
    coming: tuple[str, ...] = ()
    why_not: str = ""

    @property
    def away(self) -> tuple[str, ...]:
        """The volumes in vaults that have to be called back."""
        return tuple(b for held in (self.recall or {}).values() for b in held)

    @property
    def ready(self) -> bool:
        """Whether it can be repacked now."""
        return not (self.why_not or self.recall or self.coming)


@dataclass(frozen=True, slots=True)
class NewSets:
    """What is written: sets of one policy, for the same recipients.

    ``recipients_changed``: these are not the site's recipients of today.
    """

    policy: str
    recipients: tuple[str, ...]
    payloads: int
    size: int
    tape_sets: int
    volumes: int
    recipients_changed: bool


@dataclass(frozen=True, slots=True)
class RepackPlan:
    """The sets to repack, and the new sets that those of them take which are ready."""

    sets: tuple[SetToRepack, ...]
    new: tuple[NewSets, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        sets = [asdict(one) | {"ready": one.ready} for one in self.sets]
        return {"sets": sets, "new": [asdict(one) for one in self.new]}


def plan_repack(site: Site, *, sets: Collection[str] = (), below: float = HALF) -> RepackPlan:
    """Say which sets would be repacked; changes nothing.

    Those that are named in ``sets``; without a name, all closed sets of whose stored bytes a share
    of less than ``below`` is live. A set that holds nothing live is none of them: it can be
    reclaimed as it is. Refused when a named set is not known, or not closed.
    """
    with site.catalog.read() as connection:
        found = _chosen(connection, sets, below)
        plans = [_plan_set(site, connection, use) for use in found]
    return RepackPlan(tuple(plans), tuple(_new_sets(site, [one for one in plans if one.ready])))


def check_ready(plan: RepackPlan) -> None:
    """Raise what keeps every set of the plan from being repacked now.

    Refused when volumes are in a vault or when a set can't be repacked at all, RetryLater when
    volumes are on their way.
    """
    if any(one.ready for one in plan.sets) or not plan.sets:
        return
    if away := [barcode for one in plan.sets for barcode in one.away]:
        raise Refused(
            f"Nothing can be repacked yet: {', '.join(away)} are in the vault.",
            remedy="call them back with `tapeflow repack run --recall`, then repack",
        )
    if coming := [barcode for one in plan.sets for barcode in one.coming]:
        raise RetryLater(
            f"Nothing can be repacked yet: {', '.join(coming)} are on their way.",
            remedy="run it again when `tapeflow vault receive` has brought them in",
        )
    raise Refused(
        " ".join(f"Set {one.tape_set} can't be repacked: {one.why_not}." for one in plan.sets),
        remedy="restore from these sets what is needed; they can't be reclaimed before it expires",
    )


def geometry_for(site: Site, policy: str, recipients: Sequence[str], largest: int) -> Geometry:
    """Return the sizes of new sets: the policy's, but with segments that the largest payload fits.

    It was written as a part of a segment of its own days, and can't be cut again.
    """
    made = Geometry.of(site.policy(policy), site.config.library.capacity, len(recipients))
    least = largest + empty_size(len(recipients)) + _PER_MEMBER
    blocks = -(-least // made.block_size)
    return replace(made, segment_size=max(made.segment_size, blocks * made.block_size))


def _chosen(connection: Connection, sets: Collection[str], below: float) -> list[SetUse]:
    uses = {use.tape_set: use for use in live_bytes_of_sets(connection)}
    if unknown := sorted(set(sets) - uses.keys()):
        raise Refused(
            f"There is no closed tape set {', '.join(unknown)}.",
            remedy="only closed sets are repacked; `tapeflow repack plan --below 100%` lists them",
        )
    chosen = [uses[name] for name in sorted(set(sets))] if sets else list(uses.values())
    return [
        use for use in chosen if use.live_extents and (sets or use.live_size < below * use.size)
    ]


def _plan_set(site: Site, connection: Connection, use: SetUse) -> SetToRepack:
    held = tape_sets.tape_set(connection, use.tape_set)
    holding = live_on_volumes(connection, use.tape_set)
    planned = SetToRepack(
        tape_set=held.id,
        policy=held.policy,
        recipients=held.recipients,
        extents=use.extents,
        size=use.size,
        live_extents=use.live_extents,
        live_size=use.live_size,
        largest=max(holding.values()),
    )
    if held.policy not in site.config.policies:
        return replace(planned, why_not=f"its policy {held.policy!r} is not configured any more")
    geometry = geometry_for(site, held.policy, held.recipients, planned.largest)
    if geometry.segment_size > geometry.volume_size:
        why = f"its largest payload, {planned.largest:,} bytes, is too large for [library] capacity"
        return replace(planned, why_not=why)
    members = volumes(connection, held.barcodes)
    wanted = _wanted(held, members, holding)
    if not wanted:
        return replace(planned, why_not="its volumes with live payloads are lost")
    here = [volume.barcode for volume in _by_soundness(members) if _is_here(volume)]
    where = plan_recall(site, [barcode for barcode in wanted if barcode not in here])
    return replace(
        planned,
        sources=tuple(dict.fromkeys([*here, *wanted])),
        recall=where.to_recall,
        coming=_on_the_way(where),
    )


def _wanted(held: TapeSet, members: Collection[Volume], holding: Collection[str]) -> list[str]:
    """Return the volumes that have to be here: those that hold live payloads.

    Where one of these is lost or suspect, also others, until k can rebuild what it does not give;
    those that are here anyway come first. None where nothing can be read.
    """
    usable = _by_soundness(members)
    direct = [volume for volume in usable if volume.barcode in holding]
    sound = [volume for volume in direct if volume.health is Health.OK]
    if len(sound) == len(holding):
        return [volume.barcode for volume in direct]
    others = [volume for volume in usable if volume not in sound]
    others.sort(key=lambda volume: (not _is_here(volume), volume.health is not Health.OK))
    helping = (sound + others)[: held.k]
    if not direct and len(helping) < held.k:
        return []
    return [volume.barcode for volume in dict.fromkeys([*direct, *helping])]


def _by_soundness(members: Collection[Volume]) -> list[Volume]:
    usable = [volume for volume in members if readable(volume)]
    return sorted(usable, key=lambda volume: (volume.health is not Health.OK, volume.position or 0))


def _is_here(volume: Volume) -> bool:
    return volume.custody is Custody.MOUNTABLE


def _on_the_way(where: RecallPlan) -> tuple[str, ...]:
    return (*where.coming, *where.leaving)


def _new_sets(site: Site, ready: Sequence[SetToRepack]) -> list[NewSets]:
    groups: dict[tuple[str, tuple[str, ...]], list[SetToRepack]] = {}
    for one in ready:
        groups.setdefault((one.policy, one.recipients), []).append(one)
    found = []
    for (policy, recipients), held in groups.items():
        geometry = geometry_for(site, policy, recipients, max(one.largest for one in held))
        payloads = sum(one.live_extents for one in held)
        size = sum(one.live_size for one in held)
        count = -(-weight(payloads, size) // geometry.set_size)
        found.append(
            NewSets(
                policy,
                recipients,
                payloads,
                size,
                count,
                count * (geometry.k + geometry.m),
                recipients != site.recipients.names,
            )
        )
    return found
