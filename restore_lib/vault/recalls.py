"""Asking for volumes back, and again when they do not come."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection

from restore_lib.catalog import audit, shipments, volumes
from restore_lib.errors import Refused, TapeflowError
from restore_lib.model.shipment import Direction, LineState, Shipment, ShipmentState
from restore_lib.model.volume import (
    HEALTH_CHANGES,
    Custody,
    Flag,
    Health,
    Reason,
    Volume,
    vault_of,
)
from restore_lib.site import Site
from restore_lib.vault.desk import ReceiveResult, Visit, courier_of, due
from restore_lib.vault.ledger import Ledger
from restore_lib.vault.papers import pick_list

_ASKABLE = frozenset({Custody.VAULT, Custody.VAULTRETRIEVE})


@dataclass(frozen=True, slots=True)
class RecallPlan:
    """Where wanted volumes are: barcodes by what has to be done for them.

    ``mountable`` are here, ``to_recall`` are in the vault that is named, also those that it did not
    send when it was asked before, ``coming`` have been asked for already, ``leaving`` are on their
    way out and can be recalled once the vault has them, and ``lost`` will not come.
    """

    mountable: tuple[str, ...]
    to_recall: Mapping[str, tuple[str, ...]]
    coming: tuple[str, ...]
    leaving: tuple[str, ...]
    lost: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        return asdict(self)


def plan_recall(site: Site, barcodes: Iterable[str]) -> RecallPlan:
    """Return where these volumes are; Refused when the catalog does not know one of them."""
    with site.catalog.read() as connection:
        return _plan(volumes.known(connection, barcodes))


def recall(
    site: Site,
    barcodes: Iterable[str],
    *,
    reason: Reason,
    request_id: int | None = None,
    actor: str,
    round_: int = 0,
    follows: int | None = None,
) -> list[int]:
    """Ask the vaults for those of these volumes that they hold; return the shipments to wait for.

    One shipment for each vault, drafted in one transaction, whose pick list is then sent. Volumes
    that are asked for already are not asked for twice: their shipments are among those returned.
    So this can be called again, after a crash too. A volume that was lost anywhere but in a vault
    is not asked for; one that a vault did not send before is, and stays lost until it comes.
    """
    visit = Visit.begin(site, actor)
    ask = _Ask(reason, request_id, follows, round_)
    wanted = sorted(set(barcodes))
    with site.catalog.write() as connection:
        to_recall = _plan(volumes.known(connection, wanted, lock=True)).to_recall
        for vault, held in to_recall.items():
            shipment_id = _draft(connection, visit, vault, held, ask)
            volumes.change(
                connection,
                held,
                "custody",
                Custody.VAULT,
                Custody.VAULTRETRIEVE,
                actor=actor,
                reason=f"recalled for {reason}",
                shipment_id=shipment_id,
                at=visit.now,
            )
        open_ids = {
            line.shipment_id
            for line in shipments.open_lines(connection, wanted, Direction.IN)
            if line.state not in {LineState.OMITTED, LineState.EXTRA}
        }
        if to_recall:
            detail = {"reason": reason, "request": request_id, "volumes": to_recall}
            subject = f"shipments:{','.join(map(str, sorted(open_ids)))}"
            audit.record(connection, visit.now, actor, "vault.recall", subject, detail)
    dispatch(site)
    return sorted(open_ids)


def ask_again(ledger: Ledger, omitted: Sequence[str], why: str) -> ReceiveResult:
    """Draft the recall that follows an omission, or give the volumes up after the last round."""
    if not omitted:
        return ReceiveResult()
    shipment, visit = ledger.shipment, ledger.visit
    if shipment.round + 1 >= visit.site.config.restore.rounds:
        give_up(ledger, omitted)
        return ReceiveResult(omitted=tuple(omitted), lost=tuple(omitted))
    ask = _Ask(shipment.reason, shipment.request_id, shipment.id, shipment.round + 1)
    follower = _draft(ledger.connection, visit, shipment.vault, omitted, ask)
    ledger.audit("vault.recall_again", by=follower, why=why, volumes=list(omitted))
    return ReceiveResult(omitted=tuple(omitted), recalled=(follower,))


def give_up(ledger: Ledger, barcodes: Sequence[str]) -> None:
    """Mark volumes that a vault does not send as lost, so that plans go over their sets' others."""
    shipment = ledger.shipment
    why = f"not sent by vault {shipment.vault} after {shipment.round + 1} requests"
    ledger.flag(barcodes, Flag.MISSING, why)
    found = ledger.volumes(barcodes)
    for health in {v.health for v in found if Health.LOST in HEALTH_CHANGES[v.health]}:
        group = [v.barcode for v in found if v.health is health]
        ledger.heal(group, (health, Health.LOST), why)
    ledger.move(barcodes, (Custody.VAULTRETRIEVE, Custody.VAULT), None, why)
    ledger.audit("vault.given_up", why=why, volumes=list(barcodes))


