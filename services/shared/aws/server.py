"""The AWS server: a request in, an operation called, a response out.

`dispatch` is free of any transport; `handle` is the same as an aiohttp handler. The order of things: which
operation is meant (routing), who asks (the authenticator), the input (protocols), may they (guards), the operation,
the output. Every exception ends in wire_errors.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import structlog
from aiohttp import web

from contracts.aws.index import INDEX
from contracts.aws.model import Api, Operation
from services.shared.aws.context import ANONYMOUS, Identity, RequestContext
from services.shared.aws.http import AwsHttpRequest, AwsHttpResponse
from services.shared.aws.ports import Authenticator, Guard, Observer, Span
from services.shared.aws.protocols import PROTOCOLS
from services.shared.aws.routing import Route, Router, guess_protocol
from services.shared.aws.service import AwsService, OperationMethod, operation_methods
from services.shared.aws.transport import inflate, read_request, to_web_response
from services.shared.aws.wire_errors import error_code, error_response
from services.shared.errors import (
    AuthenticationFailure,
    AwsError,
    InternalFailure,
    NotImplementedYet,
    ServiceUnavailable,
    UnknownOperation,
)

log = structlog.get_logger(__name__)

#: The status an observer is told of a request that was cancelled, because its client left or the server stops.
CLIENT_GONE = 499


class _RandomText:
    """Random hexadecimal digits, fetched from the system a page at a time: a call for each request would cost as much
    as checking its signature."""

    def __init__(self) -> None:
        self._digits = ""
        self._at = 0

    def take(self, length: int) -> str:
        """The next `length` digits."""
        if self._at + length > len(self._digits):
            self._digits, self._at = os.urandom(4096).hex(), 0
        self._at += length
        return self._digits[self._at - length : self._at]


_random = _RandomText()


def new_request_id() -> str:
    """A random request id in AWS' form."""
    text = _random.take(32)
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def authenticate_route(authenticator: Authenticator, request: AwsHttpRequest, route: Route | None) -> Identity:
    """Who asks, for a known route: anonymous where the operation allows it, else who signed for that very service.

    Raises AuthenticationFailure.
    """
    if route is not None and route.operation in route.api.unsigned and "Authorization" not in request.headers:
        return ANONYMOUS
    identity = authenticator.authenticate(request)
    if route is not None and identity.service != route.api.signing_name:
        raise AuthenticationFailure(
            "wrong-scope", f"Credential should be scoped to correct service: '{route.api.signing_name}'."
        )
    return identity


def not_served(route: Route) -> AwsError:
    """What an API that nobody serves here answers: 501 for its operations, and that others do not exist."""
    if not route.operation:
        return UnknownOperation(f"Could not find operation {route.asked} for version {route.api.api_version}.")
    return NotImplementedYet(route.api.service_id, route.operation, "no service serves this API here")


