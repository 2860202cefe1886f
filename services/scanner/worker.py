"""What the scanner does in processes of their own: hostile bytes are read here, with limits that the kernel holds.

    layer '<limits>'                 a layer on stdin, its report on stdout
    match [<index>]                  configuration and layers' reports on stdin; summary, report and contents on stdout
    match-bill [<index>]             the same out of an image's contents
    documents <about>                an image's contents on stdin, its bills of materials on stdout
    import <path> <index> <now> [replace]
    update <feed> <index> <now>
    meta <index>
    details <index>                  advisories' ids on stdin, their words on stdout
    touched <index> <held> <root>    which bills of materials something else comes of by now
    rematch <index> <held> <root>    what comes of them
    confinement                      what a worker could not give up

Before anything else a worker gives up network, programs, privileges and files that are not its own
(adapters/confinement.py); the update of a feed that is a URL keeps the network.

Each answers with JSON; a refusal is {"refused": why}. They import the standard library, `packaging` and `cvss` alone,
so that one is there within some 30 ms and leaves nothing behind."""

from __future__ import annotations

import binascii
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
    """Lay the layers on each other and look their packages up. stdin: [configuration, [digest, report], …], the image's
    configuration being Base64."""
    from services.scanner.decisions.configuration import problems
    from services.scanner.decisions.layers import merge

    _limit(1 << 30, 120)
    configuration, *layers = json.load(sys.stdin.buffer)
    contents = merge((digest, report) for digest, report in layers)
    try:
        wrong = tuple((*each, "") for each in problems(binascii.a2b_base64(configuration)))
    except ValueError as error:
        note = ("its configuration", str(error)[:200])
        return _matched(contents._replace(broken=(*contents.broken, note)), index_path)
    return _matched(contents._replace(secrets=(*contents.secrets, *wrong)), index_path)


def match_bill(index_path: str = "") -> dict[str, Any]:
    """Look the packages of a bill of materials up. stdin: the bill."""
    from services.scanner.decisions.bills import contents_of

    _limit(1 << 30, 120)
    return _matched(contents_of(json.load(sys.stdin.buffer)), index_path)


def _matched(contents: Any, index_path: str) -> dict[str, Any]:
    from collections import Counter

    from services.scanner.decisions import matching
    from services.scanner.decisions.bills import bill_of, report_of

    matched, version, revision, newest = matching.Matched([], []), "", -1, ""
    told = matching.tally(contents)
    note = "; ".join(["no advisories are imported: nothing was judged", *told.notes])
    if index_path:
        from services.scanner.adapters.index import Index

        index = Index(index_path)
        if index.version:
            matched = matching.match(contents, matching.remembering(index.lookup))
            note = matching.unjudged(told, index.covered, len(matched.odd))
            version, revision, newest = index.version, index.revision, index.newest
    return {
        "note": note,
        "packages": len(contents.packages),
        "advisories": version,
        "revision": revision,
        "newest": newest,
        **matching.summary(matched.findings),
        "problems": Counter(each[2] for each in contents.secrets),
        "report": report_of(matched, note, version),
        "bill": bill_of(contents),
    }


def documents(about_json: str) -> dict[str, Any]:
    """The bills of materials of an image, by format. stdin: what it has. They come after all findings."""
    from services.scanner.decisions import cyclonedx, spdx
    from services.scanner.decisions.inventory import About, inventory

    _limit(1 << 30, 120)
    os.nice(5)
    report = json.load(sys.stdin.buffer)
    found = inventory(About(**json.loads(about_json)), report["release"], report["packages"])
    return {"cyclonedx": cyclonedx.document(found), "spdx": spdx.document(found)}


def import_(path: str, target: str, now: str, replace: str = "") -> dict[str, Any]:
    """Import a file or folder of advisories."""
    import sqlite3
    from pathlib import Path

    from services.scanner.adapters.importing import import_files

    _limit(2 << 30, 3600)
    os.nice(5)
    try:
        return import_files(Path(target), Path(path), float(now), replace=bool(replace))
    except (OSError, sqlite3.Error) as error:
        return {"refused": str(error)}


