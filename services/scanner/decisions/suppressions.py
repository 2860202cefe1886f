"""Findings that are known and don't count: which, why, and until when. Time is looked at whenever they are judged, so
that one that ends opens its findings again by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from contracts.records.scanner import Suppression
from contracts.rpc.scanner import PACKAGE_TYPES, Finding
from services.scanner.decisions.gates import BadGate, check_where
from services.scanner.decisions.matching import summary

TEXT_LIMIT = 1000


class BadSuppression(BadGate):
    """What was asked for is no suppression; the message names the member."""


class SuppressionWire(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A suppression as a person sets it."""

    advisory: str
    reason: str
    account: str = "000000000000"
    region: str = "us-east-1"
    package: str = ""
    repository: str = ""
    digest: str = ""
    until: float = 0.0
    by: str = ""


class SuppressionKey(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which suppression."""

    id: str
    account: str = "000000000000"
    region: str = "us-east-1"


_wire = msgspec.json.Decoder(SuppressionWire)
_where = msgspec.json.Decoder(SuppressionKey)


def read(body: bytes, now: float) -> Suppression:
    """The suppression that a request's body tells of. Raises BadSuppression."""
    try:
        wire = _wire.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadSuppression(str(error)) from None
    check_where(wire.account, wire.region)
    for member in ("advisory", "reason"):
        if not getattr(wire, member).strip():
            raise BadSuppression(f"{member} is missing: a suppression says what it is of, and why")
    for member in ("advisory", "reason", "package", "repository", "digest", "by"):
        if len(getattr(wire, member)) > TEXT_LIMIT:
            raise BadSuppression(f"{member} has more than {TEXT_LIMIT} characters")
    if wire.until and wire.until <= now:
        raise BadSuppression("until is past")
    return made(created_at=now, **msgspec.structs.asdict(wire))


def where(body: bytes) -> tuple[str, str, str]:
    """The key of the suppression that a request names. Raises BadSuppression."""
    try:
        told = _where.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadSuppression(str(error)) from None
    return told.account, told.region, told.id


def made(**members: Any) -> Suppression:
    """A suppression; another one of the very same takes its place."""
    scope = [members.get(name, "") for name in ("advisory", "package", "version", "ecosystem", "repository", "digest")]
    return Suppression(id=hashlib.sha256("\0".join(scope).encode()).hexdigest()[:12], **members)


def in_force(suppressions: Iterable[Suppression], now: float) -> list[Suppression]:
    """Those that have not ended."""
    return [each for each in suppressions if not each.until or each.until > now]


def of_image(
    suppressions: Iterable[Suppression], account: str, region: str, repository: str, digest: str
) -> list[Suppression]:
    """Those that may be about an image's findings."""
    return [
        each
        for each in suppressions
        if (each.account, each.region) == (account, region)
        and each.repository in ("", repository)
        and each.digest in ("", digest)
    ]


def covers(suppression: Suppression, finding: Finding) -> bool:
    """Whether it is of this finding, in an image that it is of."""
    known = {finding.name, finding.advisory, *finding.aliases}
    if known.isdisjoint((suppression.advisory, *suppression.aliases)):
        return False
    kind = PACKAGE_TYPES.get(finding.ecosystem.partition(":")[0], "rpm")
    return (
        suppression.package in ("", finding.package, finding.source)
        and suppression.ecosystem in ("", kind)
        and suppression.version in ("", finding.version)
    )


def marked(findings: Sequence[Finding], suppressions: Sequence[Suppression]) -> Iterator[Finding]:
    """The findings, each with the reason for which it does not count, if there is one."""
    if not suppressions:
        yield from findings
        return
    by_name: dict[str, list[Suppression]] = {}
    for each in suppressions:
        for name in {each.advisory, *each.aliases}:
            by_name.setdefault(name, []).append(each)
    for finding in findings:
        candidates = (s for name in (finding.name, finding.advisory, *finding.aliases) for s in by_name.get(name, ()))
        found = next((each for each in candidates if covers(each, finding)), None)
        yield msgspec.structs.replace(finding, suppressed=found.reason) if found is not None else finding


def counted(findings: Iterable[Finding]) -> dict[str, Any]:
    """{counts, fixable, named} of the findings that count, as a scan's record has them."""
    told = summary([msgspec.structs.asdict(each) for each in findings if not each.suppressed])
    return {name: told[name] for name in ("counts", "fixable", "named")}
