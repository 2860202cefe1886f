"""`roadstead events` and `roadstead webhooks`: asked of the events service."""

from __future__ import annotations

import argparse
import json
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from services.cli.ask import Command, _port, _running, ask_door
from services.cli.layout import Layout


def _pattern(text: str) -> str:
    """The pattern that an option names: JSON, or a file behind `@`."""
    return Path(text[1:]).read_text() if text.startswith("@") else text


def events(layout: Layout, arguments: argparse.Namespace) -> int:
    """The latest events as lines of JSON, and with --follow those that come. Exit code 1 for a bad pattern."""
    query = {"limit": arguments.lines, "pattern": _pattern(arguments.pattern)}
    if arguments.follow:
        query["follow"] = ""
    port = _port(_running(layout), "events")
    url = f"http://127.0.0.1:{port}/events?{urllib.parse.urlencode(query)}"
    try:
        with urllib.request.urlopen(url) as answer:
            for line in answer:
                sys.stdout.buffer.write(line)
                sys.stdout.flush()
    except urllib.error.HTTPError as error:
        return _refused(json.load(error))
    return 0


def webhooks(layout: Layout, arguments: argparse.Namespace) -> int:
    """Make, list or remove webhooks of the default account. Exit code 1 when it can't be done."""
    if arguments.action == "list":
        return _list(ask_door(layout, "events", "GET", "/webhooks")[1]["webhooks"])
    if not arguments.name or (arguments.action == "add" and not arguments.url):
        print(f"roadstead webhooks {arguments.action} NAME{' URL' * (arguments.action == 'add')}", file=sys.stderr)
        return 2
    account, region = arguments.account, arguments.region or _region(layout)
    if arguments.action == "remove":
        where = "/".join(urllib.parse.quote(part, safe="") for part in (account, region, arguments.name))
        status, answer = ask_door(layout, "events", "DELETE", f"/webhooks/{where}", {})
        told = f"removed: {arguments.name}"
    else:
        try:
            pattern = json.loads(_pattern(arguments.pattern) or "{}")
        except ValueError as error:
            return _refused({"message": f"pattern: {error}"})
        wanted = {"name": arguments.name, "url": arguments.url, "pattern": pattern, "secret": arguments.secret}
        status, answer = ask_door(
            layout, "events", "POST", "/webhooks", {**wanted, "account": account, "region": region}
        )
        told = f"added: {arguments.name}; what is sent is signed with {answer.get('secret')}"
    if status not in (200, 201):
        return _refused(answer)
    print(told)
    return 0


def _region(layout: Layout) -> str:
    return str(json.loads((layout.root / "credentials.json").read_text())["region"])


def _refused(answer: Any) -> int:
    print(answer.get("message", answer), file=sys.stderr)
    return 1


def _list(known: list[dict[str, Any]]) -> int:
    for webhook in known:
        counts = ", ".join(f"{webhook[name]} {name.replace('_', ' ')}" for name in ("waiting", "delivered", "failed"))
        lost = f", {webhook['given_up']} given up" if webhook["given_up"] else ""
        print(f"{webhook['name']} ({webhook['account']}, {webhook['region']}): {webhook['url']}  {counts}{lost}")
        if webhook["pattern"]:
            print(f"  {json.dumps(webhook['pattern'])}")
        if webhook["last_error"]:
            print(f"  {webhook['last_error']}")
    if not known:
        print("No webhook: `roadstead webhooks add NAME URL`")
    return 0


COMMANDS: dict[str, Command] = {"events": events, "webhooks": webhooks}
