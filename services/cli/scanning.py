"""`roadstead advisories`, `roadstead gate` and `roadstead sbom`: asked of the scanner, with the key of its door."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from services.cli.ask import ASK_S, Command, ask_door
from services.cli.layout import Layout

IMPORT_S = 3600.0


def _ask(layout: Layout, method: str, path: str, body: Any = None, timeout: float = ASK_S) -> tuple[int, Any]:
    return ask_door(layout, "scanner", method, path, body, timeout)


def _refused(answer: Any) -> int:
    print(answer.get("error", answer), file=sys.stderr)
    return 1


def advisories(layout: Layout, arguments: argparse.Namespace) -> int:
    """Import advisories, or tell what is imported. Exit code 1 when there is nothing."""
    if arguments.action == "import":
        path = str(Path(arguments.path).resolve())
        status, answer = _ask(layout, "POST", "/advisories", {"path": path}, IMPORT_S)
        if status != 200:
            return _refused(answer)
        for problem in answer["problems"]:
            print(f"skipped: {problem}", file=sys.stderr)
        if answer["skipped"] > len(answer["problems"]):
            print(f"skipped: {answer['skipped'] - len(answer['problems'])} more", file=sys.stderr)
    else:
        status, answer = _ask(layout, "GET", "/advisories")
    if not answer:
        print("No advisories are imported: `roadstead advisories import PATH`", file=sys.stderr)
        return 1
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(answer["imported_at"]))
    print(f"{answer['used']} advisories of {answer['path']}, imported {stamp}, the newest of {answer['newest'][:10]}")
    print(f"{answer['withdrawn']} withdrawn or about nothing, {answer['skipped']} skipped; version {answer['version']}")
    print(", ".join(f"{name} ({count} packages)" for name, count in sorted(answer["ecosystems"].items())))
    return 0


def gate(layout: Layout, arguments: argparse.Namespace) -> int:
    """Set, show or remove the gates of the default account. Exit code 1 when it can't be done."""
    if arguments.action == "show":
        return _show(_ask(layout, "GET", "/gates")[1]["gates"])
    region = arguments.region or json.loads((layout.root / "credentials.json").read_text())["region"]
    scope = f"repository/{arguments.repository}" if arguments.repository else "*"
    where = {"account": arguments.account, "region": region, "scope": scope}
    if arguments.action == "remove":
        status, answer = _ask(layout, "DELETE", "/gates", where)
    else:
        wanted = {"severity": arguments.severity, "fixable_only": arguments.fixable_only}
        status, answer = _ask(layout, "PUT", "/gates", {**where, **wanted})
    if status != 200:
        return _refused(answer)
    print(f"{'removed' if arguments.action == 'remove' else 'set'}: {_told(answer)}")
    return 0


def _show(gates: list[dict[str, Any]]) -> int:
    for each in gates:
        print(_told(each))
    if not gates:
        print("No gate is set: every image may run")
    return 0


def _told(gate: dict[str, Any]) -> str:
    of = "every repository" if gate["scope"] == "*" else gate["scope"].replace("/", " ", 1)
    what = "findings with a fix" if gate["fixable_only"] else "findings"
    where = f"account {gate['account']}, {gate['region']}"
    return f"{of} ({where}): no image runs that has {what} of severity {gate['severity']} or worse"


def sbom(layout: Layout, arguments: argparse.Namespace) -> int:
    """Print the bill of materials of an image. Exit code 1 when there is none."""
    found = _IMAGE.fullmatch(arguments.image)
    if found is None:
        print(f"{arguments.image} is no image: NAME, NAME:TAG or NAME@DIGEST, as it is pulled", file=sys.stderr)
        return 1
    told = json.loads((layout.root / "credentials.json").read_text())
    account = found["account"] or found["owner"] or arguments.account
    region = found["region"] or found["place"] or arguments.region or told["region"]
    reference = found["digest"] or found["tag"] or "latest"
    path = f"/sboms/{account}/{region}/{reference}/{found['name']}?format={arguments.format}"
    status, answer = _ask(layout, "GET", path)
    if status != 200:
        return _refused(answer)
    print(json.dumps(answer, indent=2))
    return 0


_IMAGE = re.compile(
    r"(?:(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com/|(?:localhost|[\w.-]*[.:][\w.:-]*)/)?"
    r"(?:(?P<owner>\d{12})\.(?P<place>[a-z0-9-]+)/)?"
    r"(?P<name>[a-z0-9][a-z0-9._/-]*)(?::(?P<tag>\w[\w.-]*))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
"""A reference to an image of this registry, in any of its forms."""

COMMANDS: dict[str, Command] = {"advisories": advisories, "gate": gate, "sbom": sbom}
