"""One cluster as the config describes it: the catalog, the stores, the library, opened on need."""

from functools import cached_property
from pathlib import Path

from restore_lib.catalog.engine import Catalog
from restore_lib.config import Config, load_config
from restore_lib.config_tables import PolicyConfig
from restore_lib.errors import KeyUnusable, Refused
from restore_lib.library.base import Library
from restore_lib.library.virtual import VirtualLibrary
from restore_lib.model.clock import Clock, SystemClock
from restore_lib.stores.base import Store
from restore_lib.stores.open import open_store
from restore_lib.tape.age import Identity, Recipients, load_identities


class Site:
    """What every flow is handed: the opened parts of one cluster and its clock."""

    def __init__(self, config: Config, clock: Clock | None = None) -> None:
        """Open nothing yet; each part is opened when it is first used."""
        self.config = config
        self.clock = clock or SystemClock()
        self._stores: dict[str, Store] = {}

    @classmethod
    def load(cls, path: Path | None = None) -> "Site":
        """Read the config (see ``load_config``) and return its site."""
        return cls(load_config(path))

    @cached_property
    def catalog(self) -> Catalog:
        """The catalog, checked to be of this code's schema."""
        catalog = Catalog(self.config.catalog.url)
        catalog.check()
        return catalog

    @cached_property
    def library(self) -> Library:
        """The tape library."""
        return self.virtual_library()

    def virtual_library(self) -> VirtualLibrary:
        """Return the library as the virtual one it is, to be filled and emptied by hand."""
        section = self.config.library
        return VirtualLibrary(
            section.path,
            slots=section.slots,
            drives=section.drives,
            import_export=section.import_export,
            capacity_bytes=section.capacity,
        )

    @cached_property
    def recipients(self) -> Recipients:
        """Who can read what is written from now on."""
        return Recipients.parse(self.config.keys.recipients)

    @cached_property
    def identities(self) -> list[Identity]:
        """The identities that open what was written; KeyUnusable when none is configured."""
        path = self.config.keys.identity_file
        if path is None:
            raise KeyUnusable("[keys] identity_file is not set on this host.")
        return load_identities(path)

    @cached_property
    def staging(self) -> Path:
        """The staging folder."""
        self.config.staging.path.mkdir(parents=True, exist_ok=True)
        return self.config.staging.path

    def store(self, name: str) -> Store:
        """Return the store of this name; Refused when the config has none."""
        if name not in self.config.stores:
            known = ", ".join(self.config.stores)
            raise Refused(f"There is no store {name!r}.", remedy=f"use one of {known}")
        if name not in self._stores:
            self._stores[name] = open_store(name, self.config.stores[name])
        return self._stores[name]

    def policy(self, name: str) -> PolicyConfig:
        """Return the policy of this name; Refused when the config has none."""
        try:
            return self.config.policies[name]
        except KeyError:
            known = ", ".join(self.config.policies) or "none is defined"
            raise Refused(f"There is no policy {name!r}.", remedy=f"use one of {known}") from None

    def policy_of(self, store: str) -> tuple[str, PolicyConfig] | None:
        """Return the policy that protects ``store``, with its name, or None."""
        for name, policy in self.config.policies.items():
            if policy.store == store:
                return name, policy
        return None

    def close(self) -> None:
        """Release what was opened."""
        for store in self._stores.values():
            store.close()
        self._stores.clear()
        if "catalog" in self.__dict__:
            self.catalog.close()
