"""The scratch store of a drill: never one that holds anything of value, and empty afterwards."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import PurePosixPath

from restore_lib.config import Config, LocalStoreConfig, S3StoreConfig, StoreConfig
from restore_lib.errors import ObjectNameRefused, Refused
from restore_lib.site import Site

Place = tuple[str, ...]


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


def overlap(one: StoreConfig, other: StoreConfig) -> bool:
    """Whether two stores are at the same place, or one is inside of the other."""
    (service, path), (other_service, other_path) = _place(one), _place(other)
    shorter = min(len(path), len(other_path))
    return service == other_service and path[:shorter] == other_path[:shorter]


def _place(config: StoreConfig) -> tuple[Place, Place]:
    """Return the service that a store is on, and its path there."""
    if isinstance(config, LocalStoreConfig):
        return ("local",), PurePosixPath(os.path.realpath(config.path)).parts
    if isinstance(config, S3StoreConfig):
        # Prefixes need not end at a slash, so they are compared letter by letter.
        return ("s3", config.endpoint_url or "", config.bucket), tuple(config.prefix)
    path = PurePosixPath(config.path)
    return ("sftp", config.host, str(config.port)), path.parts


def _valued(config: Config) -> Iterator[str]:
    for policy in config.policies.values():
        yield policy.store
        yield from policy.alternates