class AwsServer:
    """Serves the operations of AwsServices. One class may implement an API, or a part of it, or be joined by others.

    `observe` sees each operation begin and end; each of `guards` is awaited before the operation and refuses by
    raising. Two services may not implement the same operation.
    """

    def __init__(
        self,
        services: Sequence[AwsService],
        authenticate: Authenticator,
        *,
        observe: Observer | None = None,
        guards: Sequence[Guard] = (),
    ) -> None:
        self._authenticator = authenticate
        self._observe = observe
        self._guards = tuple(guards)
        self._apis: dict[str, Api] = {}
        self._methods: dict[tuple[str, str], OperationMethod] = {}
        for service in services:
            self._add(service)
        self._router = Router(INDEX[name] for name in self._apis)

    def _add(self, service: AwsService) -> None:
        api = service.api
        self._apis[api.name] = api
        for name, method in operation_methods(service).items():
            if (api.name, name) in self._methods:
                raise ValueError(f"{api.name} {name} is implemented twice")
            self._methods[api.name, name] = method

    def operations(self, api: str) -> frozenset[str]:
        """The operations of an API that are implemented."""
        return frozenset(name for owner, name in self._methods if owner == api)

    async def handle(self, request: web.Request) -> web.Response:
        """Answer an aiohttp request. The application must leave bodies as they came (auto_decompress=False)."""
        try:
            given = await read_request(request)
        except AwsError as error:
            return to_web_response(error_response(error, new_request_id(), "json"))
        return to_web_response(await self.dispatch(given))

    async def dispatch(
        self, request: AwsHttpRequest, identity: Identity | None = None, route: Route | None = None
    ) -> AwsHttpResponse:
        """Answer a request. With an `identity` it is not verified again; with a `route` not looked up again."""
        request_id = new_request_id()
        route = route or self._router.find(request)
        try:
            if identity is None:
                identity = authenticate_route(self._authenticator, request, route)
            if route is None:
                raise UnknownOperation()
            if route.api.name not in self._apis:
                raise not_served(route)
        except AwsError as error:
            return self._refuse(error, request_id, request, route)
        return await self._run(request, identity, route, request_id)

    def _refuse(
        self, error: AwsError, request_id: str, request: AwsHttpRequest, route: Route | None
    ) -> AwsHttpResponse:
        if route is None:
            return error_response(error, request_id, guess_protocol(request))
        return error_response(error, request_id, route.protocol, route.api.name, self._apis.get(route.api.name))

    async def _run(self, request: AwsHttpRequest, identity: Identity, route: Route, request_id: str) -> AwsHttpResponse:
        api = self._apis[route.api.name]
        context = _context(request, identity, route, request_id)
        span = self._observe.start(context, request.headers) if self._observe is not None else None
        try:
            response = await self._call(request, context, route, api)
        except AwsError as error:
            return self._failed(error, context, route, api, span)
        except (TimeoutError, ConnectionError) as error:
            log.warning("dependency_away", **_about(context), exc_info=error)
            return self._failed(ServiceUnavailable(), context, route, api, span)
        except Exception as error:
            log.exception("operation_failed", **_about(context))
            failure = InternalFailure(f"{type(error).__name__} in {route.asked}; request id {request_id}")
            return self._failed(failure, context, route, api, span)
        except BaseException:
            if span is not None:
                span.end(CLIENT_GONE, "Cancelled")
            raise
        if span is not None:
            span.end(response.status, "")
        return response

    async def _call(self, request: AwsHttpRequest, context: RequestContext, route: Route, api: Api) -> AwsHttpResponse:
        operation, method = self._find(route, api)
        protocol = PROTOCOLS[route.protocol]
        given = protocol.decode(inflate(request), operation, route)
        for guard in self._guards:
            await guard(context, given)
        output = await method(context, given)
        return protocol.encode(output, operation, api, context.request_id)

    def _find(self, route: Route, api: Api) -> tuple[Operation, OperationMethod]:
        if not route.operation:
            raise UnknownOperation(f"Could not find operation {route.asked} for version {api.api_version}.")
        operation = api.operations.get(route.operation)
        method = self._methods.get((api.name, route.operation))
        if operation is None:
            raise NotImplementedYet(api.service_id, route.operation)
        if operation.unsupported:
            raise NotImplementedYet(api.service_id, operation.name, f"it is an {operation.unsupported}")
        if method is None:
            raise NotImplementedYet(api.service_id, operation.name)
        return operation, method

    def _failed(
        self, error: AwsError, context: RequestContext, route: Route, api: Api, span: Span | None
    ) -> AwsHttpResponse:
        response = error_response(error, context.request_id, route.protocol, api.name, api)
        if span is not None:
            span.end(response.status, error_code(error, api.name, api, route.protocol))
        return response


def _about(context: RequestContext) -> dict[str, str]:
    """What a log line says of a request."""
    return {
        "account": context.account,
        "region": context.region,
        "request_id": context.request_id,
        "api": context.api,
        "operation": context.operation,
    }


def _context(request: AwsHttpRequest, identity: Identity, route: Route, request_id: str) -> RequestContext:
    return RequestContext(
        identity.account,
        identity.region,
        identity.principal_arn,
        identity.user_id,
        identity.access_key_id,
        identity.session,
        request_id,
        request.source_ip,
        route.api.name,
        route.operation,
        request.headers.get("User-Agent", ""),
        request.headers.get("Host", ""),
    )
