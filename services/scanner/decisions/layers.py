"""What one layer says by itself, and what an image has, its layers lying on each other in order.

Whiteouts are those of the image specification
(https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts): they hide what is below, never what comes
in the same layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from services.scanner.decisions.packages import OS_RELEASE, Package, kind_of, os_release, read
from services.scanner.decisions.tar import LayerRefused, Limits, unpacked, walk

FORMAT = 1
"""Of a layer's report as it is kept; another number makes it be read anew."""

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


def read_layer(chunks: Iterable[bytes], limits: Limits) -> dict[str, Any]:
    """Read a layer as it is stored: {format, files: {path: {kind, packages | release}}, whiteouts, opaque, unread}.
    `unread` are files of packages that are hard links to content which was not kept.

    Raises LayerRefused, LayerUnsupported.
    """
    files: dict[str, dict[str, Any]] = {}
    whiteouts: list[str] = []
    opaque: list[str] = []
    unread: list[str] = []
    count = 0
    for entry in walk(unpacked(chunks, limits.unpacked), lambda path: kind_of(path) is not None, limits):
        folder, _, base = entry.path.rpartition("/")
        if base == _OPAQUE:
            opaque.append(folder)
        elif base.startswith(_WHITEOUT):
            whiteouts.append(f"{folder}/{base[4:]}" if folder else base[4:])
        elif entry.data is not None:
            files[entry.path] = _file(entry.path, entry.data)
            count += len(files[entry.path].get("packages", ()))
        elif entry.link and kind_of(entry.path) and entry.link in files:
            files[entry.path] = files[entry.link]
            count += len(files[entry.path].get("packages", ()))
        else:
            files.pop(entry.path, None)
            if entry.link and kind_of(entry.path):
                unread.append(entry.path)
        if count > limits.packages:
            raise LayerRefused(f"it lists more than {limits.packages} packages")
    return {"format": FORMAT, "files": files, "whiteouts": whiteouts, "opaque": opaque, "unread": unread}


def _file(path: str, data: bytes) -> dict[str, Any]:
    kind = kind_of(path) or ""
    if kind == OS_RELEASE:
        return {"kind": kind, "release": os_release(data)}
    return {"kind": kind, "packages": [list(package) for package in read(kind, data)]}


class Installed(NamedTuple):
    """A package, the file that tells of it and the layer that brought it."""

    package: Package
    path: str
    layer: str


class Contents(NamedTuple):
    """What an image has: its packages, and what its os-release says ({} without one). `unread` counts the files of
    packages that could not be read."""

    packages: list[Installed]
    release: dict[str, str]
    unread: int = 0


def merge(layers: Iterable[tuple[str, dict[str, Any]]]) -> Contents:
    """What an image of these layers has: (digest, report of read_layer), the base first."""
    files: dict[str, tuple[str, dict[str, Any], dict[tuple[Any, ...], str]]] = {}
    unread = 0
    for digest, report in layers:
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
    release: dict[str, str] = {}
    for path in ("usr/lib/os-release", "etc/os-release"):
        if path in files:
            release = files[path][1].get("release") or release
    return Contents(packages, release, unread)


def _hide(files: dict[str, Any], report: dict[str, Any]) -> None:
    gone = set(report["whiteouts"])
    emptied = set(report["opaque"])
    if not gone and not emptied:
        return
    for path in list(files):
        parents = [path[:i] for i, c in enumerate(path) if c == "/"]
        if path in gone or not gone.isdisjoint(parents) or not emptied.isdisjoint(["", *parents]):
            del files[path]
