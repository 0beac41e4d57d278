"""The scratch store of a drill: never one that holds anything of value, and empty afterwards."""

from collections.abc import Iterable, Iterator
from contextlib import suppress

from restore_lib.config import Config, overlap
from restore_lib.errors import ObjectNameRefused, Refused
from restore_lib.site import Site


def check_scratch(site: Site, name: str) -> None:
    """Raise Refused unless store ``name`` is empty and shares no place with a store of value.

    A drill overwrites and deletes there. Of value is what a policy protects, and its alternates.
    """
    for valued in _valued(site.config):
        if overlap(site.config.stores[name], site.config.stores[valued]):
            raise Refused(
                f"The scratch store {name} is at the same place as {valued}, which a policy needs.",
                remedy="give the drill a scratch store at a place of its own",
            )
    if next(iter(site.store(name).list()), None) is not None:
        raise Refused(
            f"The scratch store {name} is not empty.",
            remedy="empty it, or finish the drill that uses it (`tapeflow drill list`)",
        )


def clean(site: Site, name: str, keys: Iterable[bytes]) -> int:
    """Delete these objects from store ``name``, there or not; return how many they are.

    A name that the store can't hold is not there.
    """
    store = site.store(name)
    count = 0
    for key in keys:
        with suppress(ObjectNameRefused):
            store.delete(key)
        count += 1
    return count


def _valued(config: Config) -> Iterator[str]:
    for policy in config.policies.values():
        yield policy.store
        yield from policy.alternates
