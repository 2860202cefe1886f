"""A client of the OCI distribution API v1.1 (and of Docker's registry v2): manifests and blobs, verified.

Errors are CannotPullContainerError in the words ECS users know from Docker.
"""

from __future__ import annotations

import asyncio
import base64
import fnmatch
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from services.agent.ports import CannotPullContainerError, RegistryAuth, RegistryAway
from services.agent.runtimes.oci.images.reference import Reference

MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFEST_LIMIT = 4 << 20  # the distribution specification asks registries for no more
CHUNK = 256 << 10
ATTEMPTS = 4


class Registry:
    """Pulls from one repository with one login. Tokens live as long as this object. `run` runs in a thread."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        reference: Reference,
        auth: RegistryAuth | None,
        endpoints: Mapping[str, str],
        run: Callable[..., Awaitable[Any]],
    ) -> None:
        self._session = session
        self._run = run
        self._reference = reference
        self._auth = auth or RegistryAuth()
        self._base = _base(reference, self._auth, endpoints)
        self._authorization = ""
        self._login = asyncio.Lock()

    async def manifest(self, version: str) -> tuple[str, str, bytes]:
        """The manifest or index under a tag or digest: (digest, media type, its bytes)."""
        headers = {"Accept": ", ".join((*MANIFESTS, *INDEXES))}
        async with self._get(f"manifests/{version}", headers) as response:
            body = await _bounded(response, MANIFEST_LIMIT, f"the manifest of {self._reference}")
            media_type = response.content_type
        digest = "sha256:" + hashlib.sha256(body).hexdigest()
        if version.startswith("sha256:") and version != digest:
            raise CannotPullContainerError(
                f"the manifest of {self._reference} does not match its digest: the registry sent {digest}"
            )
        return digest, media_type, body

    async def small_blob(self, digest: str, limit: int = MANIFEST_LIMIT) -> bytes:
        """A blob that fits into memory (an image's config)."""
        async with self._get(f"blobs/{digest}", {}) as response:
            body = await _bounded(response, limit, f"blob {digest}")
        _verify(digest, hashlib.sha256(body).hexdigest())
        return body

    async def blob(self, digest: str, size: int, target: Path) -> None:
        """Download a blob to target, continuing what an earlier attempt left there. target is right or gone
        when this returns or raises for good; a broken connection leaves what came so far."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._download(digest, size, target)
                return
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                if attempt == ATTEMPTS:
                    raise self._unreachable(error) from error
            except OSError:
                target.unlink(missing_ok=True)  # the disk is full: what is in the way of everybody else must go
                raise

    async def _download(self, digest: str, size: int, target: Path) -> None:
        hashed = hashlib.sha256()
        have = await self._run(_hash_file, target, hashed)
        if have > size:
            target.unlink()
            return await self._download(digest, size, target)
        if have < size:
            headers = {"Range": f"bytes={have}-"} if have else {}
            async with self._get(f"blobs/{digest}", headers) as response:
                if have and response.status != 206:
                    have, hashed = 0, hashlib.sha256()
                with target.open("ab" if have else "wb") as file:
                    async for chunk in response.content.iter_chunked(CHUNK):
                        have += len(chunk)
                        if have > size:
                            break
                        await self._run(_write, file, hashed, chunk)
        if have != size or hashed.hexdigest() != digest.removeprefix("sha256:"):
            if have < size:
                raise aiohttp.ClientPayloadError(f"blob {digest} ended after {have} of {size} bytes")
            target.unlink()
            _verify(digest, hashed.hexdigest() if have == size else f"{have} bytes instead of {size}")

    @asynccontextmanager
    async def _get(self, path: str, headers: dict[str, str]):
        url = URL(f"{self._base}/v2/{self._reference.path}/{path}")
        try:
            response = await self._session.get(url, headers=headers | self._credentials())
            if response.status == 401:
                response.release()
                await self._log_in(response.headers.get("WWW-Authenticate", ""))
                response = await self._session.get(url, headers=headers | self._credentials())
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL, OSError) as error:
            raise self._unreachable(error) from error
        async with response:
            await self._check(response)
            yield response

    def _credentials(self) -> dict[str, str]:
        return {"Authorization": self._authorization} if self._authorization else {}

    async def _log_in(self, challenge: str) -> None:
        """RFC 7617 Basic, or a token (https://distribution.github.io/distribution/spec/auth/token/)."""
        used = self._authorization
        async with self._login:
            if self._authorization != used:
                return
            scheme, _, rest = challenge.partition(" ")
            login = f"{self._auth.username}:{self._auth.password}".encode()
            basic = "Basic " + base64.b64encode(login).decode() if self._auth.username else ""
            if scheme.lower() == "basic" and basic:
                self._authorization = basic
            elif scheme.lower() == "bearer":
                self._authorization = await self._token(dict(re.findall(r'(\w+)="([^"]*)"', rest)), basic)
            else:
                raise self._denied()

    async def _token(self, challenge: dict[str, str], basic: str) -> str:
        if "realm" not in challenge:
            raise self._denied()
        query = {"scope": challenge.get("scope", f"repository:{self._reference.path}:pull")}
        if "service" in challenge:
            query["service"] = challenge["service"]
        headers = {"Authorization": basic} if basic else {}
        async with self._session.get(URL(challenge["realm"]).update_query(query), headers=headers) as response:
            if response.status != 200:
                raise self._denied()
            answer = msgspec.json.decode(await _bounded(response, 1 << 20, "a registry token"))
        return f"Bearer {answer.get('token') or answer.get('access_token', '')}"

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        if response.status in (200, 206):
            return
        if response.status in (401, 403):
            raise self._denied()
        if response.status == 404:
            raise CannotPullContainerError(f"{self._reference}: not found")
        words = _first_message(await response.content.read(4096))
        if response.status == 429:
            raise CannotPullContainerError(f"{self._reference}: toomanyrequests: {words or 'slow down'}")
        raise CannotPullContainerError(f"{self._reference}: unexpected status {response.status} from registry: {words}")

    def _denied(self) -> CannotPullContainerError:
        return CannotPullContainerError(
            f"pull access denied for {self._reference.host}/{self._reference.path}, repository does not exist or "
            "may require authorization: authorization failed"
        )

    def _unreachable(self, error: BaseException) -> RegistryAway:
        return RegistryAway(
            f"failed to resolve reference {str(self._reference)!r}: registry {self._base} cannot be reached: "
            f"{error or type(error).__name__}"
        )


def choose_platform(index: dict[str, Any], architecture: str, name: Reference) -> str:
    """The digest of the manifest in an index that runs here (`amd64`, `arm64`: Go's names); else of the first that
    does not say where it runs, as an index of a single image often doesn't (`platform` is optional)."""
    found, anywhere = [], None
    for entry in index.get("manifests", []):
        platform = entry.get("platform") or {}
        found.append(f"{platform.get('os')}/{platform.get('architecture')}")
        if platform.get("os") == "linux" and platform.get("architecture") == architecture:
            return entry["digest"]
        if not platform and "artifactType" not in entry:
            anywhere = anywhere or entry["digest"]
    if anywhere:
        return anywhere
    raise CannotPullContainerError(
        f"image Manifest does not contain descriptor matching platform 'linux/{architecture}' in {name} "
        f"(it has {', '.join(found) or 'none'})"
    )


def session() -> aiohttp.ClientSession:
    """A session for registries: no limit on a whole layer, but on silence."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
    return aiohttp.ClientSession(timeout=timeout, auto_decompress=False, headers={"User-Agent": "roadstead"})


def _base(reference: Reference, auth: RegistryAuth, endpoints: Mapping[str, str]) -> str:
    for pattern, endpoint in endpoints.items():
        if fnmatch.fnmatch(reference.host, pattern):
            return endpoint.rstrip("/")
    if reference.host == "docker.io":
        return "https://registry-1.docker.io"
    return f"{'http' if auth.insecure or reference.is_local else 'https'}://{reference.host}"


async def _bounded(response: aiohttp.ClientResponse, limit: int, what: str) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(CHUNK):
        body += chunk
        if len(body) > limit:
            raise CannotPullContainerError(f"{what} is larger than {limit} bytes")
    return bytes(body)


def _verify(digest: str, found: str) -> None:
    if found != digest.removeprefix("sha256:"):
        raise CannotPullContainerError(f"digest mismatch: expected {digest}, the registry sent sha256:{found}")


def _hash_file(path: Path, hashed: Any) -> int:
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                hashed.update(chunk)
            return file.tell()
    except FileNotFoundError:
        return 0


def _write(file: Any, hashed: Any, chunk: bytes) -> None:
    file.write(chunk)
    hashed.update(chunk)


def _first_message(body: bytes) -> str:
    try:
        return msgspec.json.decode(body)["errors"][0]["message"]
    except (msgspec.DecodeError, KeyError, IndexError, TypeError):
        return body.decode(errors="replace").strip()[:200]
