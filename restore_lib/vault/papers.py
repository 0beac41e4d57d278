"""The paper that goes with a shipment, made of its lines, to be sent and to be printed."""

from collections.abc import Iterable

from restore_lib.model.shipment import EXPECTED_LINES, Direction, Line, LineState, Shipment
from restore_lib.site import Site
from restore_lib.vault.documents import PackedBox, PackingList, PickList

_UNPACKED = frozenset({LineState.REQUESTED, LineState.OMITTED})


def paper(site: Site, shipment: Shipment, lines: Iterable[Line]) -> PackingList | PickList | None:
    """Return the packing list of what goes to a vault, or the pick list of what it is to send.

    None while nothing is sealed, and when nothing is expected of a recall any more.
    """
    made: PackingList | PickList
    if shipment.direction is Direction.OUT:
        made = packing_list(site, shipment, lines)
        return made if shipment.seal and made.volumes else None
    made = pick_list(site, shipment, lines)
    return made if made.volumes and not shipment.ended else None


def packing_list(site: Site, shipment: Shipment, lines: Iterable[Line]) -> PackingList:
    """Return the list of what was sealed, without what the truck or the vault did not find."""
    packed = [line for line in lines if line.state not in _UNPACKED]
    return PackingList(
        cluster=site.config.cluster.id,
        shipment=shipment.id,
        vault=shipment.vault,
        issued_at=site.clock.now(),
        seal=shipment.seal or "",
        boxes=tuple(
            PackedBox(number=box, volumes=tuple(line.barcode for line in packed if line.box == box))
            for box in sorted({line.box for line in packed})
        ),
    )


def pick_list(site: Site, shipment: Shipment, lines: Iterable[Line]) -> PickList:
    """Return the list of what is still expected of a recall."""
    now = site.clock.now()
    return PickList(
        cluster=site.config.cluster.id,
        shipment=shipment.id,
        vault=shipment.vault,
        issued_at=now,
        reason=shipment.reason,
        round=shipment.round,
        due_at=shipment.due_at or now,
        volumes=tuple(line.barcode for line in lines if line.state in EXPECTED_LINES),
    )
