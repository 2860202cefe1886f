"""`roadstead`: start the platform, ask how it is, stop it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from contracts.records.scanner import SEVERITIES
from services.cli.layout import DEFAULT_DATA, Layout
from services.cli.moments import moment


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{number} is no port: 0 to 65535")
    return number


def _severity(text: str) -> str:
    if text.upper() not in SEVERITIES:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(SEVERITIES)}")
    return text.upper()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = argparse.ArgumentParser(
        prog="roadstead", description="The AWS container services on this machine, really running containers."
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--data", metavar="DIR", help=f"where the platform lives (ROADSTEAD_DATA; {DEFAULT_DATA})")
        return sub

    up = command("up", "Start the platform: every service, an embedded NATS, an agent a zone.")
    up.add_argument("--detach", "-d", action="store_true", help="go to the background when all is up")
    up.add_argument("--zones", type=int, default=3, metavar="N", help="zones, each a node with its share (3)")
    up.add_argument("--runtime", choices=("auto", "oci", "docker"), default="auto", help="what runs containers (auto)")
    up.add_argument("--port", type=_port, default=4566, help="the port of every AWS API; 0: a free one (4566)")
    up.add_argument("--registry-port", type=_port, default=5000, help="the port images go to; 0: a free one (5000)")
    up.add_argument("--host", default="127.0.0.1", help="where the APIs and the registry listen (127.0.0.1)")
    up.add_argument("--ephemeral", action="store_true", help="its tasks end with it: throw-away set-ups")
    up.add_argument(
        "--https-port", type=_port, help="the port of App Runner's URLs; 0: a free one (8443 if it is free)"
    )
    up.add_argument(
        "--registry-https-port", type=_port, help="a port where the registry speaks HTTPS too; 0: a free one (none)"
    )
    up.add_argument("--insecure-test-keys", action="store_true", help="the keys are test/test: throw-away set-ups only")
    down = command("down", "Stop the platform. Its tasks keep running, to be adopted by the next `up`.")
    down.add_argument("--tasks", action="store_true", help="stop the tasks of this machine too")
    _add_node(command)
    command("status", "Whether it is up, and how its nodes and tasks are.")
    command("env", 'The export lines that point the AWS CLI and SDKs here: eval "$(roadstead env)".')
    top = command("top", "Clusters, services, tasks, nodes, URLs and the latest events, live. q quits.")
    top.add_argument("--once", action="store_true", help="one picture, for scripts")
    ca = command("ca", "The certificate authority of App Runner's URLs: curl --cacert $(roadstead ca) https://…")
    ca.add_argument("--registry", action="store_true", help="that of the registry's HTTPS port")
    services = command("services", "What runs, where, since when.")
    services.add_argument("--json", action="store_true", help="as JSON")
    logs = command("logs", "The log lines of a service (platform: what `up` printed).")
    logs.add_argument("service", metavar="SERVICE")
    logs.add_argument("--follow", "-f", action="store_true", help="go on as lines come")
    logs.add_argument("--lines", "-n", type=int, default=100, help="the last N lines (100)")
    logs.add_argument("--json", action="store_true", help="the lines as they are stored")
    _add_exec(command)
    _add_spot(command)
    _add_scanning(command)
    _add_events(command)
    _add_peers(command)
    trace = command("trace", "A waterfall of one trace; without an ID, the latest traces.")
    trace.add_argument("id", metavar="ID", nargs="?")
    trace.add_argument("--all", action="store_true", help="the latest with those that only asked (Describe…, List…)")
    return root


def _add_node(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    node = command("node", "One more node until Ctrl-C: of the platform that runs here, or of one elsewhere.")
    node.add_argument("--zone", default="", metavar="ZONE", help="its availability zone, say us-east-1d")
    node.add_argument("--name", default="", metavar="NAME", help="always the same for one node (node-ZONE)")
    node.add_argument("--memory", type=int, default=0, metavar="MIB", help="what tasks may reserve (a zone's share)")
    node.add_argument("--cpu", type=int, default=0, metavar="UNITS", help="what tasks may reserve, 1024 a core")
    away = node.add_argument_group("a platform elsewhere (ECS Anywhere); once joined, --data alone is enough")
    away.add_argument("--activation-id", default="", metavar="ID", help="as `aws ssm create-activation` told")
    away.add_argument("--activation-code", default="", metavar="CODE", help="as it told; it is not kept")
    away.add_argument("--endpoint", default="", metavar="URL", help="the edge of the platform: https://HOST:PORT")
    away.add_argument("--region", default="us-east-1", metavar="REGION", help="the activation's (us-east-1)")
    away.add_argument("--cluster", default="default", metavar="NAME", help="which cluster it is of (default)")
    away.add_argument("--registry", default="", metavar="HOST[:PORT]", help="where images are (the endpoint's host)")
    away.add_argument(
        "--runtime", choices=("auto", "oci", "docker"), default="auto", help="what runs containers (auto)"
    )


def _add_exec(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    execute = command("exec", "Run a command in a running task (enableExecuteCommand); its exit code is this one's.")
    execute.add_argument("--container", metavar="NAME", help="which one, where the task has several")
    execute.add_argument("--tty", "-t", action="store_true", help="with a terminal and this one's input")
    execute.add_argument("task", metavar="TASK", help="its id, the beginning of it, or its ARN")
    execute.add_argument("argv", metavar="COMMAND", nargs=argparse.REMAINDER, help="the command and its arguments")


def _add_spot(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    spot = command("spot", "Take FARGATE_SPOT capacity back, as AWS does when it needs it; give it again.")
    spot.add_argument("action", choices=("interrupt", "release"))
    spot.add_argument("task", nargs="?", default="", metavar="TASK", help="its id, the beginning of it, or its ARN")
    spot.add_argument("--node", default="", metavar="NODE", help="all of a node, until it is released")
    spot.add_argument("--notice", type=float, default=120.0, metavar="SECONDS", help="then it is killed (120)")


def _add_scanning(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """The commands of the scanner; `command` makes one."""
    osv = command("advisories", "Known vulnerabilities that images are held against, in OSV's format.")
    osv.add_argument("action", choices=("import", "update", "status"))
    osv.add_argument(
        "path",
        nargs="?",
        default="",
        metavar="PATH",
        help="a file or folder (import); a feed, a folder or URL (update)",
    )
    osv.add_argument("--replace", action="store_true", help="import: what came from elsewhere goes")
    gates = command("gate", "Keep images with bad findings from running.")
    gates.add_argument("action", choices=("set", "show", "remove", "override", "restore"))
    gates.add_argument("image", nargs="?", default="", metavar="IMAGE", help="to run all the same (override), or not")
    gates.add_argument("--severity", default="CRITICAL", metavar="SEVERITY", help="this one or worse (CRITICAL)")
    gates.add_argument("--fixable-only", action="store_true", help="only findings that a newer version would not have")
    gates.add_argument("--secrets", action="store_true", help="secrets and misconfiguration count, too")
    gates.add_argument("--repository", default="", metavar="NAME", help="of this repository; else of all")
    gates.add_argument("--cluster", default="", metavar="NAME", help="of the tasks of this cluster, besides")
    gates.add_argument("--app-runner", action="store_true", help="of App Runner's services, besides")
    gates.add_argument("--reason", default="", help="why an image is to run all the same (override)")
    gates.add_argument("--until", type=moment, default=0.0, metavar="WHEN", help="a date, or 30d, 12h (override)")
    gates.add_argument("--account", default="000000000000", help=argparse.SUPPRESS)
    gates.add_argument("--region", default="", help="the region (that of `roadstead env`)")
    known = command("findings", "Findings that are not to count, and why.")
    known.add_argument("action", choices=("suppress", "list", "unsuppress", "import"))
    known.add_argument("what", nargs="?", default="", metavar="WHAT", help="a CVE; an id of `list`; an OpenVEX file")
    known.add_argument("--reason", default="", help="why it does not count")
    known.add_argument("--until", type=moment, default=0.0, metavar="WHEN", help="a date, or 30d, 12h; else for good")
    known.add_argument("--package", default="", metavar="NAME", help="in this package only")
    known.add_argument("--repository", default="", metavar="NAME", help="in images of this repository only")
    known.add_argument("--digest", default="", metavar="DIGEST", help="in this image only")
    known.add_argument("--account", default="000000000000", help=argparse.SUPPRESS)
    known.add_argument("--region", default="", help="the region (that of `roadstead env`)")
    scan = command("scan", "What is known of a pushed image. Exit code 1: something at or over --fail-on; 2: no scan.")
    scan.add_argument("image", metavar="IMAGE", help="NAME, NAME:TAG or NAME@DIGEST; or an OCI layout, or a tar of it")
    scan.add_argument("--advisories", default="", metavar="PATH", help="OSV records, for an image in a file")
    scan.add_argument("--fail-on", default=None, metavar="SEVERITY", type=_severity, help="fail at this one or worse")
    scan.add_argument("--fixable-only", action="store_true", help="fail only for what a newer version would not have")
    scan.add_argument("--secrets", action="store_true", help="fail for secrets and misconfiguration in it, too")
    scan.add_argument("--format", choices=("table", "json", "sarif"), default="table", help="(table)")
    scan.add_argument("--wait", type=float, default=300.0, metavar="SECONDS", help="for its scan (300)")
    scan.add_argument("--account", default="000000000000", help=argparse.SUPPRESS)
    scan.add_argument("--region", default="", help="the region (that of `roadstead env`)")
    bill = command("sbom", "Print what a pushed image is made of.")
    bill.add_argument("image", metavar="IMAGE", help="NAME, NAME:TAG or NAME@DIGEST, with or without the registry")
    bill.add_argument("--format", choices=("cyclonedx", "spdx"), default="cyclonedx", help="(cyclonedx)")
    bill.add_argument("--account", default="000000000000", help=argparse.SUPPRESS)
    bill.add_argument("--region", default="", help="the region (that of `roadstead env`)")


def _add_events(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """The commands of the events service."""
    events = command("events", "What happened, in EventBridge's form: a line of JSON each.")
    events.add_argument("--follow", "-f", action="store_true", help="go on as events come")
    events.add_argument("--lines", "-n", type=int, default=20, metavar="N", help="the last N (20)")
    events.add_argument("--pattern", default="", help="only what matches this event pattern: JSON, or @FILE")
    hooks = command("webhooks", "URLs that are told of events.")
    hooks.add_argument("action", choices=("add", "list", "remove"))
    hooks.add_argument("name", nargs="?", default="", metavar="NAME")
    hooks.add_argument("url", nargs="?", default="", metavar="URL", help="where events are posted (add)")
    hooks.add_argument("--pattern", default="", help="only what matches this event pattern: JSON, or @FILE")
    hooks.add_argument("--secret", default="", help="what signs them, whsec_…; one is made if none is given")
    hooks.add_argument("--account", default="000000000000", help=argparse.SUPPRESS)
    hooks.add_argument("--region", default="", help="the region (that of `roadstead env`)")


def _add_peers(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """The commands of other installations."""
    peers = command("peers", "Other installations: what images are replicated to, and who may replicate here.")
    peers.add_argument("action", choices=("list", "accept", "revoke", "add", "check", "remove"))
    peers.add_argument("name", nargs="?", default="", metavar="NAME", help="what it is called here")
    peers.add_argument("url", nargs="?", default="", metavar="URL", help="its registry: https://HOST:PORT (add)")
    peers.add_argument("--key", default="", help="what `peers accept` told there (add)")
    peers.add_argument("--ca", default="", metavar="FILE", help="whom its certificate is of, PEM (add)")
    peers.add_argument(
        "--destination",
        action="append",
        default=[],
        metavar="ACCOUNT/REGION",
        help="a registry that is there and not here (add); may be given again",
    )
    peers.add_argument(
        "--account",
        action="append",
        default=[],
        metavar="ID",
        help="in whose name it may come (accept), or is asked (add, check)",
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; exit code 1 with a plain sentence when it can't."""
    arguments = parser().parse_args(argv)
    try:
        sys.exit(_run(Layout(arguments.data), arguments))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or its flush at the exit complains once more
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)


def _run(layout: Layout, arguments: argparse.Namespace) -> int:
    if arguments.command == "up":
        from services.cli.up import up

        return up(layout, arguments)
    if arguments.command == "down":
        from services.cli.up import down

        return down(layout, tasks=arguments.tasks)
    if arguments.command == "node":
        from services.cli.node import node

        return node(layout, arguments)
    if arguments.command == "exec":
        from services.cli.execute import execute

        return execute(layout, arguments)
    from services.cli import ask, events, peers, scanning, spot, top

    try:
        if arguments.command == "top":
            return top.top(layout, arguments)
        commands = ask.COMMANDS | events.COMMANDS | peers.COMMANDS | scanning.COMMANDS | spot.COMMANDS
        return commands[arguments.command](layout, arguments)
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"The platform on {layout.root} does not answer: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    main()
