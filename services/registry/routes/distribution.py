"""OCI distribution v1.1 under /v2/: which repository, who asks, what is done, and the errors.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from urllib.parse import unquote

import structlog
from aiohttp import web

from services.registry.decisions.names import RepositoryId, Target, locate, parse_path, valid_digest, valid_repository
from services.registry.decisions.signing import Profile
from services.registry.decisions.tokens import Token
from services.registry.handlers import errors
from services.registry.handlers.access import LAYERS_PATH
from services.registry.handlers.parts import RegistryParts
from services.registry.handlers.signing import PROFILES_PATH
from services.registry.ports import ContentDamaged
from services.registry.routes import blobs, manifests, uploads
from services.registry.routes.contents import send
from services.registry.routes.errors import HEADERS, OciError, as_oci, error_response
from services.registry.routes.traces import Client, PushTraces
from services.registry.routes.visit import Visit
from services.shared import telemetry
from services.shared.authorization import door_keys
from services.shared.clock import Clock
from services.shared.errors import AwsError
from services.shared.metrics import Metrics

log = structlog.get_logger()

Handler = Callable[[Visit], Awaitable[web.StreamResponse]]


class Distribution:
    """The doors /v2/ and /layers/."""

    def __init__(self, parts: RegistryParts, metrics: Metrics, clock: Clock) -> None:
        self._parts = parts
        self._metrics = metrics
        self._traces = PushTraces(clock)

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The routes."""
        return [
            web.route("*", "/v2", self.handle),
            web.route("*", r"/v2/{path:[\s\S]*}", self.handle),
            web.get(LAYERS_PATH + "/{digest}", self.layer),
            web.get(PROFILES_PATH + "/{account}/{region}/{name}", self.certificate),
        ]

    def close(self) -> None:
        """End the pushes that go on."""
        self._traces.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        target = parse_path(unquote(request.raw_path.partition("?")[0].removeprefix("/v2").removeprefix("/")))
        operation = f"{request.method} {target.kind if target else 'base'}"
        began = time.perf_counter()
        response = await self._answered(request, target, operation)
        self._metrics.answered("oci", operation, response.status, time.perf_counter() - began)
        return response

    async def _answered(self, request: web.Request, target: Target | None, operation: str) -> web.StreamResponse:
        try:
            token = self._bearer(request)
            if target is None:
                return _base(request)
            visit = self._visit(request, target, token)
            handler = _handler(request.method, target.kind)
            await self._there(visit, handler)
            with self._traced(visit, operation):
                return await handler(visit)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            told = as_oci(error)
            if told is None:
                log.exception("registry.failed", operation=operation)
                told = OciError("UNKNOWN", "the request failed because of an internal error")
            elif told.status >= 500:
                log.warning("registry.refused", operation=operation, code=told.code, error=told.message)
            return error_response(told)

    async def _there(self, visit: Visit, handler: Handler) -> None:
        """The repository must be there, unless it comes to be by this. Raises RepositoryNotFoundException,
        AccessDenied."""
        if visit.token.replicates and handler in _MAKES:
            await self._parts.replicas.make(visit.token.account, visit.repository)
        elif handler is uploads.begin:
            await self._parts.pushes.make(visit.repository, visit.asker(), visit.keys)
        elif not (handler in _MAY_COME and self._parts.pull_through.covers(visit.repository)):
            self._parts.repositories.get(visit.repository)

    def _bearer(self, request: web.Request) -> Token:
        token = self._parts.access.bearer(request.headers.get("Authorization"))
        if token is not None and (not token.peer or self._parts.grants.holds(token.peer, token.account)):
            return token
        given = "Authorization" in request.headers
        challenge = f'Basic realm="{self._parts.access.endpoint}/",service="ecr.amazonaws.com"'
        raise OciError(
            "UNAUTHORIZED",
            "Your authorization token is not valid or has expired. Reauthenticate and try again."
            if given
            else "Authentication is required: get a token with GetAuthorizationToken",
            headers={"WWW-Authenticate": challenge},
        )

    def _visit(self, request: web.Request, target: Target, token: Token) -> Visit:
        repository = locate(request.headers.get("Host", ""), target.name)
        if not valid_repository(repository.name):
            raise OciError("NAME_INVALID", f"invalid repository name: {repository.name[:256]!r}")
        write = request.method not in ("GET", "HEAD")
        if not token.may_reach(repository, write):
            action = "ecr:PutImage" if write else "ecr:BatchGetImage"
            raise errors.other_account(token.principal, action, repository)
        if token.replicates:
            self._require_replication(request.method, target, token, repository)
        else:
            for action in actions(request.method, target.kind):
                self._parts.access.require(token, action, repository, lambda: visit_keys(request, repository))
        return Visit(request, self._parts, repository, target.name, target.reference, token)

    def _require_replication(self, method: str, target: Target, token: Token, repository: RepositoryId) -> None:
        if (method, target.kind) not in _REPLICATES:
            raise errors.other_account(token.principal, "ecr:BatchGetImage", repository)
        self._parts.replicas.require(token.account, repository)

    @contextlib.contextmanager
    def _traced(self, visit: Visit, operation: str) -> Iterator[None]:
        """A span for each change, and for reads that belong to something that is traced."""
        request = visit.request
        changes = request.method not in ("GET", "HEAD")
        headers = request.headers
        client = Client(
            visit.repository,
            headers.get("Authorization", ""),
            request.remote or "",
            headers.get("User-Agent", ""),
        )
        parent = self._traces.parent(client, headers, changes=changes)
        if parent is None:
            yield
            return
        attributes = {"repository": visit.repository.name, "reference": visit.reference}
        with telemetry.continued(operation, parent, kind="SERVER", **attributes):
            yield
        if request.method == "PUT" and operation.endswith("manifest") and ":" not in visit.reference:
            self._traces.end(client)

    async def layer(self, request: web.Request) -> web.StreamResponse:
        """A layer by the URL that GetDownloadUrlForLayer gave out."""
        digest, query = request.match_info["digest"], request.query
        repository = None
        if valid_digest(digest):
            repository = self._parts.access.layer_of(
                query.get("repository", ""), digest, query.get("expires", ""), query.get("signature", "")
            )
        if repository is None:
            return error_response(OciError("DENIED", "the URL was not given out here, or is over"))
        try:
            content = await self._parts.blobs.open(repository, digest)
            if content is not None:
                return await send(request, content, digest)
            return error_response(OciError("BLOB_UNKNOWN", f"blob unknown to registry: {digest}"))
        except (AwsError, ContentDamaged, FileNotFoundError) as error:
            return error_response(as_oci(error) or OciError("UNKNOWN", "the layer can't be read"))

    async def certificate(self, request: web.Request) -> web.StreamResponse:
        """The certificate of a signing profile, to be trusted by who verifies signatures."""
        found = self._parts.signing.certificate(Profile(**request.match_info))
        if found is None:
            return error_response(OciError("UNSUPPORTED", "there is no such signing profile", status=404))
        return web.Response(text=found, content_type="application/x-pem-file")


