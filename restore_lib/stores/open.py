"""From a store's section of tapeflow.toml to the store."""

from restore_lib.config_tables import LocalStoreConfig, S3StoreConfig, StoreConfig
from restore_lib.stores.base import Store


def open_store(name: str, config: StoreConfig) -> Store:
    """Return the store ``name`` as ``config`` describes it, without a connection yet.

    The library that a kind of store needs is imported here, since it takes long.
    """
    if isinstance(config, LocalStoreConfig):
        from restore_lib.stores.local import LocalStore  # noqa: PLC0415 - see above

        return LocalStore(name, config.path)
    if isinstance(config, S3StoreConfig):
        from restore_lib.stores.s3 import S3Store  # noqa: PLC0415 - see above

        return S3Store(
            name,
            config.bucket,
            prefix=config.prefix,
            endpoint_url=config.endpoint_url,
            region=config.region,
        )
    from restore_lib.stores.sftp import SftpStore  # noqa: PLC0415 - see above

    return SftpStore(
        name,
        config.host,
        config.port,
        config.user,
        config.path,
        known_hosts=config.known_hosts,
        key_file=config.key_file,
    )
