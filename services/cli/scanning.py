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
    """Import advisories, take in what is new in feeds, or tell what there is. Exit code 1 when there is nothing, or not
    all could be read."""
    return {"import": _import, "update": _update, "status": _status}[arguments.action](layout, arguments)


def _import(layout: Layout, arguments: argparse.Namespace) -> int:
    wanted = {"path": str(Path(arguments.path).resolve()), "replace": arguments.replace}
    status, answer = _ask(layout, "POST", "/advisories", wanted, IMPORT_S)
    if status != 200:
        return _refused(answer)
    _print_taken_in(answer)
    return 0


def _update(layout: Layout, arguments: argparse.Namespace) -> int:
    feed = arguments.path
    if feed and not feed.startswith(("http://", "https://")):
        feed = str(Path(feed).resolve())
    status, answer = _ask(layout, "POST", "/advisories/update", {"feed": feed}, IMPORT_S)
    if status != 200:
        return _refused(answer)
    for each in answer["updates"]:
        if "refused" not in each:
            _print_taken_in(each)
        if each.get("refused") or each.get("stopped"):
            print(f"{each['path']}: {each.get('refused') or each['stopped']}", file=sys.stderr)
    if not answer["updates"]:
        print("No feed is known: `roadstead advisories update URL`", file=sys.stderr)
    return int(not answer["updates"] or any(each.get("refused") or each.get("stopped") for each in answer["updates"]))


def _print_taken_in(answer: dict[str, Any]) -> None:
    for problem in answer["problems"]:
        print(f"skipped: {problem}", file=sys.stderr)
    if answer["skipped"] > len(answer["problems"]):
        print(f"skipped: {answer['skipped'] - len(answer['problems'])} more", file=sys.stderr)
    exploited = f", {answer['exploited']} known exploited" if answer["exploited"] else ""
    print(f"{answer['used']} advisories of {answer['path']}{exploited}, imported {_stamp(answer['imported_at'])}")
    print(
        f"{answer['changed']} new or changed, {answer['withdrawn']} withdrawn or about nothing,"
        f" {answer['dropped']} gone, {answer['skipped']} skipped; version {answer['version']}"
    )


def _status(layout: Layout, arguments: argparse.Namespace) -> int:
    _, answer = _ask(layout, "GET", "/advisories")
    if not answer or not answer.get("sources"):
        print("No advisories are imported: `roadstead advisories import PATH`", file=sys.stderr)
        return 1
    print(f"version {answer['version']}, the newest of {answer['newest'][:10]}, {answer['exploited']} known exploited")
    for source in answer["sources"]:
        updated = _stamp(source["updated_at"]) if source["updated_at"] else "never"
        print(
            f"{source['kind']} {source['name']}: {source['used']} entries, updated {updated},"
            f" the newest of {source['newest'][:10]}"
        )
        for problem in source["problems"]:
            print(f"  skipped: {problem}")
    print(", ".join(f"{name} ({count} packages)" for name, count in sorted(answer["ecosystems"].items())))
    return 0


def _stamp(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


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
