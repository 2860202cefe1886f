"""Advisories in the OSV format: read, and evaluated against a version. https://ossf.github.io/osv-schema/"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

from services.scanner.decisions.packages import normalised
from services.scanner.decisions.severities import of_advisory
from services.scanner.decisions.versions import Compare

SUMMARY = 600
"""How many characters of an advisory's words are kept."""

_RANGES = ("ECOSYSTEM", "SEMVER")
_EVENTS = {"fixed": 0, "limit": 0, "introduced": 1, "last_affected": 2}


class BadAdvisory(ValueError):
    """The record is no OSV record that can be used; the message says why."""


class Affected(NamedTuple):
    """What an advisory says of one package. `ecosystem` with its release (`Debian:12`); `ranges` are lists of
    (event, version), sorted by nobody; `versions` are those that are affected, by name."""

    ecosystem: str
    package: str
    ranges: list[list[tuple[str, str]]]
    versions: list[str]


class Advisory(NamedTuple):
    """An advisory. `names` are the vulnerabilities it is about: CVEs if it names any, else itself."""

    id: str
    names: list[str]
    modified: str
    severity: str
    score: float
    vector: str
    summary: str
    affected: list[Affected]


def advisory(record: Any) -> Advisory | None:
    """Read a record; None for one that was withdrawn, or speaks of no package. Raises BadAdvisory."""
    if not isinstance(record, dict) or not isinstance(record.get("id"), str) or not record["id"]:
        raise BadAdvisory("it has no id: it is no OSV record")
    told = record.get("affected", [])
    if not isinstance(told, list) or not all(isinstance(each, dict) for each in told):
        raise BadAdvisory("affected is no list of objects")
    if record.get("withdrawn"):
        return None
    affected = [found for each in told if (found := _affected(each)) is not None]
    if not affected:
        return None
    severity, score, vector = of_advisory(record)
    words = record.get("summary") or record.get("details") or ""
    return Advisory(
        record["id"],
        _names(record),
        str(record.get("modified") or ""),
        severity,
        score,
        vector,
        " ".join(str(words)[: 4 * SUMMARY].split())[:SUMMARY],
        affected,
    )


def _names(record: dict[str, Any]) -> list[str]:
    told = [record["id"]]
    for member in ("aliases", "upstream"):
        if isinstance(record.get(member), list):
            told += [name for name in record[member] if isinstance(name, str)]
    return list(dict.fromkeys(name for name in told if name.startswith("CVE-"))) or [record["id"]]


def _affected(told: dict[str, Any]) -> Affected | None:
    package = told.get("package")
    if not isinstance(package, dict):
        return None
    ecosystem, name = package.get("ecosystem"), package.get("name")
    if not isinstance(ecosystem, str) or not isinstance(name, str) or not ecosystem or not name:
        raise BadAdvisory("a package without ecosystem or name")
    ranges = [_events(each) for each in told.get("ranges") or [] if _dict(each).get("type") in _RANGES]
    # Where there is a range, the list of versions says the same again, at length.
    versions = [] if ranges else [v for v in told.get("versions") or [] if isinstance(v, str)]
    if not ranges and not versions:
        return None
    return Affected(ecosystem, normalised(name) if ecosystem == "PyPI" else name, ranges, versions)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _events(told: dict[str, Any]) -> list[tuple[str, str]]:
    events = told.get("events")
    if not isinstance(events, list):
        raise BadAdvisory("a range without events")
    found = []
    for each in events:
        for kind, version in _dict(each).items():
            if kind in _EVENTS and isinstance(version, str):
                found.append((kind, version))
    if not any(kind == "introduced" for kind, _ in found):
        raise BadAdvisory("a range that does not say where it is introduced")
    return found


def judge(version: str, affected: Affected, compare: Compare) -> str | None:
    """Whether a version is affected: None if not, else the first version behind it that is not, or the empty string
    when none is known. Raises ValueError for versions that can't be compared."""
    if version in affected.versions:
        return ""
    for events in affected.ranges:
        fixed = _judge_range(version, events, compare)
        if fixed is not None:
            return fixed
    return None


def _judge_range(version: str, events: list[tuple[str, str]], compare: Compare) -> str | None:
    vulnerable = False
    for kind, at in _sorted(events, compare):
        order = 1 if at == "0" and kind == "introduced" else compare(version, at)
        if order < 0:
            return (at if kind == "fixed" else _later_fix(version, events, compare)) if vulnerable else None
        if kind == "introduced":
            vulnerable = True
        elif kind == "last_affected":
            vulnerable = vulnerable and order == 0
        else:
            vulnerable = False
    return "" if vulnerable else None


def _later_fix(version: str, events: list[tuple[str, str]], compare: Compare) -> str:
    later = (at for kind, at in _sorted(events, compare) if kind == "fixed" and compare(version, at) < 0)
    return next(later, "")


def _sorted(events: list[tuple[str, str]], compare: Compare) -> Iterator[tuple[str, str]]:
    def order(left: tuple[str, str], right: tuple[str, str]) -> int:
        if "0" in (left[1], right[1]):  # the beginning of everything, in every ecosystem
            return (left[1] != "0") - (right[1] != "0") or _EVENTS[left[0]] - _EVENTS[right[0]]
        return compare(left[1], right[1]) or _EVENTS[left[0]] - _EVENTS[right[0]]

    return iter(sorted(events, key=functools.cmp_to_key(order)))
