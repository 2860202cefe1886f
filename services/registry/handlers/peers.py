"""Other installations: those that images are sent to, and those that may come here."""

from __future__ import annotations

import base64
import hmac
import secrets
import ssl
from typing import TypeVar

import msgspec

from contracts.kinds import Kind
from contracts.records.registry import PEER, PEER_GRANT, Peer, PeerGrant
from services.registry.decisions.peers import (
    BadPeer,
    NewGrant,
    NewPeer,
    check_accounts,
    check_name,
    check_peer,
    key_digest,
    peer_at,
    sealed_about,
)
from services.shared.clock import Clock
from services.shared.sealing import Vault
from services.shared.state import Store

R = TypeVar("R", bound=msgspec.Struct)
KEY_BYTES = 24


class Peers:
    """The installations that images are sent to, and the keys that they gave out."""

    def __init__(self, store: Store, vault: Vault, clock: Clock) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._table = store.table(PEER)

    def all(self) -> list[Peer]:
        """All of them, in no order."""
        return self._table.records()

    def at(self, account: str, region: str) -> Peer | None:
        """The installation where this registry is; None: here."""
        return peer_at(self._table.records(), account, region) if len(self._table) else None

    async def put(self, name: str, wanted: NewPeer) -> Peer:
        """Know one from now on, or know it anew. Raises BadPeer."""
        places = check_peer(name, wanted, self.all())
        try:
            ssl.create_default_context(cadata=wanted.ca or None)
        except (ssl.SSLError, ValueError) as error:
            raise BadPeer(f"the CA file is no certificate in PEM: {error}") from None
        peer = Peer(
            name=name,
            url=wanted.url.rstrip("/"),
            destinations=places,
            sealed_key=base64.b64encode(self._vault.seal(wanted.key.encode(), sealed_about(name))).decode(),
            added_at=self._clock(),
            ca=wanted.ca,
        )
        await self._store.update(PEER, (name,), lambda _: peer, "peer.added.v1")
        return peer

    async def remove(self, name: str) -> Peer | None:
        """Forget one: what it was, None when there is none."""
        return await _removed(self._store, PEER, name, "peer.removed.v1")


class Grants:
    """The installations that may come here."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._table = store.table(PEER_GRANT)

    def all(self) -> list[PeerGrant]:
        """All of them, in no order."""
        return self._table.records()

    async def make(self, name: str, wanted: NewGrant) -> tuple[PeerGrant, str]:
        """Let one come, with a key that is told once; the key that it had is none any more. Raises BadPeer."""
        key = f"{check_name(name)}:{secrets.token_hex(KEY_BYTES)}"
        accounts = check_accounts(wanted.accounts)
        grant = PeerGrant(name=name, accounts=accounts, key_digest=key_digest(key), granted_at=self._clock())
        await self._store.update(PEER_GRANT, (name,), lambda _: grant, "peer_grant.made.v1")
        return grant, key

    async def remove(self, name: str) -> PeerGrant | None:
        """Let one come no more, from now on: what it was, None when there is none."""
        return await _removed(self._store, PEER_GRANT, name, "peer_grant.removed.v1")

    def shown(self, key: str) -> PeerGrant | None:
        """Whose key this is; None for nobody's."""
        grant = self._table.record(key.partition(":")[0])
        return grant if grant is not None and hmac.compare_digest(grant.key_digest, key_digest(key)) else None

    def holds(self, peer: str, account: str) -> bool:
        """Whether a token that was given to `peer` (`mark`) for this account still stands."""
        grant = self._table.record(peer.partition(":")[0])
        return grant is not None and mark(grant) == peer and account in grant.accounts


def mark(grant: PeerGrant) -> str:
    """What a token says of whom it was given to: another key is another mark."""
    return f"{grant.name}:{grant.key_digest}"


async def _removed(store: Store, kind: Kind[R], name: str, event: str) -> R | None:
    known = store.table(kind).record(name)
    if known is not None:
        await store.delete(kind, (name,), event)
    return known
