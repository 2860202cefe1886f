"""A report, and a part of it found anew. Most findings of an image are those of before: their JSON is passed on as it
stands, and only what orders and counts them is read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, NotRequired, TypedDict

import msgspec

from services.scanner.decisions.matching import (
    Answers,
    Finding,
    Matched,
    Place,
    Question,
    difference,
    match_again,
    order,
    summary,
)

NAMED = 50
"""How many findings a record names of those that came, and of those that went."""


class Report(msgspec.Struct):
    """What bills.report_of tells, its findings as they are written."""

    findings: list[msgspec.Raw]
    advisories: str = ""
    note: str = ""
    odd: list[list[str]] = []


class _Brief(TypedDict):
    """What of a finding says where it belongs, and in which numbers it is counted."""

    name: str
    severity: str
    package: str
    version: str
    path: str
    fixed: str
    exploited: NotRequired[str]


class _Briefs(msgspec.Struct):
    findings: list[_Brief]


class Again(NamedTuple):
    """A report found anew: the findings that are as they were (`kept`: each with its JSON, `raw`); what there was of
    the others, and what there is now; the packages that could not be compared, now."""

    kept: list[Finding]
    old: list[Finding]
    new: list[Finding]
    odd: list[list[str]]


_report = msgspec.json.Decoder(Report)
_briefs = msgspec.json.Decoder(_Briefs)
_finding = msgspec.json.Decoder(dict[str, Any])
_encode = msgspec.json.Encoder().encode


def read(data: bytes) -> Report:
    """What a report's file has. Raises msgspec.DecodeError."""
    return _report.decode(data)


def anew(before: Report | None, matched: Matched) -> Again:
    """Everything was looked up anew."""
    old = [_finding.decode(each) for each in before.findings] if before is not None else []
    return Again([], old, matched.findings, matched.odd)


def partly(data: bytes, before: Report, asked: Iterable[tuple[Place, Question]], ask: Answers) -> Again:
    """The places of `asked` are looked up anew, with all their questions; `data` is what `before` was read of."""
    asked = list(asked)
    touched = {(place.package, place.version, place.path) for place, _ in asked}
    kept: list[Finding] = []
    old: list[Finding] = []
    for raw, brief in zip(before.findings, _briefs.decode(data).findings, strict=True):
        if (brief["package"], brief["version"], brief["path"]) in touched:
            old.append(_finding.decode(raw))
        else:
            kept.append({**brief, "raw": raw})
    new = match_again(Matched([], before.odd), asked, ask)
    return Again(kept, old, new.findings, new.odd)


def written(again: Again, note: str, version: str) -> tuple[bytes, dict[str, Any]]:
    """(the new report, what the record says of it: decisions.scans.Rematch)."""
    every = [*again.kept, *({**finding, "raw": msgspec.Raw(_encode(finding))} for finding in again.new)]
    if again.kept:
        every.sort(key=order)
    added, gone = difference(again.old, again.new)
    data = _encode(Report([finding["raw"] for finding in every], version, note, again.odd))
    return data, {
        "note": note,
        **summary(every),
        "added": [_named(each) for each in added[:NAMED]],
        "gone": [_named(each) for each in gone[:NAMED]],
        "added_counts": summary(added)["counts"],
        "gone_counts": summary(gone)["counts"],
    }


def _named(finding: Finding) -> str:
    return f"{finding['name']} {finding['package']} {finding['version']}"
