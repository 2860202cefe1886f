"""Matching images again out of their bills of materials, when advisories have changed. Runs in a worker process.

The bills are files by the SHA-256 of what is in them, under `bills/`; so are the reports of scans, under `reports/`.
Those that are made here go into packs (adapters/packs.py).
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from services.scanner.adapters import packs
from services.scanner.adapters.held import Held
from services.scanner.adapters.index import Index
from services.scanner.decisions import reports
from services.scanner.decisions.bills import contents_of
from services.scanner.decisions.matching import Answers, match, remembering, tally, unjudged


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
            bill = _bill(root, name)
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
    """Match bills again (`bills`: [[name, the name of its report, its place in a pack, whether nothing of that
    counts]]): what changed, with its new report in one of `packs`, what did not, and what is `lost`. `done`
    ([[revision, names]]) is what came of calls before and is written down."""
    held, index = Held(held_path), Index(index_path)
    try:
        if request.get("done"):
            held.begin()
            for revision, names in request["done"]:
                held.matched(names, revision)
            held.commit()
        ask, packer = remembering(index.lookup), packs.Packer(root / "reports")
        told: dict[str, Any] = {"changed": [], "unchanged": [], "lost": []}
        for name, report, place, whole in request.get("bills", []):
            before = packs.read(root / "reports", place, report) if place else _file(root / "reports", report)
            found = _again(held, index, root, name, before, ask, whole=whole)
            if isinstance(found, str):
                told[found].append(name)
            else:
                data, summary = found
                told["changed"].append({"bill": name, "before": report, "report": packer.add(data), **summary})
        packer.close()
        return {
            **told,
            "packs": packer.packs,
            "revision": held.judged,
            "version": index.version,
            "newest": index.newest,
        }
    finally:
        held.close()
        index.close()


def _again(
    held: Held, index: Index, root: Path, name: str, data: bytes | None, ask: Answers, *, whole: bool
) -> tuple[bytes, dict[str, Any]] | str:
    known = held.bill(name)
    if known is None:
        return "lost"
    number, revision, asked = known
    before = reports.read(data) if data else None
    if whole or data is None or before is None or not before.advisories or revision < 0:
        bill = _bill(root, name)
        if bill is None:
            return "lost"
        contents = contents_of(bill)
        again, asked = reports.anew(before, match(contents, ask)), tally(contents)
    else:
        again = reports.partly(data, before, held.asked(number, revision), ask)
    note = unjudged(asked, index.covered, len(again.odd))
    same = before is not None and (before.note, before.odd, again.old) == (note, again.odd, again.new)
    if before is not None and before.advisories and same:
        return "unchanged"
    return reports.written(again, note, index.version)


def _bill(root: Path, name: str) -> dict[str, Any] | None:
    data = _file(root / "bills", name)
    return dict(msgspec.json.decode(data)) if data else None


def _file(folder: Path, name: str) -> bytes | None:
    """A file, None when it is not there, or not what its name says: a power cut can leave it empty."""
    try:
        with open(f"{folder}/{name}.json", "rb", buffering=0) as file:
            data = file.read()
    except FileNotFoundError:
        return None
    return data if sha256(data).hexdigest() == name else None
