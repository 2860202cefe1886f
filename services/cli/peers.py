"""`roadstead peers`: other installations, asked of the registry with the key of its door."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from services.cli.ask import Command, ask_door
from services.cli.layout import Layout

DEFAULT_ACCOUNT = "000000000000"
CHECK_S = 90.0


def _refused(answer: Any) -> int:
    print(answer.get("message", answer), file=sys.stderr)
    return 1


def peers(layout: Layout, arguments: argparse.Namespace) -> int:
    """Make, list, check or remove other installations. Exit code 1 when it can't be done, 2 for a missing name."""
    if arguments.action == "list":
        return _list(layout)
    if not arguments.name or (arguments.action == "add" and not arguments.url):
        print(f"roadstead peers {arguments.action} NAME{' URL' * (arguments.action == 'add')}", file=sys.stderr)
        return 2
    return _ACTIONS[arguments.action](layout, arguments, quote(arguments.name, safe=""))


def _accept(layout: Layout, arguments: argparse.Namespace, name: str) -> int:
    wanted = {"accounts": arguments.account or [DEFAULT_ACCOUNT]}
    status, answer = ask_door(layout, "registry", "PUT", f"/peer-grants/{name}", wanted)
    if status != 200:
        return _refused(answer)
    print(f"{answer['name']} may replicate to here in the name of {', '.join(answer['accounts'])}. There:")
    print(
        f"  roadstead peers add NAME https://THIS-HOST:PORT --key {answer['key']} "
        "--ca FILE --destination ACCOUNT/REGION"
    )
    print("PORT is that of `up --registry-https-port`, FILE a copy of $(roadstead ca --registry)", file=sys.stderr)
    return 0


def _revoke(layout: Layout, arguments: argparse.Namespace, name: str) -> int:
    status, answer = ask_door(layout, "registry", "DELETE", f"/peer-grants/{name}", {})
    if status != 200:
        return _refused(answer)
    print(f"revoked: {answer['name']}")
    return 0


def _add(layout: Layout, arguments: argparse.Namespace, name: str) -> int:
    try:
        ca = Path(arguments.ca).read_text() if arguments.ca else ""
    except (OSError, UnicodeDecodeError) as error:
        return _refused({"message": f"--ca {arguments.ca}: {error}"})
    wanted = {"url": arguments.url, "key": arguments.key, "destinations": arguments.destination, "ca": ca}
    status, answer = ask_door(layout, "registry", "PUT", f"/peers/{name}", wanted)
    if status != 200:
        return _refused(answer)
    print(f"added: {answer['name']}, where {', '.join(answer['destinations'])} is")
    return _check(layout, arguments, name)


def _check(layout: Layout, arguments: argparse.Namespace, name: str) -> int:
    query = f"?account={quote(arguments.account[0], safe='')}" if arguments.account else ""
    status, answer = ask_door(layout, "registry", "POST", f"/peers/{name}/check{query}", {}, CHECK_S)
    if status != 200 or answer["problem"]:
        return _refused({"message": answer.get("problem") or answer["message"]})
    print("it answers, is who it says, and takes the key")
    return 0


def _remove(layout: Layout, arguments: argparse.Namespace, name: str) -> int:
    status, answer = ask_door(layout, "registry", "DELETE", f"/peers/{name}", {})
    if status != 200:
        return _refused(answer)
    print(f"removed: {answer['name']}; its destinations are registries of this installation again")
    return 0


def _list(layout: Layout) -> int:
    status, answer = ask_door(layout, "registry", "GET", "/peers", {})
    if status != 200:
        return _refused(answer)
    for peer in answer["peers"]:
        reached = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(peer["reached_at"]))
        last = f", last reached {reached}" if peer["reached_at"] else ""
        print(f"to {peer['name']}: {peer['url']}, {', '.join(peer['destinations'])}: {peer['waiting']} waiting{last}")
        if peer["last_error"]:
            print(f"  {peer['last_error']}")
    for grant in answer["grants"]:
        print(f"from {grant['name']}: in the name of {', '.join(grant['accounts'])}")
    if not answer["peers"] and not answer["grants"]:
        print("No other installation: `roadstead peers accept NAME` there, then `roadstead peers add NAME URL` here")
    return 0


_ACTIONS: dict[str, Callable[[Layout, argparse.Namespace, str], int]] = {
    "accept": _accept,
    "revoke": _revoke,
    "add": _add,
    "check": _check,
    "remove": _remove,
}
COMMANDS: dict[str, Command] = {"peers": peers}
