"""Closed tape sets go out to the vaults: planned, ejected, packed, sealed, announced."""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection

from restore_lib.catalog import audit, offsite, shipments, volumes
from restore_lib.catalog.leases import CatalogLeases
from restore_lib.errors import ConfigError, VolumeAbsent, VolumeStuck
from restore_lib.library.mounting import put_away
from restore_lib.model.shipment import Direction, LineState, Shipment, ShipmentState
from restore_lib.model.volume import DOCK, LIBRARY, Custody, Flag, Health, Reason
from restore_lib.site import Site
from restore_lib.vault.boxes import Cartridge, PlannedShipment, plan_shipments
from restore_lib.vault.desk import Visit, courier_of, due
from restore_lib.vault.ledger import Ledger
from restore_lib.vault.papers import packing_list

_UNSENT = (
    ShipmentState.DRAFT,
    ShipmentState.PICK_LISTED,
    ShipmentState.PACKED,
    ShipmentState.SEALED,
)
_ONSITE = (Custody.MOUNTABLE, Custody.NOTMOUNTABLE)


@dataclass(frozen=True, slots=True)
class VaultPlan:
    """What would go where, in which boxes; ``notes`` tell what the vaults are too few for."""

    shipments: tuple[PlannedShipment, ...]
    notes: tuple[str, ...]

    @property
    def barcodes(self) -> list[str]:
        """All volumes of the plan."""
        return sorted(b for shipment in self.shipments for b in shipment.barcodes)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        return asdict(self)


def plan_vault_out(site: Site, policy: str | None = None) -> VaultPlan:
    """Plan the way out of every volume of a closed set that is here and not needed here.

    A volume that a running restore waits for stays; so does one that is missing or unusable.
    ConfigError when there is something to send, but no vault.
    """
    with site.catalog.read() as connection:
        found = offsite.candidates(connection, policy)
        present = offsite.members_by_vault(connection)
    vaults = {name: vault.box_size for name, vault in site.config.vaults.items()}
    if found and not vaults:
        raise ConfigError(
            f"{len(found)} volumes are to go offsite, but no vault is defined.",
            remedy="add a [vaults.NAME] section",
        )
    cartridges = [Cartridge(c.barcode, c.tape_set, max(1, c.m)) for c in found]
    distribution = plan_shipments(cartridges, vaults, present)
    return VaultPlan(distribution.shipments, distribution.notes)


def send_out(site: Site, plan: VaultPlan, actor: str) -> list[int]:
    """Make the plan's shipments, eject and seal them, and announce them to their vaults.

    Returns the shipments that this call made or brought further. What an earlier call began and a
    crash cut short is finished first of all; volumes that are in a shipment already, not here any
    more, or needed by a restore since, are left out. Raises DriveBusy when a volume is in a drive:
    call it again.
    """
    visit = Visit.begin(site, actor)
    with site.catalog.write() as connection:
        _create(connection, visit, plan)
        unsent = shipments.find(connection, direction=Direction.OUT, states=_UNSENT)
    for shipment in unsent:
        _eject(visit, shipment)
        _seal(visit, shipment)
        announce(site, shipment.id)
    return [shipment.id for shipment in unsent]


def take_back(site: Site, barcodes: Collection[str], actor: str) -> None:
    """Put volumes that a truck has left on the dock back into the library, for a restore to read.

    One that is not on the dock is flagged as missing; one that a shipment takes after all is left
    to it. Raises what the library raises; called again, it goes on.
    """
    visit = Visit.begin(site, actor)
    for barcode in barcodes:
        absent = False
        try:
            site.library.admit(barcode)
        except VolumeAbsent:
            absent = True
        with site.catalog.write() as connection:
            volumes.known(connection, [barcode], lock=True)
            left = offsite.left_behind(connection, [barcode])
            how: dict[str, Any] = {"actor": actor, "at": visit.now}
            if absent:
                volumes.set_flag(connection, left, Flag.MISSING, reason="not on the dock", **how)
                continue
            volumes.change(
                connection,
                left,
                "custody",
                Custody.NOTMOUNTABLE,
                Custody.MOUNTABLE,
                place=LIBRARY,
                reason="left by the truck, and needed here",
                **how,
            )


