"""Which operation of which API a request means, told from its headers, path and form alone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, unquote

import msgspec

from contracts.aws.model import ApiIndex
from services.shared.aws.http import AwsHttpRequest

JSON, QUERY, REST_JSON, CBOR, EC2 = "json", "query", "rest-json", "smithy-rpc-v2-cbor", "ec2"
FORMS = (QUERY, EC2)
"""Protocols whose input is a form and whose output is XML."""
_CBOR_PATH = re.compile(r"/service/([^/]+)/operation/([^/]+)\Z")
_SCOPE = re.compile(r"Credential=[^/,]+/\d*/[^/,]*/([^/,]+)/aws4_request")


class Route(msgspec.Struct, frozen=True):
    """Where a request goes. `operation` is empty if the API has none such; `asked` is what was asked for.

    `params` are what routing had to read anyway: a form's fields (query, ec2) or the path's labels (rest-json).
    """

    api: ApiIndex
    operation: str
    asked: str
    protocol: str
    params: dict[str, str] = {}


def signing_name(request: AwsHttpRequest) -> str:
    """The service in the request's credential scope, or an empty string; nothing is verified."""
    header = request.headers.get("Authorization")
    if header is not None:
        found = _SCOPE.search(header)
        return found[1] if found else ""
    if "X-Amz-Credential=" in request.query:
        parts = dict(parse_qsl(request.query)).get("X-Amz-Credential", "").split("/")
        return parts[3] if len(parts) == 5 else ""
    return ""


def guess_protocol(request: AwsHttpRequest) -> str:
    """The protocol to answer in when nothing more is known of a request."""
    if request.headers.get("smithy-protocol") == "rpc-v2-cbor":
        return CBOR
    form = request.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded")
    if form or "Action=" in request.query:
        return QUERY
    return JSON


class Router:
    """Finds the route of a request among the APIs it was made with."""

    def __init__(self, apis: Iterable[ApiIndex]) -> None:
        apis = list(apis)
        self._by_prefix = {api.target_prefix: api for api in apis if api.target_prefix}
        self._query: dict[str, list[ApiIndex]] = {}
        self._rest: dict[str, tuple[ApiIndex, RestRoutes]] = {}
        self._unsigned = {name: api.signing_name for api in apis for name in api.unsigned}
        for api in apis:
            if any(form in api.protocols for form in FORMS):
                self._query.setdefault(api.signing_name, []).append(api)
            if api.routes:
                self._rest[api.signing_name] = (api, RestRoutes(api.routes))

    def find(self, request: AwsHttpRequest) -> Route | None:
        """The route, or None if the request is for none of these APIs."""
        target = request.headers.get("X-Amz-Target")
        if target is not None:
            prefix, _, name = target.rpartition(".")
            return self._rpc(prefix, name, JSON)
        if request.headers.get("smithy-protocol") == "rpc-v2-cbor":
            found = _CBOR_PATH.search(request.path)
            return self._rpc(found[1], found[2], CBOR) if found else None
        scope = signing_name(request)
        if scope in self._rest:
            api, routes = self._rest[scope]
            name, labels = routes.match(request.method, request.path)
            return Route(api, name, f"{request.method} {request.path}", REST_JSON, labels)
        return self._form(request, scope)

    def _rpc(self, prefix: str, name: str, protocol: str) -> Route | None:
        api = self._by_prefix.get(prefix)
        if api is None:
            return None
        return Route(api, name if name in api.operations else "", name, protocol)

    def _form(self, request: AwsHttpRequest, scope: str) -> Route | None:
        fields = dict(parse_qsl(request.query, keep_blank_values=True)) if request.query else {}
        if request.method == "POST":
            fields.update(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True))
        action = fields.get("Action", "")
        scope = scope or self._unsigned.get(action, "")
        version = fields.get("Version", "")
        for api in self._query.get(scope, ()):
            if version in ("", api.api_version):
                protocol = EC2 if EC2 in api.protocols else QUERY
                return Route(api, action if action in api.operations else "", action, protocol, fields)
        return None


class RestRoutes:
    """An API's REST routes; among several that match, the one with the most literal segments wins."""

    def __init__(self, routes: Iterable[tuple[str, str, str]]) -> None:
        self._routes: dict[tuple[str, int], list[tuple[tuple[str, ...], str]]] = {}
        for method, uri, name in routes:
            segments = tuple(uri.strip("/").split("/"))
            self._routes.setdefault((method, len(segments)), []).append((segments, name))
        for candidates in self._routes.values():
            candidates.sort(key=lambda item: sum(segment.startswith("{") for segment in item[0]))

    def match(self, method: str, path: str) -> tuple[str, dict[str, str]]:
        """The operation's name (empty if there is none) and the labels, decoded."""
        given = path.strip("/").split("/")
        for segments, name in self._routes.get((method, len(given)), ()):
            labels = {}
            for segment, value in zip(segments, given, strict=True):
                if segment.startswith("{"):
                    labels[segment.strip("{+}")] = unquote(value)
                elif segment != value:
                    break
            else:
                return name, labels
        return "", {}
