"""The shipping desk: which courier serves which vault, and what happened at one visit to it."""

from dataclasses import dataclass, fields
from datetime import datetime

from restore_lib.config_tables import VaultConfig
from restore_lib.errors import Refused
from restore_lib.site import Site
from restore_lib.vault.courier import Courier, open_courier


@dataclass(frozen=True, slots=True)
class Rejection:
    """A document that was set aside, by the name of its file, and why."""

    document: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReceiveResult:
    """What became of everything that waited: ids of shipments, barcodes, documents set aside.

    ``strangers`` lie on the dock, or are named by a document, though the catalog has no such volume
    or has it elsewhere: they stay where they are, for a person to look at.
    """

    advanced: tuple[int, ...] = ()
    closed: tuple[int, ...] = ()
    recalled: tuple[int, ...] = ()
    received: tuple[str, ...] = ()
    vaulted: tuple[str, ...] = ()
    omitted: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    overdue: tuple[str, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    strangers: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything is different from before."""
        return any(getattr(self, f.name) for f in fields(self) if f.name != "strangers")

    def __add__(self, other: "ReceiveResult") -> "ReceiveResult":
        together = {
            f.name: tuple(dict.fromkeys((*getattr(self, f.name), *getattr(other, f.name))))
            for f in fields(self)
        }
        return ReceiveResult(**together)


@dataclass(frozen=True, slots=True)
class Visit:
    """Who visits the desk, and when."""

    site: Site
    actor: str
    now: datetime

    @classmethod
    def begin(cls, site: Site, actor: str) -> "Visit":
        """Begin a visit at the time of the site's clock."""
        return cls(site, actor, site.clock.now())


def vault_config(site: Site, vault: str) -> VaultConfig:
    """Return what the config says of ``vault``; Refused when it does not know it."""
    try:
        return site.config.vaults[vault]
    except KeyError:
        known = ", ".join(site.config.vaults) or "none is defined"
        raise Refused(
            f"The config has no vault {vault!r}, but volumes are there or on their way.",
            remedy=f"define [vaults.{vault}] again; known: {known}",
        ) from None


def courier_of(site: Site, vault: str) -> Courier:
    """Return the courier that serves ``vault``; Refused when the config does not know it."""
    name = vault_config(site, vault).courier
    return open_courier(name, site.config.couriers[name])


def due(visit: Visit, vault: str, round_: int = 0) -> datetime:
    """Return when a shipment asked for now, for the ``round_``-th time again, should be through.

    The first time that is twice the transit time after the next truck leaves, and each further
    time twice the transit time more: the first reminder comes soon, and a vault that is closed over
    a long weekend has given nothing up.
    """
    config = vault_config(visit.site, vault)
    return config.leaves(visit.now) + 2 * config.transit * (round_ + 1)
