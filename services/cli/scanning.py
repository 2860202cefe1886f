"""`roadstead advisories`, `roadstead gate` and `roadstead sbom`: asked of the scanner, with the key of its door."""

from __future__ import annotations

import argparse
import getpass
import json
import re
import shutil
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from contracts.rpc.scheduler import WORKLOADS_CLUSTER
from services.cli.ask import ASK_S, Command, ask_door
from services.cli.findings import counts, failing, sarif, table
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
        return _show(_ask(layout, "GET", "/gates")[1])
    if arguments.action in ("override", "restore"):
        return _override(layout, arguments)
    where = {"account": arguments.account, "region": _region(layout, arguments), "scope": _scope(arguments)}
    if arguments.action == "remove":
        status, answer = _ask(layout, "DELETE", "/gates", where)
    else:
        wanted = {
            "severity": arguments.severity.upper(),
            "fixable_only": arguments.fixable_only,
            "secrets": arguments.secrets,
        }
        status, answer = _ask(layout, "PUT", "/gates", {**where, **wanted})
    if status != 200:
        return _refused(answer)
    print(f"{'removed' if arguments.action == 'remove' else 'set'}: {_told(answer)}")
    return 0


def _region(layout: Layout, arguments: argparse.Namespace) -> str:
    return str(arguments.region or json.loads((layout.root / "credentials.json").read_text())["region"])


def _scope(arguments: argparse.Namespace) -> str:
    if arguments.app_runner:
        return f"cluster/{WORKLOADS_CLUSTER}"
    if arguments.cluster:
        return f"cluster/{arguments.cluster}"
    return f"repository/{arguments.repository}" if arguments.repository else "*"


def _override(layout: Layout, arguments: argparse.Namespace) -> int:
    where = _place(layout, arguments)
    if where is None:
        return 1
    if arguments.action == "restore":
        status, answer = _ask(layout, "DELETE", "/overrides", where)
    else:
        wanted = {"reason": arguments.reason, "by": getpass.getuser(), "until": arguments.until}
        status, answer = _ask(layout, "PUT", "/overrides", {**where, **wanted})
    if status != 200:
        return _refused(answer)
    print(f"{'restored' if arguments.action == 'restore' else 'overridden'}: {_overridden(answer)}")
    return 0


def _show(told: dict[str, Any]) -> int:
    for each in told["gates"]:
        print(_told(each))
    if not told["gates"]:
        print("No gate is set: every image may run")
    for each in told["overrides"]:
        print(_overridden(each))
    return 0


def _told(gate: dict[str, Any]) -> str:
    kind, _, name = gate["scope"].partition("/")
    of = {"*": "every repository", "repository": f"repository {name}"}.get(kind, f"cluster {name}")
    if gate["scope"] == f"cluster/{WORKLOADS_CLUSTER}":
        of = "App Runner"
    what = "findings with a fix" if gate["fixable_only"] else "findings"
    what += " or secrets" if gate["secrets"] else ""
    where = f"account {gate['account']}, {gate['region']}"
    return f"{of} ({where}): no image runs that has {what} of severity {gate['severity']} or worse"


def _overridden(each: dict[str, Any]) -> str:
    until = _ends(each["until"])
    return (
        f"{each['repository']}@{each['digest']} runs whatever gates say{until}: {each['reason']}"
        f" ({each['by'] or 'somebody'}, {_stamp(each['at'])})"
    )


def _ends(until: float) -> str:
    if not until:
        return ""
    return f" until {_stamp(until)}" if until > time.time() else f" (ended {_stamp(until)})"


def _place(layout: Layout, arguments: argparse.Namespace) -> dict[str, str] | None:
    """Where an image is: account, region, repository, and the tag or digest; None, and why, for what is no image."""
    found = _IMAGE.fullmatch(arguments.image or "")
    if found is None:
        print(f"{arguments.image!r} is no image: NAME, NAME:TAG or NAME@DIGEST, as it is pulled", file=sys.stderr)
        return None
    return {
        "account": found["account"] or found["owner"] or arguments.account,
        "region": found["region"] or found["place"] or _region(layout, arguments),
        "repository": found["name"],
        "reference": found["digest"] or found["tag"] or "latest",
    }


def findings(layout: Layout, arguments: argparse.Namespace) -> int:
    """Let findings not count, with a reason; list and take back what does not. Exit code 1 when it can't be done."""
    work = {"suppress": _suppress, "unsuppress": _unsuppress, "list": _list, "import": _import_vex}
    return work[arguments.action](layout, arguments)


def _suppress(layout: Layout, arguments: argparse.Namespace) -> int:
    wanted: dict[str, Any] = {
        "account": arguments.account,
        "region": _region(layout, arguments),
        "advisory": arguments.what,
        "reason": arguments.reason,
        "package": arguments.package,
        "repository": arguments.repository,
        "digest": arguments.digest,
        "until": arguments.until,
        "by": getpass.getuser(),
    }
    status, answer = _ask(layout, "PUT", "/suppressions", wanted)
    if status != 200:
        return _refused(answer)
    print(f"suppressed: {_suppression(answer)}")
    return 0


