"""Writes contracts/schemas (JSON Schema, AsyncAPI) and contracts/samples (a filled record) for every kind and command.

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
from contracts.records.logs import LogBatch
from contracts.records.metrics import MetricBatch, UsageBatch
from contracts.records.traces import SpanBatch
from contracts.rpc import discovery, identity, monitor, registry, scanner, scheduler
from tools.asyncapi import asyncapi

ROOT = Path(__file__).resolve().parent.parent / "contracts"
COMMANDS = (
    *discovery.COMMANDS,
    *identity.COMMANDS,
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
    return {
        **named,
        "logs.batch": LogBatch,
        "traces.batch": SpanBatch,
        "metrics.batch": MetricBatch,
        "metrics.usage": UsageBatch,
    }


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
    written[ROOT / "schemas" / "asyncapi.json"] = _text(asyncapi(COMMANDS))
    return written


def _text(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def stale() -> list[str]:
    """The documents that are missing, differ, or belong to nothing any more."""
    wanted = documents()
    there = {path for folder in ("samples", "schemas") for path in (ROOT / folder).glob("*.json")}
    differ = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    return sorted(str(path.relative_to(ROOT)) for path in {*differ, *(there - set(wanted))})


def main() -> int:
    """Write, or with --check compare."""
    if "--check" in sys.argv:
        names = stale()
        if names:
            print("Stale: " + ", ".join(names) + ". If old readers bear the change, `make contracts` writes them anew.")
        return 1 if names else 0
    for folder in ("samples", "schemas"):
        (ROOT / folder).mkdir(exist_ok=True)
        for path in (ROOT / folder).glob("*.json"):
            path.unlink()
    for path, text in documents().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT.parent))
    sys.exit(main())
