"""docs/contracts/index.html: the contracts, to read in a browser. One file that asks for no other. Pure."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

Schema = Mapping[str, Any]

STYLE = """
:root{--ink:#1c2733;--dim:#5c6b7a;--line:#dde3e9;--back:#fff;--soft:#f5f7f9;--blue:#0b5cad;--green:#14713d}
@media(prefers-color-scheme:dark){:root{--ink:#dfe6ec;--dim:#93a1af;--line:#2c3946;--back:#12181f;--soft:#1a232c;
--blue:#6db3f2;--green:#6fcf97}}
*{box-sizing:border-box}html{scroll-padding-top:1rem}
body{margin:0;font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back);display:grid;
grid-template-columns:17rem minmax(0,1fr)}
nav{position:sticky;top:0;height:100vh;overflow:auto;padding:1rem;background:var(--soft);
border-right:1px solid var(--line);font-size:13px}
nav input{width:100%;padding:.4rem;margin:.3rem 0 .6rem;font:inherit;color:inherit;background:var(--back);
border:1px solid var(--line);border-radius:4px}
nav h2{font-size:12px;margin:1rem 0 .2rem;color:var(--dim);text-transform:uppercase;letter-spacing:.05em}
nav a{display:block;padding:.1rem 0;overflow-wrap:anywhere}
a{color:var(--blue);text-decoration:none}a:hover{text-decoration:underline}
main{padding:1rem 2rem 6rem;max-width:70rem;min-width:0}h1{font-size:1.6rem}
main>h2{margin-top:3rem;border-bottom:2px solid var(--line);padding-bottom:.3rem}
section{border:1px solid var(--line);border-radius:6px;margin:1rem 0;padding:.2rem 1rem .8rem}
section h3{margin:.6rem 0 .2rem;font-size:1.05rem;overflow-wrap:anywhere}h4{margin:1rem 0 .2rem;font-size:.9rem}
p{margin:.3rem 0;max-width:50rem}.dim{color:var(--dim)}
code{font:13px/1.4 ui-monospace,monospace;background:var(--soft);padding:0 .25em;border-radius:3px;
overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%;margin:.4rem 0;font-size:13.5px}
th,td{text-align:left;vertical-align:top;padding:.25rem .6rem .25rem 0;border-bottom:1px solid var(--line)}
table{table-layout:fixed}
td:nth-child(1){width:30%}td:nth-child(2){width:30%}th,h4 .dim{color:var(--dim);font-weight:500}
td{overflow-wrap:anywhere}.scroll{overflow-x:auto}
.verb{display:inline-block;min-width:4.2em;font:600 12px ui-monospace,monospace;color:var(--green)}
@media(max-width:760px){body{display:block}nav{position:static;height:auto;max-height:40vh}main{padding:1rem}}
"""
SCRIPT = """
const box=document.querySelector('nav input');
box.addEventListener('input',()=>{const q=box.value.toLowerCase();
for(const a of document.querySelectorAll('nav a'))a.hidden=!a.textContent.toLowerCase().includes(q);});
"""


def page(asyncapi: Schema, schemas: Mapping[str, Schema], openapi: Mapping[str, Schema]) -> str:
    """The whole page: records and their events, commands, batches, and each service's own HTTP."""
    channels = asyncapi["channels"]
    records = {name: schema for name, schema in schemas.items() if name.startswith("record.")}
    commands = sorted({name.rpartition(".")[0] for name in schemas if name.startswith("rpc.")})
    batches = {name: schema for name, schema in schemas.items() if not name.startswith(("record.", "rpc."))}
    parts: list[tuple[str, str, list[tuple[str, str, str]]]] = [
        ("records", "Records and events", [_record(n, s, channels) for n, s in sorted(records.items())]),
        ("commands", "Commands", [_command(name, schemas) for name in commands]),
        ("batches", "What else is said", [_batch(n, s, channels) for n, s in sorted(batches.items())]),
        ("http", "HTTP of the services", [_service(name, openapi[name]) for name in sorted(openapi)]),
    ]
    menu = "".join(
        f"<h2>{title}</h2>\n" + "".join(f'<a href="#{anchor}">{escape(name)}</a>\n' for anchor, name, _ in entries)
        for _, title, entries in parts
    )
    body = "".join(
        f'<h2 id="{anchor}">{title}</h2>\n<p class="dim">{ABOUT[anchor]}</p>\n'
        + "".join(f'<section id="{key}">\n{text}</section>\n' for key, _, text in entries)
        for anchor, title, entries in parts
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Roadstead: contracts</title>\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<nav>\n<b>Roadstead: contracts</b>\n"
        f'<input type="search" placeholder="find a name" aria-label="find a name">\n{menu}</nav>\n<main>\n'
        f"<h1>What the services agree on</h1>\n<p>{INTRODUCTION}</p>\n{body}</main>\n<script>{SCRIPT}</script>\n"
        "</body>\n</html>\n"
    )


INTRODUCTION = (
    "Services meet only through these: records that one owns and others read, commands, batches in streams, and HTTP "
    "of their own. Made by <code>make contracts</code> out of <code>contracts/</code> and the services' tables; the "
    'machine-readable ones are in <code>contracts/schemas</code> (<a href="../../contracts/schemas/asyncapi.json">'
    "AsyncAPI</a>, JSON Schema, OpenAPI)."
)
ABOUT = {
    "records": "One message on one subject is an entity; each change of it carries one of its events.",
    "commands": "Request and reply.",
    "batches": "Batches that are appended to a stream and age out, and heartbeats, which nobody stores.",
    "http": "Beside AWS' APIs, which have models of their own.",
}


def _record(name: str, schema: Schema, channels: Schema) -> tuple[str, str, str]:
    _, service, kind = name.split(".", 2)
    channel = channels[f"state_{service}_{kind}"]
    events = channel["messages"]["record"]["headers"]["properties"]["Event"]["enum"]
    listed = ", ".join(f"<code>{escape(event)}</code>" for event in events)
    text = (
        f"<h3>{escape(service)}: {escape(kind)}</h3>\n<p><code>{escape(channel['address'])}</code></p>\n"
        f"<p>{listed}</p>\n{_shape(schema, name)}"
    )
    return name, f"{service}.{kind}", text


def _command(name: str, schemas: Mapping[str, Schema]) -> tuple[str, str, str]:
    request, reply = schemas[f"{name}.request"], schemas[f"{name}.reply"]
    text = (
        f"<h3><code>{escape(name)}</code></h3>\n<h4>Request</h4>\n{_shape(request, name + '.request')}"
        f"<h4>Reply</h4>\n{_shape(reply, name + '.reply')}"
    )
    return name, name.removeprefix("rpc."), text


def _batch(name: str, schema: Schema, channels: Schema) -> tuple[str, str, str]:
    address = channels[name.replace(".", "_")]["address"]
    return name, name, f"<h3>{escape(name)}</h3>\n<p><code>{escape(address)}</code></p>\n{_shape(schema, name)}"


def _service(name: str, document: Schema) -> tuple[str, str, str]:
    anchor = f"http.{name}"
    link = f"../../contracts/schemas/openapi/{name}.json"
    text = [f'<h3>{escape(name)}</h3>\n<p class="dim"><a href="{link}">OpenAPI</a></p>\n']
    for path, operations in document["paths"].items():
        for verb, operation in operations.items():
            text.append(_operation(verb, path, operation, anchor))
    schemas = document["components"]["schemas"]
    text += [_fields(each, schemas[each], anchor) for each in schemas]
    return anchor, name, "".join(text)


def _operation(verb: str, path: str, operation: Schema, anchor: str) -> str:
    rows = [
        (f"?<code>{escape(each['name'])}</code>", _type(each["schema"], anchor), _prose(each.get("description", "")))
        for each in operation.get("parameters", ())
        if each["in"] != "path"
    ]
    if "requestBody" in operation:
        (content,) = operation["requestBody"]["content"].values()
        rows.append(("body", _type(content["schema"], anchor), ""))
    for status, response in operation["responses"].items():
        media = "".join(
            _type(content["schema"], anchor) if "schema" in content else f"<code>{escape(kind)}</code>"
            for kind, content in response.get("content", {}).items()
        )
        rows.append((status, media, _prose(response["description"])))
    lock = ' <span class="dim">takes a key</span>' if "security" in operation else ""
    where = [escape(each["url"]) for each in operation.get("servers", ())]
    server = "".join(f' <span class="dim">at {url}</span>' for url in where)
    return (
        f'<h4><span class="verb">{verb.upper()}</span> <code>{escape(path)}</code>{server}{lock}</h4>\n'
        f"<p>{_prose(operation['summary'])}</p>\n" + _table((), rows)
    )


def _shape(schema: Schema, anchor: str) -> str:
    """The struct that a schema is, and below it those that it is made of."""
    parts = schema.get("$defs", {})
    root = schema.get("$ref", "").rpartition("/")[2]
    names = [root, *(name for name in parts if name != root)] if root else list(parts)
    return "".join(_fields(name, parts[name], anchor, heading=name != root) for name in names)


def _fields(name: str, schema: Schema, anchor: str, *, heading: bool = True) -> str:
    required = set(schema.get("required", ()))
    rows = [
        (
            f"<code>{escape(field)}</code>",
            _type(each, anchor),
            "required" if field in required else f"default {_default(each)}",
        )
        for field, each in schema.get("properties", {}).items()
    ]
    title = f'<h4 id="{anchor}.{name}">{escape(name)}</h4>\n' if heading else ""
    about = f"<p>{_prose(schema['description'])}</p>\n" if schema.get("description") else ""
    return title + about + _table(("field", "type", ""), rows)


def _default(schema: Schema) -> str:
    value = schema["default"]
    return "empty" if value == "" else f"<code>{escape(json.dumps(value, ensure_ascii=False))}</code>"


def _type(schema: Schema, anchor: str) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#{anchor}.{name}">{escape(name)}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(each, anchor) for each in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(each))}</code>" for each in schema["enum"])
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}), anchor)}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"map to {_type(schema['additionalProperties'], anchor)}"
    return escape(str(kind))


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    rows = list(rows)
    if not rows:
        return ""
    titles = "".join(f"<th>{each}</th>" for each in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f'<div class="scroll"><table>\n{f"<tr>{titles}</tr>" if titles else ""}{body}</table></div>\n'


def _prose(text: str) -> str:
    """A docstring: paragraphs, and what stands in backticks as code."""
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(inspect.cleandoc(text), quote=False))
    return marked.replace("\n\n", "</p>\n<p>")
