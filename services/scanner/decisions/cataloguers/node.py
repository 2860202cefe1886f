"""Node: packages as they lie there, and npm's lock files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from services.scanner.decisions.bounds import Broken, Budget, member, name_of, parsed
from services.scanner.decisions.packages import NODE, Package


def package_json(path: str, data: bytes, budget: Budget) -> Iterator[Package]:
    """A package.json that has a name and a version, wherever it lies: an application's own too."""
    told = parsed(data)
    if name_of(told.get("name"), told.get("version")):
        yield Package(NODE, told["name"], told["version"])


def package_lock(path: str, data: bytes, budget: Budget) -> Iterator[Package]:
    """package-lock.json of versions 1 to 3. https://docs.npmjs.com/cli/configuring-npm/package-lock-json"""
    told = parsed(data)
    packages = member(told, "packages")
    if not packages:
        yield from _dependencies(told, 0)
        return
    for place, each in packages.items():
        if not isinstance(each, dict) or each.get("link"):
            continue
        name = each.get("name") or place.rpartition("node_modules/")[2]
        if name_of(name, each.get("version")):
            yield Package(NODE, name, each["version"], declared=True)


def _dependencies(told: dict[str, Any], depth: int) -> Iterator[Package]:
    if depth > 100:
        raise Broken("its dependencies lie too deep in each other")
    for name, each in member(told, "dependencies").items():
        if not isinstance(each, dict):
            continue
        version = each.get("version")
        if isinstance(version, str) and version.startswith("npm:"):  # an alias: npm:<name>@<version>
            name, _, version = version[4:].rpartition("@")
        if name_of(name, version):
            yield Package(NODE, name, version, declared=True)
        yield from _dependencies(each, depth + 1)