def update(base: str, target: str, now: str) -> dict[str, Any]:
    """Take in what is new in a feed."""
    import sqlite3
    from pathlib import Path

    from services.scanner.adapters.feeds import update as update_

    _limit(2 << 30, 3600)
    os.nice(5)
    try:
        return update_(Path(target), base, float(now))
    except (OSError, sqlite3.Error) as error:
        return {"refused": str(error)}


def meta(index_path: str) -> dict[str, Any]:
    """What an index says of itself."""
    import sqlite3

    from services.scanner.adapters.index import Index

    try:
        return Index(index_path).meta()
    except (sqlite3.Error, LookupError, TypeError, ValueError) as error:
        return {"refused": f"{index_path}: {error}"}


def details(index_path: str) -> dict[str, Any]:
    """What advisories say in words. stdin: their ids."""
    from services.scanner.adapters.index import Index

    _limit(1 << 30, 60)
    found = Index(index_path).details(json.load(sys.stdin.buffer))
    return {
        name: {**detail._asdict(), "scores": [score._asdict() for score in detail.scores]}
        for name, detail in found.items()
    }


def touched(index_path: str, held_path: str, root: str) -> bytes | dict[str, Any]:
    """See adapters.rematching.touched. stdin: the request."""
    return _again("touched", index_path, held_path, root)


def rematch(index_path: str, held_path: str, root: str) -> bytes | dict[str, Any]:
    """See adapters.rematching.rematch. stdin: the request."""
    return _again("rematch", index_path, held_path, root)


def _again(what: str, index_path: str, held_path: str, root: str) -> bytes | dict[str, Any]:
    import sqlite3
    from pathlib import Path

    import msgspec

    from services.scanner.adapters import rematching

    _limit(2 << 30, 3600)
    os.nice(5)
    work = {"touched": rematching.touched, "rematch": rematching.rematch}[what]
    try:
        told = work(Path(index_path), Path(held_path), Path(root), msgspec.json.decode(sys.stdin.buffer.read()))
        return msgspec.json.encode(told)
    except (OSError, sqlite3.Error) as error:
        return {"refused": str(error)}


def confinement() -> dict[str, Any]:
    """What a worker of this machine can't give up, in words."""
    return {"missing": _MISSING}


_MISSING: list[str] = []
_DATABASES = {
    "match": (0,),
    "match-bill": (0,),
    "import": (1,),
    "update": (1,),
    "meta": (0,),
    "details": (0,),
    "touched": (0, 1, 2),
    "rematch": (0, 1, 2),
}
"""Which arguments are files, or folders, of the scanner's own that a kind of work may write to."""


def _confine(mode: str, arguments: list[str]) -> None:
    from services.scanner.adapters.confinement import confine

    own = [arguments[at] for at in _DATABASES.get(mode, ()) if at < len(arguments)]
    folders = list(dict.fromkeys(path if os.path.isdir(path) else os.path.dirname(path) or "." for path in own))
    if folders:
        os.environ["SQLITE_TMPDIR"] = folders[0]
    network = mode == "update" and arguments[0].startswith(("http://", "https://"))
    _MISSING.extend(confine(folders, network=network))


WORK: dict[str, Callable[..., bytes | dict[str, Any]]] = {
    "layer": layer,
    "match": match,
    "match-bill": match_bill,
    "documents": documents,
    "import": import_,
    "update": update,
    "meta": meta,
    "details": details,
    "touched": touched,
    "rematch": rematch,
    "confinement": confinement,
}


def main() -> int:
    """Do one piece of work."""
    _confine(sys.argv[1], sys.argv[2:])
    answer = WORK[sys.argv[1]](*sys.argv[2:])
    sys.stdout.buffer.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())
    sys.stdout.flush()
    return 0
