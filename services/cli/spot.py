"""`roadstead spot`: take spot capacity back, as AWS does when it needs it, and give it again."""

from __future__ import annotations

import argparse
import sys

from services.cli.ask import Command, ask_door
from services.cli.layout import Layout


def spot(layout: Layout, arguments: argparse.Namespace) -> int:
    """Interrupt a task or all of a node, or release a node. Exit code 1 when it can't be done."""
    if arguments.action == "release":
        status, answer = ask_door(layout, "scheduler", "DELETE", "/spot/interruptions", {"node": arguments.node})
    else:
        wanted = {"task": arguments.task, "node": arguments.node, "notice_s": arguments.notice}
        status, answer = ask_door(layout, "scheduler", "POST", "/spot/interruptions", wanted)
    if status != 200:
        print(answer.get("message", answer), file=sys.stderr)
        return 1
    if arguments.action == "release":
        print(f"{arguments.node} has spot capacity again")
        return 0
    for task in answer["tasks"]:
        print(f"{task} is interrupted; what still runs in {arguments.notice:g} s is killed")
    if arguments.node:
        print(f"{arguments.node} gets no FARGATE_SPOT tasks until `roadstead spot release --node {arguments.node}`")
    return 0


COMMANDS: dict[str, Command] = {"spot": spot}
