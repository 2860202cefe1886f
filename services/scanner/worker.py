"""What the scanner does in processes of their own: hostile bytes are read here, with limits that the kernel holds.

    layer '<limits>'                 a layer on stdin, its report on stdout
    match [<index>]                  layers' reports on stdin, summary and report on stdout
    documents <about>                a scan's report on stdin, its bills of materials on stdout
    import <path> <target> <now>
    meta <index>

Each answers with JSON; a refusal is {"refused": why}. They import the standard library and `packaging` alone, so that
one is there within some 30 ms and leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

CHUNK = 1 << 18
FILE_SECONDS = 20
"""What one file may take of the processor's time."""
LARGE = 16 << 20
"""From so many bytes on a layer takes long in any case, and lets go before what others wait for."""


def _limit(memory: int, seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    """For one file: what takes longer is broken off and told of, and the rest goes on."""
    from services.scanner.decisions.bounds import Broken

    def over(signal_number: int, frame: object) -> None:
        raise Broken(f"reading it takes more than {FILE_SECONDS} s")

    signal.signal(signal.SIGVTALRM, over)
    signal.setitimer(signal.ITIMER_VIRTUAL, FILE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def layer(limits_json: str) -> dict[str, Any]:
    """Read a layer; its digest is told too, so that the asker sees that it is the one."""
    from services.scanner.decisions.layers import read_layer
    from services.scanner.decisions.tar import LayerRefused, LayerUnsupported, Limits

    limits = Limits(**json.loads(limits_json))
    _limit(limits.memory, limits.seconds)
    hashed = hashlib.sha256()

    def chunks() -> Iterator[bytes]:
        total = 0
        while chunk := sys.stdin.buffer.read1(CHUNK):
            hashed.update(chunk)
            if total <= LARGE < total + len(chunk):
                os.nice(5)
            total += len(chunk)
            yield chunk

    stream = chunks()
    try:
        report = read_layer(stream, limits, _in_time)
        for _ in stream:  # what follows the end of the tar belongs to the digest
            pass
    except LayerUnsupported as error:
        return {"unsupported": str(error)}
    except LayerRefused as error:
        return {"refused": str(error)}
    except (MemoryError, RecursionError):
        return {"refused": "reading it takes more memory than it may"}
    return {"digest": "sha256:" + hashed.hexdigest(), **report}


def match(index_path: str = "") -> dict[str, Any]:
    """Lay the layers on each other and look their packages up. stdin: [[digest, report], …]."""
    from services.scanner.decisions.layers import merge, unreadable
    from services.scanner.decisions.matching import findings, summary, unjudged

    _limit(1 << 30, 120)
    contents = merge((digest, report) for digest, report in json.load(sys.stdin.buffer))
    found, odd, meta = [], 0, {}
    if index_path:
        from services.scanner.adapters.index import Index, covered

        index = Index(index_path)
        meta = index.meta()
        found, odd = findings(contents, index.lookup)
        note = unjudged(contents, covered(meta), odd)
    else:
        note = "no advisories are imported: nothing was judged"
    note = "; ".join(filter(None, (note, unreadable(contents))))
    told = {"note": note, "packages": len(contents.packages), "advisories": meta.get("version", ""), **summary(found)}
    packages = [
        {**installed.package._asdict(), "path": installed.path, "layer": installed.layer}
        for installed in contents.packages
    ]
    told["contents"] = hashlib.sha256(json.dumps([contents.release, packages]).encode()).hexdigest()
    report = {"release": contents.release, "advisories": meta.get("version", ""), "note": note}
    return {**told, "report": {**report, "findings": found, "packages": packages}}


def documents(about_json: str) -> dict[str, Any]:
    """The bills of materials of an image, by format. stdin: the report of its scan. They come after all findings."""
    from services.scanner.decisions import cyclonedx, spdx
    from services.scanner.decisions.inventory import About, inventory

    _limit(1 << 30, 120)
    os.nice(5)
    report = json.load(sys.stdin.buffer)
    found = inventory(About(**json.loads(about_json)), report["release"], report["packages"])
    return {"cyclonedx": cyclonedx.document(found), "spdx": spdx.document(found)}


def import_(path: str, target: str, now: str) -> dict[str, Any]:
    """Make an index of a folder of advisories."""
    from pathlib import Path

    from services.scanner.adapters.importing import build

    _limit(2 << 30, 3600)
    os.nice(5)
    try:
        return build(Path(path), Path(target), float(now))
    except OSError as error:
        return {"refused": str(error)}


def meta(index_path: str) -> dict[str, Any]:
    """What an index says of itself."""
    import sqlite3

    from services.scanner.adapters.index import Index

    try:
        return Index(index_path).meta()
    except (sqlite3.Error, TypeError, ValueError) as error:
        return {"refused": f"{index_path}: {error}"}


WORK: dict[str, Callable[..., dict[str, Any]]] = {
    "layer": layer,
    "match": match,
    "documents": documents,
    "import": import_,
    "meta": meta,
}


def main() -> int:
    """Do one piece of work."""
    answer = WORK[sys.argv[1]](*sys.argv[2:])
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()
    return 0
