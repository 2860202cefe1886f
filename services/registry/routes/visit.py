"""A request to /v2/, once it is known who asks and for what."""

from __future__ import annotations

import msgspec
from aiohttp import web
from aiohttp.client_exceptions import ClientPayloadError

from services.registry.decisions.names import RepositoryId, valid_digest
from services.registry.decisions.tokens import Token
from services.registry.handlers.parts import RegistryParts
from services.registry.handlers.policies import Asker
from services.registry.routes.errors import HEADERS, OciError
from services.shared.authorization import door_keys


class Visit(msgspec.Struct, frozen=True):
    """`name` is the repository's name as the client wrote it; what is told to the client has it too."""

    request: web.Request
    parts: RegistryParts
    repository: RepositoryId
    name: str
    reference: str
    token: Token

    def digest(self) -> str:
        """The reference, which must be a digest."""
        return checked_digest(self.reference)

    def asker(self) -> Asker:
        """Who asks."""
        return Asker(self.token.account, self.token.principal, self.token.session)

    def keys(self) -> dict[str, tuple[str, ...]]:
        """The condition keys of the request."""
        request = self.request
        return door_keys(self.repository.region, request.remote or "", request.headers.get("User-Agent", ""))

    def answer(self, status: int, body: bytes = b"", **headers: str | None) -> web.Response:
        """A response; `content_type` and the like become `Content-Type`, what is None is left out."""
        named = {name.replace("_", "-").title(): value for name, value in headers.items() if value is not None}
        return web.Response(status=status, body=body, headers={**HEADERS, **named})


def checked_digest(text: str) -> str:
    """The text, if it is a digest that can be stored. Raises OciError DIGEST_INVALID."""
    if not valid_digest(text):
        raise OciError("DIGEST_INVALID", f"{text!r} is not a SHA-256 digest")
    return text


async def limited_body(request: web.Request, limit: int) -> bytes:
    """The body. Raises OciError (413) when it is longer than `limit` bytes, (400) when it breaks off."""
    too_long = OciError("MANIFEST_INVALID", f"the manifest has more than {limit} bytes", status=413)
    if (request.content_length or 0) > limit:
        raise too_long
    parts, size = [], 0
    try:
        async for part in request.content.iter_any():
            parts.append(part)
            size += len(part)
            if size > limit:
                raise too_long
    except (ClientPayloadError, ConnectionError) as error:
        raise OciError("SIZE_INVALID", "the body broke off") from error
    return b"".join(parts)
