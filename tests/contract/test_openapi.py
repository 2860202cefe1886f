"""The OpenAPI documents, the AsyncAPI document and the page that shows them: valid, whole, and of what is served."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from contracts.records import KINDS
from services.registry.routes.distribution import HANDLERS
from services.registry.routes.table import DISTRIBUTION
from tools.contract_documents import COMMANDS, PAGE, ROOT

SERVICES = ROOT.parent / "services"
DOCUMENTS = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "schemas/openapi").glob("*.json"))}
VERBS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
PARTS = {"operationId", "summary", "parameters", "requestBody", "responses", "servers", "security"}
TYPES = {"string", "number", "integer", "boolean", "object", "array", "null"}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for verb, operation in item.items():
            yield path, verb, operation


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def resolve(document: dict[str, Any], reference: str) -> Any:
    found = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def schema_faults(schema: dict[str, Any]) -> list[str]:
    """What JSON Schema (2020-12, as OpenAPI 3.1 has it) would not take."""
    kinds = schema.get("type", [])
    faults = [f"type {kind}" for kind in ([kinds] if isinstance(kinds, str) else kinds) if kind not in TYPES]
    properties = schema.get("properties", {})
    faults += [f"required {name} is no property" for name in schema.get("required", ()) if name not in properties]
    children = [*properties.values(), *schema.get("anyOf", ()), schema.get("items"), schema.get("additionalProperties")]
    return faults + [fault for child in children if isinstance(child, dict) for fault in schema_faults(child)]


def test_every_service_has_one():
    have_http = {path.parent.name for path in SERVICES.glob("*/app.py")}
    assert set(DOCUMENTS) == have_http


@pytest.mark.parametrize("service", DOCUMENTS)
def test_it_is_a_valid_openapi_3_1_document(service):
    document = DOCUMENTS[service]
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert {"title", "version"} <= set(document["info"])
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    for reference in references(document):
        assert resolve(document, reference)
    for name, schema in document["components"]["schemas"].items():
        assert re.fullmatch(r"[a-zA-Z0-9._-]+", name)
        assert schema_faults(schema) == []
    for path, verb, operation in operations(document):
        assert path.startswith("/") and verb in VERBS and set(operation) <= PARTS
        declared = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"]
        assert sorted(declared) == sorted(re.findall(r"\{(\w+)\}", path))
        assert all(each["required"] for each in operation.get("parameters", ()) if each["in"] == "path")
        assert operation["responses"], path
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[1-5]\d\d", status) and response["description"]


def test_the_registrys_table_is_what_it_answers():
    told = {(route.method, route.handler) for route in DISTRIBUTION}
    assert told == {*HANDLERS, ("GET", "base"), ("GET", "layer"), ("GET", "certificate")}


def test_no_service_serves_what_is_in_no_table():
    """Routes are made by `services.shared.http.bind`; what is not said in a table is in no document."""
    may = {SERVICES / "registry/routes/distribution.py"}
    made = re.compile(r"\bweb\.(get|put|post|delete|head|patch|route|view)\(")
    own = [path for path in SERVICES.rglob("*.py") if path.relative_to(SERVICES).parts[0] != "shared"]
    found = {path for path in own if made.search(path.read_text())} - may
    edge = SERVICES / "edge/app.py"  # every path, for the AWS APIs
    assert found <= {edge}, "use services.shared.http.Route and bind"


def test_the_asyncapi_document_names_every_kind_and_command_and_resolves():
    document = json.loads((ROOT / "schemas/asyncapi.json").read_text())
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert {command.subject for command in COMMANDS} <= addresses
    for kind in KINDS:
        assert any(str(address).startswith(f"state.{kind.service}.{kind.name}.") for address in addresses)
        assert any(str(address).startswith(f"events.{kind.service}.{kind.name}.") for address in addresses)
    for reference in references(document):
        assert resolve(document, reference)


class Page(HTMLParser):
    """The anchors, links and tags of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given[name] or "" for name in ("href", "src") if name in given]
        if tag not in ("meta", "input", "br", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_shows_all_of_it_and_asks_nobody():
    page = Page(PAGE)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert {f"record.{kind.service}.{kind.name}" for kind in KINDS} <= set(page.ids)
    assert {command.subject for command in COMMANDS} <= set(page.ids)
    assert {f"http.{service}" for service in DOCUMENTS} <= set(page.ids)
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids, link
        else:
            assert (PAGE.parent / link).resolve().is_file(), link
    assert not re.search(r"(src|href|url\()\s*=?\s*[\"']?(https?:)?//", PAGE.read_text())
