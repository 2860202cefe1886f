"""What is known of the packages of an image: which ecosystem's advisories to ask, and what comes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from services.scanner.decisions.layers import Contents, Installed
from services.scanner.decisions.osv import Affected, judge
from services.scanner.decisions.packages import APK, DPKG, NODE, PYTHON, normalised
from services.scanner.decisions.severities import RANK
from services.scanner.decisions.versions import COMPARE

NAMED = 5
"""How many findings of each severity a scan's record names."""


class Known(NamedTuple):
    """An advisory that speaks of a package, with what it says of it."""

    advisory: str
    names: list[str]
    severity: str
    score: float
    vector: str
    summary: str
    affected: Affected


Lookup = Callable[[str, str], Iterable[Known]]
"""The advisories of (ecosystem, package)."""

_URI = {
    DPKG: "https://security-tracker.debian.org/tracker/{}",
    APK: "https://security.alpinelinux.org/vuln/{}",
}


def ecosystems(kind: str, release: dict[str, str]) -> list[str]:
    """The OSV ecosystems whose advisories hold for packages of a kind in an image of this release; none when nothing
    is known of what it is."""
    if kind == PYTHON:
        return ["PyPI"]
    if kind == NODE:
        return ["npm"]
    system, version = release.get("ID", ""), release.get("VERSION_ID", "")
    if kind == DPKG and system == "debian" and version:
        return [f"Debian:{version.partition('.')[0]}"]
    if kind == DPKG and system == "ubuntu" and version:
        return [f"Ubuntu:{version}", f"Ubuntu:{version}:LTS"]
    if kind == APK and system == "alpine" and version:
        numbers = version.split(".")
        if "_" in version or len(numbers) < 2:
            return ["Alpine:edge"]
        return [f"Alpine:v{numbers[0]}.{numbers[1]}"]
    return []


def findings(contents: Contents, lookup: Lookup) -> tuple[list[dict[str, Any]], int]:
    """(the findings, the worst first; how many packages could not be compared). A vulnerability that several advisories
    tell of is one finding."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    odd: set[Installed] = set()
    for installed in contents.packages:
        for finding in _of_package(installed, contents.release, lookup, odd):
            key = (finding["name"], finding["package"], finding["version"], finding["path"])
            found[key] = _better(found[key], finding) if key in found else finding
    return sorted(found.values(), key=order), len(odd)


def order(finding: dict[str, Any]) -> tuple[Any, ...]:
    """The order in which findings are told: the worst first."""
    where = (finding["name"], finding["package"], finding["version"], finding["path"])
    return (-RANK[finding["severity"]], *where)


def _of_package(
    installed: Installed, release: dict[str, str], lookup: Lookup, odd: set[Installed]
) -> Iterable[dict[str, Any]]:
    package = installed.package
    version = package.source_version or package.version
    name = package.source or package.name
    asked = normalised(name) if package.kind == PYTHON else name
    for ecosystem in ecosystems(package.kind, release):
        for known in lookup(ecosystem, asked):
            try:
                fixed = judge(version, known.affected, COMPARE[package.kind])
            except ValueError:  # one odd advisory hides no other
                odd.add(installed)
                continue
            if fixed is None:
                continue
            for vulnerability in known.names:
                yield {
                    "name": vulnerability,
                    "severity": known.severity,
                    "package": package.name,
                    "version": package.version,
                    "ecosystem": ecosystem,
                    "advisory": known.advisory,
                    "description": known.summary,
                    "uri": _uri(package.kind, vulnerability),
                    "fixed": fixed,
                    "source": name if package.kind in (DPKG, APK) else "",
                    "layer": installed.layer,
                    "path": installed.path,
                    "score": known.score,
                    "vector": known.vector,
                }


def _uri(kind: str, name: str) -> str:
    if not name.startswith("CVE-"):
        return f"https://osv.dev/vulnerability/{name}"
    return _URI.get(kind, "https://nvd.nist.gov/vuln/detail/{}").format(name)


def _better(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Of two advisories on one vulnerability: the worse severity, the better words, a fix if one knows of it."""
    worse, less = (other, one) if RANK[other["severity"]] > RANK[one["severity"]] else (one, other)
    filled = {name: less[name] for name in ("description", "fixed", "score", "vector") if not worse[name]}
    return {**worse, **filled}


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """What the scan's record says of its findings: {counts, fixable, named} by severity. Takes them in order."""
    counts: dict[str, int] = {}
    fixable: dict[str, int] = {}
    named: dict[str, list[str]] = {}
    for finding in sorted(found, key=lambda f: not f["fixed"]):
        severity = finding["severity"]
        counts[severity] = counts.get(severity, 0) + 1
        if finding["fixed"]:
            fixable[severity] = fixable.get(severity, 0) + 1
        names = named.setdefault(severity, [])
        if len(names) < NAMED and finding["name"] not in names:
            names.append(finding["name"])
    return {"counts": counts, "fixable": fixable, "named": named}


def unjudged(contents: Contents, covered: Callable[[str], bool], odd: int) -> str:
    """What the scan could not judge, in words; empty when there is nothing."""
    missing: dict[str, int] = {}
    for installed in contents.packages:
        kind = installed.package.kind
        asked = ecosystems(kind, contents.release)
        if not any(covered(ecosystem) for ecosystem in asked):
            name = asked[0] if asked else f"{contents.release.get('PRETTY_NAME') or 'an unknown system'}"
            missing[name] = missing.get(name, 0) + 1
    told = [f"no advisories for {name} ({count} packages not judged)" for name, count in sorted(missing.items())]
    if contents.unread:
        told.append(f"{contents.unread} files of packages are hard links and were not read")
    if odd:
        told.append(f"{odd} packages have versions that can't be compared")
    return "; ".join(told)
