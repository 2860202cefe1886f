"""PHP: what Composer installed, and its lock file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from services.scanner.decisions.bounds import Budget, members, name_of, parsed
from services.scanner.decisions.packages import PHP, Package


def installed(path: str, data: bytes, budget: Budget) -> Iterator[Package]:
    """vendor/composer/installed.json: a list (Composer 1), or an object with one."""
    if data.lstrip()[:1] == b"[":
        data = b'{"packages": %s}' % data
    yield from _packages(members(parsed(data), "packages"), False)


def lock(path: str, data: bytes, budget: Budget) -> Iterator[Package]:
    """composer.lock, without the packages for development."""
    yield from _packages(members(parsed(data), "packages"), True)


def _packages(told: list[dict[str, Any]], declared: bool) -> Iterator[Package]:
    for each in told:
        if name_of(each.get("name"), each.get("version")):
            yield Package(PHP, each["name"], each["version"], declared=declared)