def dispatch(site: Site) -> None:
    """Send the pick list of every drafted recall: what a crash kept from being sent too.

    An error with one keeps no other, and is raised at the end.
    """
    failures: list[TapeflowError] = []
    for draft in _drafts(site):
        try:
            send_pick_list(site, draft)
        except TapeflowError as error:
            failures.append(error)
            continue
        with site.catalog.write() as connection:
            found = shipments.shipment(connection, draft.id, lock=True)
            if found is not None and found.state is ShipmentState.DRAFT:
                shipments.advance(connection, found, ShipmentState.PICK_LISTED)
    if failures:
        raise failures[0]


def any_unsent(site: Site) -> bool:
    """Return whether ``dispatch`` would find a recall that was not sent yet."""
    return bool(_drafts(site))


def _drafts(site: Site) -> list[Shipment]:
    with site.catalog.read() as connection:
        return shipments.find(connection, direction=Direction.IN, states=[ShipmentState.DRAFT])


def send_pick_list(site: Site, shipment: Shipment) -> None:
    """Send the list of what is still expected of a recall; sending it again does no harm."""
    with site.catalog.read() as connection:
        lines = shipments.lines_of(connection, shipment.id)
    courier_of(site, shipment.vault).send(pick_list(site, shipment, lines))


@dataclass(frozen=True, slots=True)
class _Ask:
    """What a recall is for, and which one it follows."""

    reason: Reason
    request_id: int | None
    follows: int | None
    round: int


def _draft(
    connection: Connection, visit: Visit, vault: str, barcodes: Sequence[str], ask: _Ask
) -> int:
    return shipments.create(
        connection,
        dict.fromkeys(barcodes, 0),
        direction=Direction.IN,
        vault=vault,
        reason=ask.reason,
        at=visit.now,
        due_at=due(visit, vault, ask.round),
        request_id=ask.request_id,
        follows=ask.follows,
        round_=ask.round,
    )


def _plan(found: Iterable[Volume]) -> RecallPlan:
    by_vault: dict[str, list[str]] = defaultdict(list)
    others: dict[str, list[str]] = defaultdict(list)
    for volume in found:
        whereabouts = _whereabouts(volume)
        if whereabouts == "to_recall":
            by_vault[_vault(volume)].append(volume.barcode)
        else:
            others[whereabouts].append(volume.barcode)
    return RecallPlan(
        mountable=tuple(others["mountable"]),
        to_recall={vault: tuple(held) for vault, held in sorted(by_vault.items())},
        coming=tuple(others["coming"]),
        leaving=tuple(others["leaving"]),
        lost=tuple(others["lost"]),
    )


def _whereabouts(volume: Volume) -> str:
    outbound = volume.custody in {Custody.NOTMOUNTABLE, Custody.COURIER}
    vanished = volume.health is Health.LOST and volume.custody not in _ASKABLE
    gone = vanished or volume.health is Health.DESTROYED
    if gone or (outbound and Flag.MISSING in volume.flags):
        return "lost"
    if outbound:
        return "leaving"
    return {Custody.MOUNTABLE: "mountable", Custody.VAULT: "to_recall"}.get(
        volume.custody, "coming"
    )


def _vault(volume: Volume) -> str:
    vault = vault_of(volume.place)
    if vault is None:
        raise Refused(
            f"Volume {volume.barcode} is vaulted, but at {volume.place!r}, which is no vault.",
            remedy="restore the catalog from a copy, or rebuild it with `tapeflow catalog rebuild`",
        )
    return vault
