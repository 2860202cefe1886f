"""Advisories in the OSV format: read, and evaluated against a version. https://ossf.github.io/osv-schema/"""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from services.scanner.decisions.ordering import Compare
from services.scanner.decisions.packages import normalised
from services.scanner.decisions.severities import Score, of_advisory, scores

SUMMARY = 600
"""How many characters of an advisory's words are kept."""
REFERENCES = 20
"""How many of its links are kept."""

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


class Detail(NamedTuple):
    """What of an advisory is told with a finding, and plays no part in finding it. Times as the record has them."""

    summary: str = ""
    aliases: list[str] = []
    published: str = ""
    modified: str = ""
    scores: list[Score] = []
    references: list[str] = []


def compact(value: Any) -> str:
    """JSON."""
    import msgspec  # only those who import advisories need it

    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:  # half a surrogate pair
        return json.dumps(value, separators=(",", ":"))


def parsed(text: bytes) -> Any:
    """What JSON says. Raises ValueError."""
    import msgspec

    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        pass  # it is wrong; or in another encoding, or has numbers that are none
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(str(error)) from None


def packed(detail: Detail) -> bytes:
    """A detail as the index keeps it."""
    small = zlib.compressobj(
        6, zlib.DEFLATED, 11, 4
    )  # no more memory than so few bytes need: to clear it takes longest
    return small.compress(compact(detail).encode()) + small.flush()


def unpacked(data: bytes) -> Detail:
    """What `packed` made."""
    detail = Detail(*json.loads(zlib.decompress(data)))
    return detail._replace(scores=[Score(*each) for each in detail.scores])


class Advisory(NamedTuple):
    """An advisory. `names` are the vulnerabilities it is about: CVEs if it names any, else itself. It affects nothing
    when it was withdrawn, or speaks of no package by its versions."""

    id: str
    names: list[str]
    modified: str
    severity: str
    score: float
    vector: str
    detail: Detail
    affected: list[Affected]


def advisory(record: Any) -> Advisory:
    """Read a record. Raises BadAdvisory."""
    if not isinstance(record, dict) or not isinstance(record.get("id"), str) or not record["id"]:
        raise BadAdvisory("it has no id: it is no OSV record")
    told = record.get("affected", [])
    if not isinstance(told, list) or not all(isinstance(each, dict) for each in told):
        raise BadAdvisory("affected is no list of objects")
    affected = [] if record.get("withdrawn") else [a for each in told if (a := _affected(each)) is not None]
    return Advisory(
        record["id"],
        _names(record),
        str(record.get("modified") or ""),
        *of_advisory(record),
        _detail(record),
        affected,
    )


def _detail(record: dict[str, Any]) -> Detail:
    words = record.get("summary") or record.get("details") or ""
    links = [_dict(each).get("url") for each in record.get("references") or [] if isinstance(each, dict)]
    return Detail(
        " ".join(str(words)[: 4 * SUMMARY].split())[:SUMMARY],
        list(dict.fromkeys([record["id"], *_related(record)])),
        str(record.get("published") or ""),
        str(record.get("modified") or ""),
        scores(record),
        [link for link in links if isinstance(link, str) and len(link) <= 300][:REFERENCES],
    )


def _related(record: dict[str, Any]) -> list[str]:
    told: list[str] = []
    for member in ("aliases", "upstream"):
        if isinstance(record.get(member), list):
            told += [name for name in record[member] if isinstance(name, str)]
    return told


def _names(record: dict[str, Any]) -> list[str]:
    told = [record["id"], *_related(record)]
    return list(dict.fromkeys(name for name in told if name.startswith("CVE-"))) or [record["id"]]


def package_name(ecosystem: str, name: str) -> str:
    """A package's name as its ecosystem compares names."""
    if ecosystem == "PyPI":
        return normalised(name)
    return name.lower() if ecosystem in ("NuGet", "Packagist") else name


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
    return Affected(ecosystem, package_name(ecosystem, name), ranges, versions)


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
