"""Matching images again out of their bills of materials, when advisories have changed. Runs in a worker process.

The bills and reports are files by the SHA-256 of what is in them, under `bills/` and `reports/` (adapters/files.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from services.scanner.adapters.held import Held
from services.scanner.adapters.index import Index
from services.scanner.decisions.bills import contents_of, report_of
from services.scanner.decisions.matching import (
    Matched,
    difference,
    match,
    match_again,
    remembering,
    summary,
    tally,
    unjudged,
)

CHANGES_NAMED = 50


def touched(index_path: Path, held_path: Path, root: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Remember new bills of materials (`hold`: [[name, revision]]), look anew at what the advisories have said since,
    and tell which bills are `due`, and which are `lost`: no file is there. `only`, when it is told, names all bills
    that there are: others are forgotten, and what is not known of them yet is remembered."""
    held, index = Held(held_path), Index(index_path)
    try:
        held.begin()
        held.follow(index)
        wanted = dict(request.get("hold", []))
        if "only" in request:
            held.keep_only(request["only"])
            wanted |= dict.fromkeys(held.missing(request["only"]), -1)
        lost = []
        for name, revision in wanted.items():
            bill = _read(root / "bills", name)
            if bill is None:
                lost.append(name)
            else:
                held.hold(name, contents_of(bill), revision, index.touched_at)
        changed = held.judge(index)
        held.commit()
        return {"due": held.due(), "lost": lost, "items": changed, "revision": index.revision, "version": index.version}
    finally:
        held.close()
        index.close()


def rematch(index_path: Path, held_path: Path, root: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Match bills again (`bills`: [[name, the name of its report, whether nothing of that counts]]): what changed, with
    its new report in `reports/`, what did not, and what is `lost`. `done` ([revision, names]) is what came of the call
    before and is written down."""
    held, index = Held(held_path), Index(index_path)
    try:
        if request.get("done"):
            revision, names = request["done"]
            held.begin()
            held.matched(names, revision)
            held.commit()
        ask = remembering(index.lookup)
        told: dict[str, Any] = {"changed": [], "unchanged": [], "lost": []}
        for name, report, whole in request.get("bills", []):
            found = _again(held, index, root, name, report, ask, whole=whole)
            if isinstance(found, str):
                told[found].append(name)
            else:
                told["changed"].append(found)
        return {**told, "revision": held.judged, "version": index.version, "newest": index.newest}
    finally:
        held.close()
        index.close()


def _again(
    held: Held, index: Index, root: Path, name: str, report: str, ask: Callable[..., Any], *, whole: bool
) -> Any:
    known, before = held.bill(name), _read(root / "reports", report)
    if known is None:
        return "lost"
    number, revision, asked = known
    old = Matched(before["findings"], before["odd"]) if before else Matched([], [])
    if whole or before is None or not before["advisories"] or revision < 0:
        bill = _read(root / "bills", name)
        if bill is None:
            return "lost"
        contents = contents_of(bill)
        new, asked = match(contents, ask), tally(contents)
    else:
        new = match_again(old, held.asked(number, revision), ask)
    note = unjudged(asked, index.covered, len(new.odd))
    if before is not None and before["advisories"] and (before["note"], old) == (note, new):
        return "unchanged"
    added, gone = difference(old.findings, new.findings)
    return {
        "bill": name,
        "before": report,
        "report": _keep(root / "reports", report_of(new, note, index.version)),
        "note": note,
        **summary(new.findings),
        "added": [_named(each) for each in added[:CHANGES_NAMED]],
        "gone": [_named(each) for each in gone[:CHANGES_NAMED]],
        "added_counts": summary(added)["counts"],
        "gone_counts": summary(gone)["counts"],
    }


def _named(finding: dict[str, Any]) -> str:
    return f"{finding['name']} {finding['package']} {finding['version']}"


def _read(folder: Path, name: str) -> dict[str, Any] | None:
    """A file, None when it is not there, or not what its name says: a power cut can leave it empty."""
    try:
        with open(f"{folder}/{name}.json", "rb", buffering=0) as file:
            data = file.read()
    except FileNotFoundError:
        return None
    return dict(msgspec.json.decode(data)) if data and sha256(data).hexdigest() == name else None


def _keep(folder: Path, report: dict[str, Any]) -> str:
    """Write a report; its name. Not synced to disk: one that a power cut takes is made again out of its bill."""
    data = msgspec.json.encode(report)
    name = sha256(data).hexdigest()
    part = f"{folder}/{name}.{os.getpid()}.part"
    with open(part, "wb", buffering=0) as file:
        file.write(data)
    os.replace(part, f"{folder}/{name}.json")
    return name
