"""Each service's own HTTP routes as an OpenAPI 3.1 document, out of its table (`services.<name>.routes.ROUTES`)."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from contracts.grants import USERS
from services.shared.http import COMMON, Problem, Route

SERVICES = Path(__file__).resolve().parent.parent / "services"
VERSION = "3.1.0"
_REFERENCE = "#/components/schemas/{name}"
_REASONS = {101: "switching protocols", 200: "OK", 201: "made", 202: "taken", 204: "nothing to say"}
_TABLES = {"registry": "services.registry.routes.table"}
"""Where a service's table is, when it is not `services.<name>.routes`."""


def openapi_documents() -> dict[str, dict[str, Any]]:
    """A document for each service, by its name."""
    return {service: document(service, *tables(service)) for service in sorted(USERS) if _is_there(service)}


def _is_there(service: str) -> bool:
    return (SERVICES / service / "app.py").is_file()


def tables(service: str) -> tuple[tuple[Route, ...], tuple[Route, ...]]:
    """The service's own routes, and those of an agent's endpoint inside tasks."""
    name = _TABLES.get(service, f"services.{service}.routes")
    if importlib.util.find_spec(name) is None:
        return (), ()
    module = importlib.import_module(name)
    return module.ROUTES, getattr(module, "INSIDE_TASKS", ())


def document(service: str, routes: Iterable[Route], inside: Iterable[Route] = ()) -> dict[str, Any]:
    """The document of one service."""
    routes, inside = (*COMMON, *routes), tuple(inside)
    shapes = list(dict.fromkeys(shape for route in (*routes, *inside) for shape in _shapes(route)))
    _, schemas = msgspec.json.schema_components(shapes, ref_template=_REFERENCE)
    paths: dict[str, Any] = {}
    for route in (*routes, *inside):
        operation = _operation(service, route)
        if route in inside:
            operation["servers"] = [{"url": "http://169.254.170.2", "description": "From inside the task alone."}]
        paths.setdefault(_path(route), {})[route.method.lower()] = operation
    return {
        "openapi": VERSION,
        "info": {
            "title": f"Roadstead {service}",
            "version": "0.1.0",
            "summary": "Its own HTTP routes. AWS' APIs, which it may answer on the same port, have their own models.",
        },
        "servers": [
            {
                "url": "http://127.0.0.1:{port}",
                "description": "`roadstead services` tells the port.",
                "variables": {"port": {"default": "8080"}},
            }
        ],
        "paths": paths,
        "components": {"schemas": dict(sorted((name, _clean(schema)) for name, schema in schemas.items()))}
        | _locks(routes),
    }


def _locks(routes: Iterable[Route]) -> dict[str, Any]:
    if not any(route.locked for route in routes):
        return {}
    return {
        "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "From the service's directory."}}
    }


def _path(route: Route) -> str:
    """Without what aiohttp is told of a parameter's form."""
    return re.sub(r"\{(\w+):[^}]*\}", r"{\1}", route.path)


def _shapes(route: Route) -> list[type]:
    shapes = [shape for shape in (route.response, route.body) if shape not in (None, dict)]
    return [*shapes, route.problem or Problem] if route.errors else shapes  # type: ignore[list-item]


def _operation(service: str, route: Route) -> dict[str, Any]:
    words = re.findall(r"\w+", _path(route)) or ["root"]
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", _path(route))
    ]
    for query in route.query:
        schema = {"type": query.type} | ({} if query.default is None else {"default": query.default})
        parameters.append({"name": query.name, "in": "query", "description": query.text, "schema": schema})
    responses = {str(route.status): _response(_REASONS[route.status], route.media, route.response)}
    for status, when in sorted(route.errors.items()):
        responses[str(status)] = _response(when, "application/json", route.problem or Problem)
    operation: dict[str, Any] = {
        "operationId": "_".join((service, route.method.lower(), *words)),
        "summary": route.text,
    }
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        schema = {"$ref": _REFERENCE.format(name=route.body.__name__)}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if route.locked:
        operation["security"] = [{"key": []}]
    return operation | {"responses": responses}


def _response(description: str, media: str, shape: type | None) -> dict[str, Any]:
    response: dict[str, Any] = {"description": description}
    if media and shape is dict:
        response["content"] = {media: {"schema": {"type": "object"}}}
    elif media and shape is not None:
        response["content"] = {media: {"schema": {"$ref": _REFERENCE.format(name=shape.__name__)}}}
    elif media:
        response["content"] = {media: {}}
    return response


def _clean(schema: Any) -> Any:
    """Descriptions without the indentation of the code that they are written in."""
    if isinstance(schema, dict):
        text = schema.get("description")
        cleaned = {name: _clean(each) for name, each in schema.items()}
        return cleaned | {"description": inspect.cleandoc(text)} if isinstance(text, str) else cleaned
    return [_clean(each) for each in schema] if isinstance(schema, list) else schema
