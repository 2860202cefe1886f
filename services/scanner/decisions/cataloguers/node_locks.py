"""The lock files of yarn and pnpm, line by line: they are written by machines, in one form each."""

from __future__ import annotations

import re
from collections.abc import Iterator

from services.scanner.decisions.bounds import Budget, name_of
from services.scanner.decisions.packages import NODE, Package

_VERSION = re.compile(r'  version:? "?([^"\s]+)"?\s*\Z')
_RESOLUTION = re.compile(r'  resolution: "?((?:@[^/@\s]+/)?[^@\s]+)@([a-z]+):')
_PNPM = re.compile(r"  '?/?((?:@[^/@\s']+/)?[^/@\s'()]+)[@/](\d[^\s:'()_]*)[^:]*:\s*(?:\{\})?\Z")


def yarn_lock(path: str, data: bytes, budget: Budget) -> Iterator[Package]:
    """yarn.lock of version 1 (`version "…"`) and of Berry (`version: …`, `resolution: …`)."""
    name, version, local = "", "", False
    for line in [*data.decode("utf-8", "replace").splitlines(), "end:"]:
        if line[:1] not in ("", " ", "#"):
            if not local and name_of(name, version):
                yield Package(NODE, name, version, declared=True)
            name, version, local = _yarn_name(line), "", False
        elif found := _VERSION.match(line[:1024]):
            version = found[1]
        elif found := _RESOLUTION.match(line[:1024]):
            name, local = found[1], found[2] in ("workspace", "link", "portal")


def _yarn_name(line: str) -> str:
    """The name in `"@scope/name@^1", "@scope/name@^2":`, or of what it is an alias for (`a@npm:b@1`)."""
    first = line.split(",", 1)[0].strip().strip('":')
    name = first[: first.find("@", 1)] if first.find("@", 1) > 0 else ""
    told = first[len(name) + 1 :]
    if told.startswith("npm:") and told.find("@", 5) > 0:
        return told[4 : told.find("@", 5)]
    return "" if name == "__metadata" else name


def pnpm_lock(path: str, data: bytes, budget: Budget) -> Iterator[Package]:
    """The keys of `packages` in pnpm-lock.yaml: `/name/1.0.0` (5), `/name@1.0.0(peer@2)` (6), `name@1.0.0` (9)."""
    inside = False
    for line in data.decode("utf-8", "replace").splitlines():
        if line[:1] not in ("", " "):
            inside = line.startswith("packages:")
        elif inside and line[2:3] not in ("", " ", "#"):
            found = _PNPM.match(line[:1024])
            if found is not None and name_of(found[1], found[2]):
                yield Package(NODE, found[1], found[2], declared=True)