def _base(request: web.Request) -> web.Response:
    if request.raw_path.partition("?")[0] not in ("/v2", "/v2/"):
        return error_response(OciError("UNSUPPORTED", "the distribution API has no such path", status=404))
    if request.method not in ("GET", "HEAD"):
        return error_response(OciError("UNSUPPORTED", "this can only be read"))
    return web.Response(body=b"{}", headers={**HEADERS, "Content-Type": "application/json"})


def actions(method: str, kind: str) -> tuple[str, ...]:
    """What a session must be allowed by ECR's names to do this:
    https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html"""
    if kind in ("blob", "manifest") and method == "DELETE":
        return ("ecr:BatchDeleteImage",)
    if kind == "manifest":
        return ("ecr:PutImage",) if method == "PUT" else ("ecr:BatchGetImage",)
    if kind == "uploads":
        return ("ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload")
    if kind == "upload":
        return ("ecr:CompleteLayerUpload",) if method == "PUT" else ("ecr:UploadLayerPart",)
    if kind == "blob":
        return ("ecr:BatchCheckLayerAvailability",) if method == "HEAD" else ("ecr:GetDownloadUrlForLayer",)
    return ("ecr:ListImages",)


def visit_keys(request: web.Request, repository: RepositoryId) -> dict[str, tuple[str, ...]]:
    """The condition keys of a request."""
    return door_keys(repository.region, request.remote or "", request.headers.get("User-Agent", ""))


def _handler(method: str, kind: str) -> Handler:
    found = HANDLERS.get((method, kind))
    if found is None:
        raise OciError("UNSUPPORTED", f"{method} is not for this path")
    return found


HANDLERS: dict[tuple[str, str], Handler] = {
    ("HEAD", "blob"): blobs.head_blob,
    ("GET", "blob"): blobs.get_blob,
    ("DELETE", "blob"): blobs.delete_blob,
    ("POST", "uploads"): uploads.begin,
    ("PATCH", "upload"): uploads.patch,
    ("PUT", "upload"): uploads.put,
    ("GET", "upload"): uploads.status,
    ("DELETE", "upload"): uploads.cancel,
    ("HEAD", "manifest"): manifests.head_manifest,
    ("GET", "manifest"): manifests.get_manifest,
    ("PUT", "manifest"): manifests.put_manifest,
    ("DELETE", "manifest"): manifests.delete_manifest,
    ("GET", "tags"): manifests.list_tags,
    ("GET", "referrers"): manifests.list_referrers,
}

_REPLICATES = frozenset(
    {
        ("HEAD", "blob"),
        ("POST", "uploads"),
        ("PATCH", "upload"),
        ("PUT", "upload"),
        ("GET", "upload"),
        ("DELETE", "upload"),
        ("HEAD", "manifest"),
        ("PUT", "manifest"),
        ("DELETE", "manifest"),
    }
)
"""What another installation needs for its replication: it sends, takes back what it sent, and reads nothing."""

_MAKES = frozenset({uploads.begin, manifests.put_manifest})
"""What replication makes a repository with."""

_MAY_COME = frozenset({manifests.get_manifest, manifests.head_manifest})
"""What the repository of a pull-through cache need not be there for."""
