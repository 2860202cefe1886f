"""The access keys that identity gave out, and what their bearers may do, in memory at every door."""

from __future__ import annotations

from contracts.records.identity import ACCESS_KEY, POLICY, ROLE
from services.shared.authorization import Authorization
from services.shared.aws.ports import AccessKey
from services.shared.bus import Bus
from services.shared.views import View


class KeyRing:
    """Every access key of the platform, kept up to date. A KeyLookup."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._table = view.table(ACCESS_KEY)
        self.authorization = Authorization(view)
        self._known: dict[str, tuple[int, AccessKey]] = {}

    @classmethod
    async def open(cls, bus: Bus) -> KeyRing:
        """Read all keys, roles and policies, and follow."""
        return cls(await View.open(bus, ACCESS_KEY, ROLE, POLICY))

    async def close(self) -> None:
        """Stop following."""
        await self._view.close()

    def find(self, access_key_id: str) -> AccessKey | None:
        """The key, or None if there is none."""
        entry = self._table.get(access_key_id)
        if entry is None:
            self._known.pop(access_key_id, None)
            return None
        known = self._known.get(access_key_id)
        if known is not None and known[0] == entry.sequence:
            return known[1]
        r = entry.record
        key = AccessKey(r.access_key_id, r.secret, r.account, r.principal_arn, r.user_id, r.session_token, r.expires_at)
        self._known[access_key_id] = (entry.sequence, key)
        return key