def announce(site: Site, shipment_id: int) -> None:
    """Send the packing list of a sealed shipment; sending it again does no harm."""
    with site.catalog.read() as connection:
        shipment = shipments.shipment(connection, shipment_id)
        lines = shipments.lines_of(connection, shipment_id)
    if shipment is None or shipment.state is not ShipmentState.SEALED:
        return
    courier_of(site, shipment.vault).send(packing_list(site, shipment, lines))


def _create(connection: Connection, visit: Visit, plan: VaultPlan) -> None:
    """Draft the plan's shipments, of the volumes that still are free to go."""
    onsite = {
        v.barcode
        for v in volumes.known(connection, plan.barcodes, lock=True)
        if v.custody in _ONSITE
    }
    leaving = shipments.open_lines(connection, plan.barcodes, Direction.OUT)
    taken = {line.barcode for line in leaving if line.state is not LineState.OMITTED}
    free = onsite - taken - offsite.awaited(connection)
    created = {}
    for planned in plan.shipments:
        boxes = {
            barcode: number
            for number, box in enumerate(planned.boxes, start=1)
            for barcode in box
            if barcode in free
        }
        if boxes:
            shipment_id = shipments.create(
                connection,
                boxes,
                direction=Direction.OUT,
                vault=planned.vault,
                reason=Reason.REDUNDANCY,
                at=visit.now,
                due_at=due(visit, planned.vault),
            )
            created[str(shipment_id)] = sorted(boxes)
    if created:
        subject = f"shipments:{','.join(created)}"
        audit.record(connection, visit.now, visit.actor, "vault.send_out", subject, created)


def _eject(visit: Visit, shipment: Shipment) -> None:
    """Take the volumes out of the library onto the dock; nothing mounts them from then on.

    One that a killed task has left in a drive is put back first; DriveBusy when it is in use. One
    that is stuck in a dead drive stays, and is disabled.
    """
    with visit.site.catalog.write() as connection:
        ledger = Ledger.open(connection, visit, shipment.id)
        if ledger is None:
            return
        wanted = ledger.in_state(LineState.REQUESTED)
        if ledger.shipment.state is ShipmentState.DRAFT:
            here = [v.barcode for v in ledger.volumes(wanted, Custody.MOUNTABLE)]
            ledger.move(here, (Custody.MOUNTABLE, Custody.NOTMOUNTABLE), DOCK, "to the vault")
            ledger.advance(ShipmentState.PICK_LISTED)
    site = visit.site
    leases = CatalogLeases(site.catalog, site.clock)
    for barcode in wanted:
        try:
            put_away(site.library, leases, barcode, visit.actor, ttl=site.config.library.lease)
        except VolumeStuck as error:
            _keep(visit, shipment, barcode, error.message)
            continue
        with suppress(VolumeAbsent):
            site.library.export(barcode)


def _keep(visit: Visit, shipment: Shipment, barcode: str, why: str) -> None:
    with visit.site.catalog.write() as connection:
        ledger = Ledger.open(connection, visit, shipment.id)
        if ledger is None or barcode not in ledger.in_state(LineState.REQUESTED):
            return
        ledger.mark([barcode], LineState.OMITTED, why)
        ledger.move([barcode], (Custody.NOTMOUNTABLE, Custody.MOUNTABLE), LIBRARY, why)
        [volume] = ledger.volumes([barcode])
        if volume.health in {Health.OK, Health.SUSPECT}:
            ledger.heal([barcode], (volume.health, Health.DISABLED), why)


def _seal(visit: Visit, shipment: Shipment) -> None:
    """Seal what a scan of the dock finds; what it does not find is an exception of its own."""
    scanned = visit.site.library.dock()
    with visit.site.catalog.write() as connection:
        ledger = Ledger.open(connection, visit, shipment.id)
        if ledger is None or ledger.shipment.state is not ShipmentState.PICK_LISTED:
            return
        wanted = ledger.in_state(LineState.REQUESTED)
        picked = [barcode for barcode in wanted if barcode in scanned]
        absent = [barcode for barcode in wanted if barcode not in scanned]
        ledger.mark(picked, LineState.PICKED)
        ledger.mark(absent, LineState.OMITTED, "not in the library")
        if picked:
            seal = f"TF-{shipment.id:08}"
            ledger.advance(ShipmentState.PACKED, ShipmentState.SEALED, seal=seal)
        else:
            ledger.advance(ShipmentState.CANCELLED)
        ledger.flag(absent, Flag.MISSING, "neither in the library nor on the dock")
        if absent:
            ledger.audit("vault.exceptions", missing=absent)
