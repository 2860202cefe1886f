"""What holds for a whole registry: read, and changed with one write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from contracts.records.registry import REGISTRY_SETTINGS, RegistrySettings
from services.registry.decisions.account_settings import MOUNTING, value_of
from services.registry.decisions.replication import held_since
from services.shared.state import Store


class Settings:
    """The settings of the registries of all accounts and regions."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._table = store.table(REGISTRY_SETTINGS)

    def get(self, account: str, region: str) -> RegistrySettings:
        """A registry's settings; as they are from the beginning when nothing was set."""
        return self._table.record(account, region) or RegistrySettings(account=account, region=region)

    async def set_policy(self, account: str, region: str, text: str) -> None:
        """Set the registry policy; with an empty text there is none."""
        await self._change(account, region, lambda old: replace(old, policy=text), "registry.policy_changed.v1")

    async def set_replication(self, account: str, region: str, rules: list[dict[str, Any]], now: float) -> None:
        """Set the replication rules, for what is pushed from `now` on; what they said before holds on."""

        def changed(old: RegistrySettings) -> RegistrySettings:
            since = held_since(rules, old.replication, old.replication_since, old.replication_at, now)
            return replace(old, replication=rules, replication_at=now, replication_since=since)

        await self._change(account, region, changed, "registry.replication_changed.v1")

    async def set_signing(self, account: str, region: str, rules: list[dict[str, Any]] | None) -> None:
        """Set the rules of signing, or with None take the configuration away."""
        await self._change(account, region, lambda old: replace(old, signing=rules), "registry.signing_changed.v1")

    async def set_account_setting(self, account: str, region: str, name: str, value: str) -> None:
        """Set one of the account's settings."""

        def changed(old: RegistrySettings) -> RegistrySettings:
            return replace(old, account_settings={**old.account_settings, name: value})

        await self._change(account, region, changed, "registry.account_setting_changed.v1")

    def mounts_blobs(self, account: str, region: str) -> bool:
        """Whether pushes to the registry may take blobs from its other repositories."""
        return value_of(self.get(account, region).account_settings, MOUNTING) == "ENABLED"

    async def change_exclusions(
        self, account: str, region: str, change: Callable[[dict[str, float]], dict[str, float]]
    ) -> None:
        """Change the principals whose pulls don't count. Raises what `change` raises."""
        await self._change(
            account,
            region,
            lambda old: replace(old, pull_exclusions=change(old.pull_exclusions)),
            "registry.pull_exclusions_changed.v1",
        )

    async def _change(
        self, account: str, region: str, change: Callable[[RegistrySettings], RegistrySettings], event: str
    ) -> None:
        def changed(old: RegistrySettings | None) -> RegistrySettings:
            return change(old or RegistrySettings(account=account, region=region))

        await self._store.update(REGISTRY_SETTINGS, (account, region), changed, event)
