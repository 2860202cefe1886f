"""The registries of other installations, over HTTPS: OCI distribution, with a token that a peer gives for its key."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import msgspec

from contracts.records.registry import Peer
from services.registry.decisions.manifests import MAX_MANIFEST
from services.registry.decisions.names import RepositoryId
from services.registry.decisions.peers import (
    ECR_CODE,
    Destination,
    PeerToken,
    Told,
    is_lasting,
    offset_of,
    read_problem,
    sealed_about,
)
from services.registry.decisions.upstream import ACCEPT
from services.registry.ports import Outgoing, PeerAway, PeerRefused
from services.shared import telemetry
from services.shared.clock import Clock
from services.shared.sealing import CannotOpen, Vault

Moved = Callable[[], None]
"""To be called when something came or went."""

STALL_S, FINISH_S = 60.0, 600.0
"""How long a peer may take nothing, and to look through a whole upload."""
_TRIES = 3
_EARLY_S = 60.0
_MOST = 64 * 1024
_CHUNK = 256 * 1024
_LOOKED = (200, 403, 404)
"""An answer to HEAD does not say why not: who may not look is told when it begins to send."""
_TIMES = aiohttp.ClientTimeout(total=None, sock_connect=10.0)


class HttpsInstallations:
    """See ports.Installations. A connection is open while something is sent, and some seconds longer."""

    def __init__(self, vault: Vault, clock: Clock, *, stall_s: float = STALL_S) -> None:
        self._vault = vault
        self._clock = clock
        self._stall_s = stall_s
        self._sessions: dict[tuple[str, str], aiohttp.ClientSession] = {}
        self._tokens: dict[tuple[str, str, str, str], tuple[str, float]] = {}

    async def close(self) -> None:
        """Close the connections."""
        for session in self._sessions.values():
            await session.close()

    async def check(self, peer: Peer, principal: str, purpose: str) -> None:
        """See ports.Installations."""
        await self._trade(peer, principal, purpose)

    async def manifest(self, to: Destination, reference: str) -> tuple[str, bytes]:
        """See ports.Installations."""
        async with self._get(to, f"manifests/{reference}") as (response, _):
            data = await response.content.read(MAX_MANIFEST + 1)
            while len(data) <= MAX_MANIFEST and (more := await response.content.read(MAX_MANIFEST)):
                data += more
            if len(data) > MAX_MANIFEST:
                raise PeerRefused(
                    "ManifestInvalid", f"{to.peer.name} sent a manifest of more than {MAX_MANIFEST} bytes"
                )
            return response.content_type, data

    @asynccontextmanager
    async def blob(self, to: Destination, digest: str) -> AsyncIterator[tuple[int, AsyncIterable[bytes]]]:
        """See ports.Installations."""
        async with self._get(to, f"blobs/{digest}") as (response, moved):
            size = response.content_length
            yield -1 if size is None else size, _moving(response.content.iter_chunked(_CHUNK), moved)

    @asynccontextmanager
    async def _get(self, to: Destination, path: str) -> AsyncIterator[tuple[aiohttp.ClientResponse, Moved]]:
        url = f"/v2/{quote(_name(to.repository))}/{path}"
        for again in (True, False):
            headers = {"Authorization": await self._authorization(to), "Accept": ACCEPT}
            async with self._open(to.peer, "GET", url, None, headers, self._stall_s) as (response, moved):
                if response.status == 401 and again:
                    self._tokens.clear()
                    continue
                if response.status != 200:
                    raise await self._problem(to.peer, response)
                yield response, moved
                return

    async def _authorization(self, to: Destination) -> str:
        return _basic(f"AWS:{await self._token(to.peer, to.principal, to.purpose)}")

    async def has_image(self, to: Destination, digest: str) -> bool:
        """See ports.Installations."""
        return (await self._ask(to, "HEAD", f"manifests/{digest}", ok=_LOOKED)).status == 200

    async def put_manifest(self, to: Destination, reference: str, media_type: str, data: bytes) -> None:
        """See ports.Installations."""
        await self._ask(to, "PUT", f"manifests/{reference}", ok=(201,), data=data, headers={"Content-Type": media_type})

    async def remove(self, to: Destination, digest: str, tag: str = "") -> None:
        """See ports.Installations."""
        path = f"manifests/{tag}?digest={digest}" if tag else f"manifests/{digest}"
        await self._ask(to, "DELETE", path, ok=(202, 404))

    async def send_blob(self, to: Destination, blob: Outgoing, beside: str = "") -> None:
        """See ports.Installations."""
        if (await self._ask(to, "HEAD", f"blobs/{blob.digest}", ok=_LOOKED)).status == 200:
            return
        reached, spoilt = -1, False
        while True:
            began = -1
            try:
                begun = await self._begin(to, blob.digest, beside)
                if begun.status == 201:
                    return
                if not begun.location.startswith("/v2/"):  # or our key would go wherever it says
                    raise PeerRefused("ReplicationRefused", f"{to.peer.name} began an upload at {begun.location!r}")
                began = offset_of(begun.range)
                await self._send(to, blob, begun.location, began)
                await self._finish(to, blob.digest, begun.location)
                return
            except PeerRefused as refused:
                if refused.code != "DIGEST_INVALID" or spoilt:
                    raise
                spoilt = True  # what lay there of an upload before was not of this blob: it is dropped by now
            except PeerAway:
                if began <= reached:
                    raise
                reached = began

    async def _begin(self, to: Destination, digest: str, beside: str) -> Told:
        """A new upload, or the one that broke off; status 201 when the blob was taken from elsewhere."""
        query = {"resume": digest}
        if beside:
            query |= {"mount": digest, "from": _name(RepositoryId(to.repository.account, to.repository.region, beside))}
        return await self._ask(to, "POST", f"blobs/uploads/?{urlencode(query)}", ok=(201, 202))

    async def _send(self, to: Destination, blob: Outgoing, location: str, start: int) -> None:
        for _ in range(_TRIES):
            if start >= blob.size:
                return
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Range": f"{start}-{blob.size - 1}",
                "Content-Length": str(blob.size - start),
            }
            told = await self._ask(to, "PATCH", "", ok=(202, 416), url=location, data=blob.read(start), headers=headers)
            if told.status == 202:
                return
            start = offset_of(told.range)  # what was on its way before the cut was written meanwhile
        await self._ask(to, "DELETE", "", ok=(204, 404), url=location)
        raise PeerAway(f"{to.peer.name} does not know how far the upload of {blob.digest} is")

    async def _finish(self, to: Destination, digest: str, location: str) -> None:
        await self._ask(to, "PUT", "", ok=(201,), url=f"{location}?digest={digest}", patience_s=FINISH_S)

    async def _ask(
        self,
        to: Destination,
        method: str,
        path: str,
        *,
        ok: tuple[int, ...],
        url: str = "",
        data: Any = None,
        headers: dict[str, str] | None = None,
        patience_s: float = 0.0,
    ) -> Told:
        """One request; a token that is not taken is traded for once more, unless the body can't be had again."""
        url = url or f"/v2/{quote(_name(to.repository))}/{path}"
        for again in (True, False):
            sent = {"Authorization": await self._authorization(to), **(headers or {})}
            telemetry.inject(sent)
            async with self._open(to.peer, method, url, data, sent, patience_s or self._stall_s) as (response, _):
                if response.status in ok:
                    return Told(
                        response.status, response.headers.get("Location", ""), response.headers.get("Range", "")
                    )
                if response.status == 401 and again and not isinstance(data, AsyncIterator):
                    self._tokens.clear()
                    continue
                raise await self._problem(to.peer, response)
        raise AssertionError

    @asynccontextmanager
    async def _open(
        self, peer: Peer, method: str, path: str, data: Any, headers: dict[str, str], patience_s: float
    ) -> AsyncIterator[tuple[aiohttp.ClientResponse, Moved]]:
        """Raises PeerAway when the connection can't be had, breaks, or nothing moves on it for `patience_s`."""
        try:
            async with asyncio.timeout(patience_s) as limit:

                def moved() -> None:
                    limit.reschedule(asyncio.get_running_loop().time() + patience_s)

                body = _moving(data, moved) if isinstance(data, AsyncIterator) else data
                session = self._session(peer)
                async with session.request(
                    method, peer.url + path, data=body, headers=headers, allow_redirects=False
                ) as response:
                    yield response, moved
        except TimeoutError:
            raise PeerAway(f"{peer.name} ({peer.url}) did not go on for {patience_s:.0f} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise PeerAway(f"{peer.name} ({peer.url}): {error or type(error).__name__}") from error

    async def _problem(self, peer: Peer, response: aiohttp.ClientResponse) -> PeerAway | PeerRefused:
        code, message = read_problem(await response.content.read(_MOST))
        told = f"{peer.name} answered {response.status}: {message or code or 'nothing else'}"
        if response.status == 401:
            self._tokens.clear()
        code = response.headers.get(ECR_CODE) or code or "ReplicationRefused"
        return PeerRefused(code, told) if is_lasting(response.status) else PeerAway(told)

    def _session(self, peer: Peer) -> aiohttp.ClientSession:
        key = (peer.url, peer.ca)
        if key not in self._sessions:
            context = ssl.create_default_context(cadata=peer.ca or None)
            connector = aiohttp.TCPConnector(ssl=context)
            self._sessions[key] = aiohttp.ClientSession(connector=connector, timeout=_TIMES, trust_env=False)
        return self._sessions[key]

    async def _token(self, peer: Peer, principal: str, purpose: str) -> str:
        token, ends = self._tokens.get((peer.name, peer.sealed_key, principal, purpose), ("", 0.0))
        return token if self._clock() < ends else await self._trade(peer, principal, purpose)

    async def _trade(self, peer: Peer, principal: str, purpose: str) -> str:
        """A token for the peer's key. Raises PeerAway, also when the key is not taken: that is for an operator to mend,
        and then it goes on."""
        try:
            key = self._vault.unseal(base64.b64decode(peer.sealed_key), sealed_about(peer.name)).decode()
        except CannotOpen:
            raise PeerAway(f"the key of {peer.name} was sealed with another key than this registry has") from None
        path = "/peers/token?" + urlencode({"principal": principal, "purpose": purpose})
        async with self._open(peer, "GET", path, None, {"Authorization": _basic(key)}, self._stall_s) as (response, _):
            body = await response.content.read(_MOST)
            if response.status != 200:
                raise PeerAway(f"{peer.name} gives no token: it answered {response.status} {read_problem(body)[1]}")
        try:
            said = msgspec.json.decode(body, type=PeerToken)
        except msgspec.DecodeError:
            raise PeerAway(f"{peer.name} ({peer.url}) is no registry of Roadstead") from None
        ends = self._clock() + said.expires_in - _EARLY_S
        self._tokens[peer.name, peer.sealed_key, principal, purpose] = (said.token, ends)
        return said.token


def _name(repository: RepositoryId) -> str:
    return f"{repository.account}.{repository.region}/{repository.name}"


def _basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


async def _moving(chunks: AsyncIterable[bytes], moved: Moved) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        moved()
        yield chunk
