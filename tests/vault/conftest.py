from tests.support.vaults import vault_world

__all__ = ["vault_world"]
