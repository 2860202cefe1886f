"""A bill of materials as the scanner keeps it: what an image has, and nothing of what is known of it."""

from __future__ import annotations

from typing import Any

from services.scanner.decisions.layers import Contents, Installed
from services.scanner.decisions.matching import Matched
from services.scanner.decisions.packages import Package

_MEMBERS = frozenset(Package._fields)


def bill_of(contents: Contents) -> dict[str, Any]:
    """{packages: [{kind, name, version, …, path, layer}], release, …}: what Contents has."""
    packages = [
        {**installed.package._asdict(), "path": installed.path, "layer": installed.layer}
        for installed in contents.packages
    ]
    return {**contents._asdict(), "packages": packages}


def contents_of(bill: dict[str, Any]) -> Contents:
    """What `bill_of` was told. Members that a package does not have any more are passed over."""
    packages = [
        Installed(Package(**{k: v for k, v in each.items() if k in _MEMBERS}), each["path"], each["layer"])
        for each in bill["packages"]
    ]
    rest = {k: tuple(map(tuple, v)) if isinstance(v, list) else v for k, v in bill.items() if k in Contents._fields}
    return Contents(**{**rest, "packages": packages})


def report_of(matched: Matched, note: str, version: str) -> dict[str, Any]:
    """What is kept of a match: the findings, and the version of the advisories that they are of."""
    return {"advisories": version, "note": note, "findings": matched.findings, "odd": matched.odd}
