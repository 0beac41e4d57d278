"""Volumes that were given up and are here again: taken back, and not trusted until verified."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection

from restore_lib.catalog import audit, shipments, volumes
from restore_lib.errors import Refused, VolumeAbsent
from restore_lib.model.shipment import Direction, LineState
from restore_lib.model.volume import LIBRARY, Custody, Flag, Health, Volume
from restore_lib.site import Site
from restore_lib.vault.desk import Visit

FOUND_AGAIN = "found again"
_ABSENT = (Flag.MISSING, Flag.OVERDUE)
_GIVEN_UP = frozenset({Health.LOST, Health.DISABLED})
_WAY_HOME = (
    Custody.COURIER,
    Custody.VAULT,
    Custody.VAULTRETRIEVE,
    Custody.COURIERRETRIEVE,
    Custody.ONSITERETRIEVE,
    Custody.MOUNTABLE,
)
_NEARLY_HERE = (Custody.NOTMOUNTABLE, Custody.ACCLIMATING)


def take_found(
    site: Site, barcodes: Iterable[str], actor: str, reason: str = FOUND_AGAIN
) -> list[str]:
    """Take back those of these volumes that were given up and are here again, and return them.

    Given up are those that are lost, disabled, or missing where they should be. They have to lie in
    the library, or on the dock, from which they are taken in. From then on they are mountable, and
    suspect until a verification has passed; broken ones stay broken. The others stay as they are,
    so this can be called again, after a crash too.

    Raises VolumeAbsent, naming it, when one of them does not lie there, and Refused when the
    catalog does not know one or a shipment is to take one to a vault; nothing is then changed in
    the catalog.
    """
    visit = Visit.begin(site, actor)
    with site.catalog.read() as connection:
        wanted = _given_up(connection, barcodes)
    for barcode in wanted:
        _take_in(site, barcode)
    with site.catalog.write() as connection:
        found = _given_up(connection, wanted, lock=True)
        how: dict[str, Any] = {"actor": actor, "reason": reason, "at": visit.now}
        _bring_home(connection, found, how)
        _doubt(connection, found, (Health.LOST, Health.DISABLED, Health.OK), how)
        for flag in _ABSENT:
            volumes.clear_flag(connection, found, flag, **how)
        _record(connection, "volumes.found", found, how)
    return found


def enable(site: Site, barcodes: Iterable[str], actor: str, reason: str) -> list[str]:
    """Make those of these volumes that are disabled suspect, so that they are mounted again.

    Returns them. Barcodes that the catalog does not know are passed over.
    """
    visit = Visit.begin(site, actor)
    with site.catalog.write() as connection:
        disabled = volumes.volumes(connection, barcodes, health=[Health.DISABLED])
        names = [volume.barcode for volume in disabled]
        how: dict[str, Any] = {"actor": actor, "reason": reason, "at": visit.now}
        _doubt(connection, names, (Health.DISABLED,), how)
        _record(connection, "volumes.enable", names, how)
    return names


def _given_up(connection: Connection, barcodes: Iterable[str], *, lock: bool = False) -> list[str]:
    """Return those of these volumes that were given up; Refused when one is to go to a vault."""
    known = volumes.known(connection, barcodes, lock=lock)
    found = [volume.barcode for volume in known if _is_given_up(volume)]
    for line in shipments.open_lines(connection, found, Direction.OUT):
        if line.state is not LineState.OMITTED:
            raise Refused(
                f"Volume {line.barcode} is on its way to a vault, by shipment {line.shipment_id}.",
                remedy=f"leave it to that shipment; `tapeflow vault show {line.shipment_id}` "
                f"shows how far it is",
            )
    return found


def _is_given_up(volume: Volume) -> bool:
    gone = volume.health in _GIVEN_UP or Flag.MISSING in volume.flags
    return gone and volume.health is not Health.DESTROYED


def _take_in(site: Site, barcode: str) -> None:
    try:
        site.library.admit(barcode)
    except VolumeAbsent as error:
        raise VolumeAbsent(
            f"The volume {barcode} is neither in the library nor on its dock.",
            remedy="put it there first; one that is in a vault comes by `tapeflow vault recall`",
            volume=barcode,
        ) from error


def _bring_home(connection: Connection, barcodes: list[str], how: dict[str, Any]) -> None:
    """Enter volumes as mountable, by the way that the rules allow from wherever they were."""
    steps = [*pairwise(_WAY_HOME), *((near, Custody.MOUNTABLE) for near in _NEARLY_HERE)]
    for before, after in steps:
        there = [v.barcode for v in volumes.volumes(connection, barcodes, custody=[before])]
        volumes.change(connection, there, "custody", before, after, place=LIBRARY, **how)


def _doubt(
    connection: Connection, barcodes: list[str], healths: Iterable[Health], how: dict[str, Any]
) -> None:
    for health in healths:
        there = [v.barcode for v in volumes.volumes(connection, barcodes, health=[health])]
        volumes.change(connection, there, "health", health, Health.SUSPECT, **how)


def _record(connection: Connection, action: str, barcodes: list[str], how: dict[str, Any]) -> None:
    if barcodes:
        detail = {"volumes": barcodes, "reason": how["reason"]}
        audit.record(connection, how["at"], how["actor"], action, "volumes", detail)