def _unsuppress(layout: Layout, arguments: argparse.Namespace) -> int:
    wanted = {"account": arguments.account, "region": _region(layout, arguments), "id": arguments.what}
    status, answer = _ask(layout, "DELETE", "/suppressions", wanted)
    if status != 200:
        return _refused(answer)
    print(f"counts again: {_suppression(answer)}")
    return 0


def _list(layout: Layout, arguments: argparse.Namespace) -> int:
    known = _ask(layout, "GET", "/suppressions")[1]["suppressions"]
    for each in known:
        print(_suppression(each))
    if not known:
        print("Every finding counts")
    return 0


def _import_vex(layout: Layout, arguments: argparse.Namespace) -> int:
    try:
        document = json.loads(Path(arguments.what).read_text())
    except (OSError, ValueError) as error:
        print(f"{arguments.what}: {error}", file=sys.stderr)
        return 1
    where = {"account": arguments.account, "region": _region(layout, arguments), "by": getpass.getuser()}
    status, answer = _ask(layout, "POST", "/suppressions/openvex", {"document": document, **where}, IMPORT_S)
    if status != 200:
        return _refused(answer)
    for each in answer["skipped"]:
        print(f"skipped: {each}", file=sys.stderr)
    print(f"{answer['suppressed']} findings suppressed, {answer['lifted']} that count again")
    return 0


def _suppression(each: dict[str, Any]) -> str:
    scope = [f"package {each['package']} {each['version']}".strip()] if each["package"] else []
    scope += [f"repository {each['repository']}"] if each["repository"] else []
    scope += [f"image {each['digest'][:19]}"] if each["digest"] else []
    by = each["source"] or each["by"] or "somebody"
    told = f"{each['id']}  {each['advisory']} in {', '.join(scope) or 'every image'}{_ends(each['until'])}"
    return f"{told}: {each['reason']} ({by}, {_stamp(each['created_at'])})"


def scan(layout: Layout, arguments: argparse.Namespace) -> int:
    """Tell what was found in an image. Exit code 0: nothing at or over --fail-on; 1: something; 2: not scanned."""
    if _is_file(arguments.image):
        return _scan_file(layout, arguments)
    try:
        where = _place(layout, arguments)
        if where is None:
            return 2
        wanted = {**where, "wait_s": arguments.wait}
        status, answer = _ask(layout, "POST", "/scans", wanted, arguments.wait + ASK_S)
    except SystemExit:
        return 2
    except (OSError, ValueError, LookupError) as error:
        print(f"The platform on {layout.root} does not answer: {error}", file=sys.stderr)
        return 2
    if status != 200:
        _refused(answer)
        return 2
    return _report(answer["images"], arguments)


def _is_file(image: str) -> bool:
    """Whether an image lies in a file: something else in this directory may be called as a repository is."""
    told = image.startswith((".", "/")) or image.endswith(".tar")
    return (told and Path(image).exists()) or Path(image, "index.json").is_file()


def _scan_file(layout: Layout, arguments: argparse.Namespace) -> int:
    """No platform need run: the scanner's workers are started from here."""
    from services.cli.local_images import CannotScan
    from services.cli.local_images import scan as scan_file

    index = Path(arguments.advisories or layout.root / "scanner" / "advisories.sqlite")
    try:
        images = scan_file(Path(arguments.image), index)
    except CannotScan as error:
        print(error, file=sys.stderr)
        return 2
    return _report(images, arguments)


def _report(images: list[dict[str, Any]], arguments: argparse.Namespace) -> int:
    if arguments.format == "json":
        print(json.dumps({"images": images}, indent=2))
    elif arguments.format == "sarif":
        print(sarif(images, version("roadstead")))
    else:
        print(table(images, shutil.get_terminal_size((100, 24)).columns))
    for each in images:
        if each["error"]:
            print(f"{each['repository']}@{each['digest']} could not be scanned: {each['error']}", file=sys.stderr)
    if any(each["error"] for each in images) or not images:
        return 2
    if not arguments.fail_on:
        return 0
    least = arguments.fail_on.upper()
    bad = failing(images, least, fixable_only=arguments.fixable_only, secrets=arguments.secrets)
    if bad:
        print(f"{len(bad)} of severity {least} or worse: {counts(bad)}", file=sys.stderr)
    return int(bool(bad))


def sbom(layout: Layout, arguments: argparse.Namespace) -> int:
    """Print the bill of materials of an image. Exit code 1 when there is none."""
    where = _place(layout, arguments)
    if where is None:
        return 1
    place = "/".join(where[name] for name in ("account", "region", "reference", "repository"))
    path = f"/sboms/{place}?format={arguments.format}"
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

COMMANDS: dict[str, Command] = {
    "advisories": advisories,
    "gate": gate,
    "sbom": sbom,
    "findings": findings,
    "scan": scan,
}
