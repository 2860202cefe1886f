"""Writes contracts/schemas (JSON Schema, AsyncAPI), contracts/samples (a filled record) for every kind and command,
contracts/schemas/openapi for each service's own HTTP, and docs/contracts/index.html to read them all.

They are golden: the contract suite compares. A changed sample asks whether the change is one that old readers and
old messages bear (a new field with a default), or a new version. `--check` says what is stale and exits 1.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from contracts.records import KINDS
from contracts.rpc import discovery, identity, kms, monitor, registry, scanner, scheduler
from tools.asyncapi import STREAMED, asyncapi
from tools.contract_page import page
from tools.openapi import openapi_documents

ROOT = Path(__file__).resolve().parent.parent / "contracts"
PAGE = ROOT.parent / "docs" / "contracts" / "index.html"
FOLDERS = ("samples", "schemas", "schemas/openapi")
COMMANDS = (
    *discovery.COMMANDS,
    *identity.COMMANDS,
    *kms.COMMANDS,
    *monitor.COMMANDS,
    *registry.COMMANDS,
    *scanner.COMMANDS,
    *scheduler.COMMANDS,
)


def shapes() -> dict[str, type[msgspec.Struct]]:
    """Everything that goes over NATS, by the name of its document."""
    named: dict[str, type[msgspec.Struct]] = {f"record.{k.service}.{k.name}": k.record for k in KINDS}
    for command in COMMANDS:
        named[f"{command.subject}.request"] = command.request
        named[f"{command.subject}.reply"] = command.reply
    return named | {name: shape for name, (_, shape) in STREAMED.items()}


def sample(kind: inspect.Type, name: str = "value") -> Any:
    """A value of this type with every field filled, always the same."""
    match kind:
        case inspect.StructType(fields=fields, cls=cls):
            return cls(**{field.name: sample(field.type, field.name) for field in fields})
        case inspect.UnionType(types=types):
            return sample(next(t for t in types if not isinstance(t, inspect.NoneType)), name)
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
            return [sample(item, name)]
        case inspect.DictType(value_type=value):
            return {"key": sample(value, name)}
        case inspect.BoolType():
            return True
        case inspect.IntType():
            return 7
        case inspect.FloatType():
            return 1700000000.25
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.BytesType():
            return b"bytes"
        case inspect.StrType() | inspect.AnyType():
            return f"a {name}"
    raise TypeError(f"no sample for {kind}")


def documents() -> dict[Path, str]:
    """Path -> content of every document."""
    written: dict[Path, str] = {}
    for name, shape in shapes().items():
        value = msgspec.to_builtins(sample(inspect.type_info(shape)))
        schema = msgspec.json.schema(shape)
        written[ROOT / "samples" / f"{name}.json"] = _text(value)
        written[ROOT / "schemas" / f"{name}.json"] = _text(schema)
    channels, routes = asyncapi(COMMANDS), openapi_documents()
    written[ROOT / "schemas" / "asyncapi.json"] = _text(channels)
    for service, document in routes.items():
        written[ROOT / "schemas" / "openapi" / f"{service}.json"] = _text(document)
    schemas = {name: msgspec.json.schema(shape) for name, shape in shapes().items()}
    written[PAGE] = page(channels, schemas, routes)
    return written


def _there() -> set[Path]:
    """The documents that are there, made of something that still is or not."""
    return {path for folder in FOLDERS for path in (ROOT / folder).glob("*.json")}


def _text(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def stale() -> list[str]:
    """The documents that are missing, differ, or belong to nothing any more."""
    wanted = documents()
    differ = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    return sorted(str(path.relative_to(ROOT.parent)) for path in {*differ, *(_there() - set(wanted))})


def main() -> int:
    """Write, or with --check compare."""
    if "--check" in sys.argv:
        names = stale()
        if names:
            print("Stale: " + ", ".join(names) + ". If old readers bear the change, `make contracts` writes them anew.")
        return 1 if names else 0
    for path in _there():
        path.unlink()
    for path, text in documents().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT.parent))
    sys.exit(main())
