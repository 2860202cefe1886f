"""What one layer says by itself, and what an image has, its layers lying on each other in order.

Whiteouts are those of the image specification
(https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts): they hide what is below, never what comes
in the same layer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from services.scanner.decisions.bounds import Broken, Budget
from services.scanner.decisions.packages import (
    OS_RELEASE,
    PROGRAM,
    PYTHON,
    Package,
    catalogue,
    kind_of,
    most_of,
    normalised,
    os_release,
)
from services.scanner.decisions.secrets import FILE_LIMIT, LAYER_MOST, Secret, in_file, is_searched
from services.scanner.decisions.tar import Entry, LayerRefused, Limits, unpacked, walk

FORMAT = 3
"""Of a layer's report as it is kept; another number makes it be read anew."""

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
NAMED = 3
"""How many files that could not be read a scan names."""

Guard = Callable[[], AbstractContextManager[Any]]
"""Around the reading of each file: what takes too long in it raises bounds.Broken."""


def read_layer(chunks: Iterable[bytes], limits: Limits, guard: Guard = contextlib.nullcontext) -> dict[str, Any]:
    """Read a layer as it is stored: {format, files: {path: {kind, packages | release, note}}, whiteouts, opaque,
    unread, secrets: [Secret]}. `unread` are files of packages that are hard links to content which was not kept; the
    note of a file says why not all of it could be read.

    Raises LayerRefused, LayerUnsupported.
    """
    files: dict[str, dict[str, Any]] = {}
    whiteouts: list[str] = []
    opaque: list[str] = []
    unread: list[str] = []
    budget = Budget()
    count = 0
    secrets: list[Secret] = []
    for entry in walk(unpacked(chunks, limits.unpacked), _is_wanted, limits, _most, _is_searched):
        if entry.data is not None and not entry.program and len(secrets) < LAYER_MOST:
            with contextlib.suppress(Broken), guard():
                secrets += in_file(entry.path, entry.data)
        folder, _, base = entry.path.rpartition("/")
        if base == _OPAQUE:
            opaque.append(folder)
        elif base.startswith(_WHITEOUT):
            whiteouts.append(f"{folder}/{base[4:]}" if folder else base[4:])
        elif told := _told(entry, files, budget, guard):
            files[entry.path] = told
            count += len(told.get("packages", ()))
        else:
            files.pop(entry.path, None)
            if entry.link and kind_of(entry.path):
                unread.append(entry.path)
        if count > limits.packages:
            raise LayerRefused(f"it lists more than {limits.packages} packages")
    told = {"format": FORMAT, "files": files, "whiteouts": whiteouts, "opaque": opaque, "unread": unread}
    return {**told, "secrets": [list(each) for each in secrets[:LAYER_MOST]]}


def _is_searched(path: str, size: int) -> bool:
    return size <= FILE_LIMIT and is_searched(path)


def _is_wanted(path: str) -> bool:
    return kind_of(path) is not None


def _most(path: str) -> int | None:
    return most_of(kind_of(path) or "")


def _told(entry: Entry, files: dict[str, dict[str, Any]], budget: Budget, guard: Guard) -> dict[str, Any] | None:
    """What a file says; None for one that says nothing, most of all."""
    if entry.large:
        note = f"it has {entry.large} bytes, more than are read of such a file"
        return {"kind": kind_of(entry.path), "packages": [], "note": note}
    if entry.text:
        return None
    if entry.data is None:
        return files.get(entry.link) if entry.link and kind_of(entry.path) else None
    kind = PROGRAM if entry.program else kind_of(entry.path) or ""
    if kind == OS_RELEASE:
        return {"kind": kind, "release": os_release(entry.data)}
    with guard():
        packages, note = catalogue(kind, entry.data, entry.path, budget)
    if kind == PROGRAM and not packages and not note:
        return None
    told: dict[str, Any] = {"kind": kind, "packages": [list(package) for package in packages]}
    return {**told, "note": note} if note else told


class Installed(NamedTuple):
    """A package, the file that tells of it and the layer that brought it."""

    package: Package
    path: str
    layer: str


class Contents(NamedTuple):
    """What an image has: its packages, and what its os-release says ({} without one). `unread` counts the files of
    packages that are links to what was not kept, `broken` says of others why they could not be read: (path, why).
    `secrets` are those of all layers, also of what later ones hide, and what is wrong with its configuration: (*Secret,
    layer)."""

    packages: list[Installed]
    release: dict[str, str]
    unread: int = 0
    broken: tuple[tuple[str, str], ...] = ()
    secrets: tuple[tuple[Any, ...], ...] = ()


def merge(layers: Iterable[tuple[str, dict[str, Any]]]) -> Contents:
    """What an image of these layers has: (digest, report of read_layer), the base first."""
    files: dict[str, tuple[str, dict[str, Any], dict[tuple[Any, ...], str]]] = {}
    unread = 0
    secrets: list[tuple[Any, ...]] = []
    for digest, report in layers:
        secrets += [(*each, digest) for each in report.get("secrets", ())]
        _hide(files, report)
        unread += len(report["unread"])
        for path, told in report["files"].items():
            before = files[path][2] if path in files else {}
            # A package database is written anew by each layer that changes it: who had the package first brought it.
            origins = {tuple(p): before.get(tuple(p), digest) for p in told.get("packages", ())}
            files[path] = (digest, told, origins)
    packages = [
        Installed(Package(*package), path, layer)
        for path, (_, _, origins) in sorted(files.items())
        for package, layer in origins.items()
    ]
    broken = tuple((path, told["note"]) for path, (_, told, _) in sorted(files.items()) if told.get("note"))
    release: dict[str, str] = {}
    for path in ("usr/lib/os-release", "etc/os-release"):
        if path in files:
            release = files[path][1].get("release") or release
    return Contents(_without_copies(packages), release, unread, broken, tuple(secrets))


def _without_copies(packages: list[Installed]) -> list[Installed]:
    """Without what a lock file names and lies there too: it is one thing."""
    there = {_identity(each.package) for each in packages if not each.package.declared}
    named: set[tuple[str, str, str]] = set()
    kept = []
    for each in packages:
        identity = _identity(each.package)
        if not each.package.declared:
            kept.append(each)
        elif identity not in there and identity not in named:
            named.add(identity)
            kept.append(each)
    return kept


def _identity(package: Package) -> tuple[str, str, str]:
    name = normalised(package.name) if package.kind == PYTHON else package.name
    return package.kind, name, package.version


def unreadable(contents: Contents) -> str:
    """The files that could not be read, in words; empty when all could."""
    if not contents.broken:
        return ""
    named = "; ".join(f"/{path[:200]}: {why}" for path, why in contents.broken[:NAMED])
    more = f" and {len(contents.broken) - NAMED} more" if len(contents.broken) > NAMED else ""
    count = len(contents.broken)
    return f"{count} file{'s' if count > 1 else ''} could not be read ({named}{more})"


def _hide(files: dict[str, Any], report: dict[str, Any]) -> None:
    gone = set(report["whiteouts"])
    emptied = set(report["opaque"])
    if not gone and not emptied:
        return
    for path in list(files):
        parents = [path[:i] for i, c in enumerate(path) if c == "/"]
        if path in gone or not gone.isdisjoint(parents) or not emptied.isdisjoint(["", *parents]):
            del files[path]
