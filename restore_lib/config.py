"""tapeflow.toml and the environment, parsed once, strict: a bad key stops at load.

The file is named by ``TAPEFLOW_CONFIG``, else ``./tapeflow.toml``. Relative paths in it begin at
the file's folder. Any value can be set from the environment as ``TAPEFLOW__SECTION__KEY``; it
overrides the file. Credentials are in neither: AWS and SSH keep theirs.
"""

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self, get_args

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from restore_lib.config_errors import explained
from restore_lib.config_tables import (
    CatalogConfig,
    ClusterConfig,
    CourierConfig,
    DrillConfig,
    KeysConfig,
    LibraryConfig,
    Name,
    PolicyConfig,
    PolicyName,
    ReclaimConfig,
    RestoreConfig,
    Section,
    StagingConfig,
    StoreConfig,
    VaultConfig,
)
from restore_lib.errors import ConfigError

CONFIG_VARIABLE = "TAPEFLOW_CONFIG"


class Config(BaseSettings):
    """The whole of tapeflow.toml."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        env_prefix="TAPEFLOW__",
        env_nested_delimiter="__",
    )

    cluster: ClusterConfig
    catalog: CatalogConfig
    staging: StagingConfig
    keys: KeysConfig
    stores: dict[Name, StoreConfig] = Field(min_length=1)
    policies: dict[PolicyName, PolicyConfig] = {}
    library: LibraryConfig
    couriers: dict[Name, CourierConfig] = {}
    vaults: dict[Name, VaultConfig] = {}
    restore: RestoreConfig
    reclaim: ReclaimConfig = ReclaimConfig()
    drills: dict[Name, DrillConfig] = {}

    @model_validator(mode="after")
    def _names_resolve(self) -> Self:
        for what, name, known in self._references():
            if name not in known:
                msg = f"{what} names {name!r}, which is not defined; known: {', '.join(known)}"
                raise ValueError(msg)
        protected = [policy.store for policy in self.policies.values()]
        if len(set(protected)) != len(protected):
            msg = "policies: a store is protected by one policy only"
            raise ValueError(msg)
        for name, drill in self.drills.items():
            self._check_scratch(name, drill.scratch)
        return self

    def _check_scratch(self, drill: str, scratch: str) -> None:
        """Refuse a scratch store that anyone else uses: a drill empties it."""
        used = {policy.store for policy in self.policies.values()}
        used |= {name for policy in self.policies.values() for name in policy.alternates}
        for name in sorted(used):
            if name == scratch or overlap(self.stores[name], self.stores[scratch]):
                msg = f"drills.{drill}.scratch: it would empty {name!r}, which a policy uses"
                raise ValueError(msg)

    def _references(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        for name, policy in self.policies.items():
            yield f"policies.{name}.store", policy.store, self.stores
            for alternate in policy.alternates:
                yield f"policies.{name}.alternates", alternate, self.stores
        for name, vault in self.vaults.items():
            yield f"vaults.{name}.courier", vault.courier, self.couriers
        for name, drill in self.drills.items():
            yield f"drills.{name}.policy", drill.policy, self.policies
            yield f"drills.{name}.scratch", drill.scratch, self.stores


def overlap(one: StoreConfig, other: StoreConfig) -> bool:
    """Whether two stores are at the same place, or one is inside of the other."""
    (service, path), (other_service, other_path) = one.place, other.place
    shorter = min(len(path), len(other_path))
    return service == other_service and path[:shorter] == other_path[:shorter]


def config_path() -> Path:
    """Return the path of the config file: ``$TAPEFLOW_CONFIG``, else ./tapeflow.toml."""
    return Path(os.environ.get(CONFIG_VARIABLE) or "tapeflow.toml")


def load_config(path: Path | None = None) -> Config:
    """Read and check the config; ConfigError names file, key, value and remedy."""
    path = (path or config_path()).absolute()
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"There is no config file {path}.",
            remedy=f"write one (see docs/configuration.md), or name it in {CONFIG_VARIABLE}",
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} can't be read: {error}.", remedy="correct the file") from error
    _check_environment(path)
    try:
        return _validate(raw, path.parent)
    except SettingsError as error:
        raise ConfigError(
            f"A TAPEFLOW__ variable of the environment can't be parsed: {error}.",
            remedy="write lists and tables in it as JSON",
        ) from None
    except ValidationError as error:
        raise explained(path, error, _known_keys()) from None


def _validate(raw: dict[str, Any], base: Path) -> Config:
    """Validate with the folder of the file as the base of relative paths."""
    defaults: dict[str, Any] = {name: {} for name in ("catalog", "staging", "library", "restore")}
    config: Config = Config.__pydantic_validator__.validate_python(
        _merge(_merge(defaults, raw), dict(EnvSettingsSource(Config)())),
        self_instance=Config.__new__(Config),
        context={"base": base},
    )
    return _absolute_catalog(config, base)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = _merge(old, value)
        else:
            merged[key] = value
    return merged


def _check_environment(path: Path) -> None:
    for variable in os.environ:
        section = variable.removeprefix("TAPEFLOW__").split("__")[0].lower()
        if variable.startswith("TAPEFLOW__") and section not in Config.model_fields:
            raise ConfigError(
                f"The environment variable {variable} names no section of {path.name}.",
                remedy=f"the sections are {', '.join(Config.model_fields)}",
            )


def _absolute_catalog(config: Config, base: Path) -> Config:
    scheme, separator, file = config.catalog.url.partition(":///")
    if scheme not in {"sqlite", "sqlite+pysqlite"} or not separator or file.startswith("/"):
        return config
    absolute = f"{scheme}{separator}{base / file}"
    return config.model_copy(update={"catalog": CatalogConfig(url=absolute)})


def _known_keys() -> set[str]:
    keys: set[str] = set(Config.model_fields)
    queue: list[Any] = [field.annotation for field in Config.model_fields.values()]
    while queue:
        kind = queue.pop()
        if isinstance(kind, type) and issubclass(kind, Section):
            keys |= set(kind.model_fields)
        queue.extend(get_args(kind))
    return keys
