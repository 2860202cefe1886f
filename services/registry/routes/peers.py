"""The door for other installations, and for the operator who says which there are.

An installation trades its key for tokens; all else takes the key that lies in the registry's directory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from contracts.records.registry import Peer, PeerGrant
from services.registry.decisions.names import DEFAULT_ACCOUNT, account_of, root_of
from services.registry.decisions.peers import BadPeer, NewGrant, NewPeer, PeerToken, Standing
from services.registry.decisions.tokens import basic_pair
from services.registry.handlers.access import Access
from services.registry.handlers.peers import Grants, Peers, mark
from services.registry.ports import Installations, PeerAway, PeerRefused
from services.shared.door_key import KeyedDoor
from services.shared.http import Query, Route, answer, bind, problem

T = TypeVar("T")


class PeerView(msgspec.Struct, kw_only=True, frozen=True):
    """An installation that images are sent to, and how that goes: images `waiting`, why the last try failed (empty: it
    did not), when something last went well (0: not since the registry began)."""

    name: str
    url: str
    destinations: list[str]
    added_at: float
    own_ca: bool
    waiting: int = 0
    last_error: str = ""
    reached_at: float = 0.0


class GrantView(msgspec.Struct, kw_only=True, frozen=True):
    """An installation that may come here. `key` is told once, to who lets it."""

    name: str
    accounts: list[str]
    granted_at: float
    key: str = ""


class PeerList(msgspec.Struct, frozen=True):
    """All of both."""

    peers: list[PeerView]
    grants: list[GrantView]


class Checked(msgspec.Struct, frozen=True):
    """Why an installation can't be sent to now; empty: it can."""

    problem: str


class PeerDoor(KeyedDoor):
    """The routes. `standing` tells how it goes with an installation, `poke` has what waits for it tried at once."""

    refuses = (BadPeer,)

    def __init__(
        self,
        peers: Peers,
        grants: Grants,
        access: Access,
        installations: Installations,
        key: Path,
        *,
        standing: Callable[[Peer], Standing],
        poke: Callable[[Peer], None],
    ) -> None:
        super().__init__(key)
        self._peers = peers
        self._grants = grants
        self._access = access
        self._installations = installations
        self._standing = standing
        self._poke = poke

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """All of them."""
        return bind(ROUTES, self)

    async def token(self, request: web.Request) -> web.Response:
        """A PeerToken for the key of an installation."""
        grant = self._grants.shown(basic_pair(request.headers.get("Authorization", "")) or "")
        if grant is None:
            return problem("the key is none that was given out here, or is none any more", 401)
        principal, purpose = request.query.get("principal", ""), request.query.get("purpose", "")
        account = account_of(principal)
        if account is None or purpose not in ("replicate", "pull"):
            return problem("principal is an ARN of IAM, purpose is replicate or pull", 400)
        if account not in grant.accounts:
            return problem(f"{grant.name} may not come in the name of account {account}", 403)
        replicates = purpose == "replicate"
        token, seconds = self._access.issue_to_peer(mark(grant), principal, replicates=replicates)
        return answer(PeerToken(token, seconds))

    async def list_peers(self, request: web.Request) -> web.Response:
        """A PeerList."""
        peers = sorted(self._peers.all(), key=lambda each: each.name)
        grants = sorted(self._grants.all(), key=lambda each: each.name)
        return answer(PeerList([self._peer(each) for each in peers], [_grant(each) for each in grants]))

    async def put_peer(self, request: web.Request) -> web.Response:
        """Send images to an installation from now on, or know it anew."""
        return answer(self._peer(await self._peers.put(request.match_info["name"], await _body(request, NewPeer))))

    async def remove_peer(self, request: web.Request) -> web.Response:
        """Send nothing more to an installation."""
        peer = await self._peers.remove(request.match_info["name"])
        return _unknown(request) if peer is None else answer(self._peer(peer))

    async def check_peer(self, request: web.Request) -> web.Response:
        """Ask an installation now, and try at once what waits for it."""
        found = [peer for peer in self._peers.all() if peer.name == request.match_info["name"]]
        if not found:
            return _unknown(request)
        try:
            account = request.query.get("account") or DEFAULT_ACCOUNT
            await self._installations.check(found[0], root_of(account), "replicate")
        except (PeerAway, PeerRefused) as error:
            return answer(Checked(str(error)))
        self._poke(found[0])
        return answer(Checked(""))

    async def put_grant(self, request: web.Request) -> web.Response:
        """Let an installation come here, with a new key."""
        grant, key = await self._grants.make(request.match_info["name"], await _body(request, NewGrant))
        return answer(_grant(grant, key))

    async def remove_grant(self, request: web.Request) -> web.Response:
        """Let an installation come here no more."""
        grant = await self._grants.remove(request.match_info["name"])
        return _unknown(request) if grant is None else answer(_grant(grant))

    def _peer(self, peer: Peer) -> PeerView:
        standing = self._standing(peer)
        return PeerView(
            name=peer.name,
            url=peer.url,
            destinations=[f"{each.account}/{each.region}" for each in peer.destinations],
            added_at=peer.added_at,
            own_ca=bool(peer.ca),
            waiting=standing.waiting,
            last_error=standing.error,
            reached_at=standing.reached_at,
        )


def _grant(grant: PeerGrant, key: str = "") -> GrantView:
    return GrantView(name=grant.name, accounts=grant.accounts, granted_at=grant.granted_at, key=key)


def _unknown(request: web.Request) -> web.Response:
    return problem(f"no installation {request.match_info['name']} is known", 404)


async def _body(request: web.Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except msgspec.DecodeError as error:
        raise BadPeer(str(error)) from None


_LOCK = {401: "the key is missing or wrong", 503: "NATS is away"}
_NAMED: dict[int, Any] = {404: "no such installation is known", **_LOCK}
ROUTES = (
    Route(
        "GET",
        "/peers/token",
        "token",
        PeerToken,
        "A token of this registry, for the key of another installation (Basic).",
        (
            Query("principal", "the ARN of IAM in whose name it comes"),
            Query("purpose", "`replicate` or `pull`"),
        ),
        {400: "a parameter is wrong", 401: "the key is none", 403: "it may not come in this name"},
    ),
    Route("GET", "/peers", "list_peers", PeerList, "The other installations.", errors=_LOCK, locked=True),
    Route(
        "PUT",
        "/peers/{name}",
        "put_peer",
        PeerView,
        "Send images to an installation, which has the registries that are its destinations.",
        errors={400: "a member is wrong; says which", **_LOCK},
        body=NewPeer,
        locked=True,
    ),
    Route("DELETE", "/peers/{name}", "remove_peer", PeerView, "Forget it.", errors=_NAMED, locked=True),
    Route(
        "POST",
        "/peers/{name}/check",
        "check_peer",
        Checked,
        "Ask it now; what waits for it is tried at once when it answers.",
        (Query("account", f"in whose name ({DEFAULT_ACCOUNT})"),),
        _NAMED,
        locked=True,
    ),
    Route(
        "PUT",
        "/peer-grants/{name}",
        "put_grant",
        GrantView,
        "Let an installation come here in the name of accounts; its key is told once.",
        errors={400: "a member is wrong; says which", **_LOCK},
        body=NewGrant,
        locked=True,
    ),
    Route(
        "DELETE", "/peer-grants/{name}", "remove_grant", GrantView, "Let it come no more.", errors=_NAMED, locked=True
    ),
)
