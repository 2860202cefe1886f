"""What becomes of a scan: when one is due, when one may be asked for, and which part of the findings is told."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from contracts.records.registry import Image, scan_frequency
from contracts.records.scanner import SEVERITIES, FindingsChange, ImageScan
from contracts.rpc.scanner import Finding

QUOTA_S = 24 * 3600.0
"""ECR's basic scanning: an image is scanned once a day. https://docs.aws.amazon.com/AmazonECR/latest/userguide/
image-scanning-basic.html"""

PAGE_BYTES = 512 * 1024
"""How much of findings goes into one reply: NATS takes messages of up to 1 MiB."""

WHOLE = 100
"""How many vulnerabilities go into a reply that has the words of their advisories too."""

Place = tuple[int, str, str, str, str]
_places = msgspec.json.Decoder(Place)


class Rematch(msgspec.Struct):
    """What came of looking an image's packages up again (adapters.rematching), with the index that was asked."""

    bill: str
    before: str
    report: str
    note: str
    counts: dict[str, int]
    fixable: dict[str, int]
    named: dict[str, list[str]]
    exploited: int
    added: list[str]
    gone: list[str]
    added_counts: dict[str, int]
    gone_counts: dict[str, int]
    version: str = ""
    newest: float = 0.0


class BadToken(ValueError):
    """A nextToken that was not given out."""


def requested(image: Image, old: ImageScan | None, now: float) -> ImageScan | None:
    """The scan that the push of an image asks for; None when there was one since. Events come more than once."""
    if old is not None and old.requested_at >= image.pushed_at:
        return None
    return _new(image, old, max(now, image.pushed_at), "PUSH")


def asked_for(image: Image, old: ImageScan | None, now: float) -> ImageScan | None:
    """The scan that StartImageScan asks for; None when one runs."""
    if old is not None and old.status == "IN_PROGRESS":
        return None
    return _new(image, old, now, "API")


def _new(image: Image | ImageScan, old: ImageScan | None, now: float, by: str) -> ImageScan:
    """Its bills of materials are put again, for somebody may have taken them away."""
    return ImageScan(
        account=image.account,
        region=image.region,
        repository=image.repository,
        digest=image.digest,
        status="IN_PROGRESS",
        requested_at=now,
        started_by=by,
        boms=old.boms if old is not None else {},
    )


def documented(scan: ImageScan, by: ImageScan) -> ImageScan:
    """A scan with the bills of materials of another record of it: they are put beside its course."""
    return replace(scan, boms=by.boms, boms_of=by.boms_of)


def is_undocumented(scan: ImageScan) -> bool:
    """Whether bills of materials are to be put."""
    return scan.status == "COMPLETE" and bool(scan.contents) and scan.boms_of != scan.contents


def stored(old: ImageScan | None, contents: str, boms: dict[str, str]) -> ImageScan | None:
    """The record once its bills of materials were put; as it is, when they are of something else by now."""
    if old is None or old.contents != contents:
        return old
    return replace(old, boms=boms, boms_of=contents)


def over_quota(scan: ImageScan | None, now: float, *, on_push: bool, advisories: str) -> bool:
    """Whether an image was scanned today and nothing is known since that a new scan could find.

    `on_push`: the repository is to be scanned on push, so that such a scan counts, as it does on AWS. One that nobody
    asked for does not, nor does one that failed.
    """
    if scan is None or scan.status != "COMPLETE" or scan.advisories != advisories:
        return False
    counts = scan.started_by == "API" or on_push
    return counts and now - scan.requested_at < QUOTA_S


def is_due(scan: ImageScan) -> bool:
    """Whether an image is to be scanned: it was asked for, or what it has was not kept. That there are other
    advisories by now is rematching's concern."""
    return scan.status == "IN_PROGRESS" or (scan.status == "COMPLETE" and not scan.contents)


def scanned_when_pushed(scanning: dict[str, Any], repository: str, *, gated: bool) -> bool:
    """Whether a push asks for a scan. `scanning`: RegistryScanningConfiguration. Basic scanning takes every image, also
    where it is not asked for; enhanced scanning those of repositories that one of its rules names, as on AWS. A gate
    needs scans."""
    return gated or not _enhanced(scanning) or scan_frequency(scanning["rules"], repository)[0] != "MANUAL"


def matched_again(scanning: dict[str, Any], repository: str, *, gated: bool) -> bool:
    """Whether an image is matched again when advisories change: with basic scanning all are, with enhanced scanning
    those of repositories with CONTINUOUS_SCAN; and whatever a gate judges."""
    return gated or not _enhanced(scanning) or scan_frequency(scanning["rules"], repository)[0] == "CONTINUOUS_SCAN"


def _enhanced(scanning: dict[str, Any]) -> bool:
    return scanning.get("scanType") == "ENHANCED"


def matched(scan: ImageScan, told: Rematch, now: float) -> ImageScan:
    """A scan after its packages were looked up again and something else was found."""
    return msgspec.structs.replace(
        scan,
        description=completed(told.note),
        completed_at=now,
        counts=told.counts,
        fixable=told.fixable,
        named=told.named,
        exploited=told.exploited,
        advisories=told.version,
        advisories_at=told.newest,
        report=told.report,
        change=FindingsChange(
            at=now,
            added=told.added_counts,
            gone=told.gone_counts,
            added_names=told.added,
            gone_names=told.gone,
        ),
    )


def lost(bill: str, now: float) -> Callable[[ImageScan | None], ImageScan | None]:
    """The change that asks for a scan of an image whose bill of materials is lost."""

    def change(old: ImageScan | None) -> ImageScan | None:
        if old is None or (old.status, old.contents) != ("COMPLETE", bill):
            return old
        return _new(old, old, now, old.started_by)

    return change


def completed(note: str) -> str:
    """The description of a scan that is COMPLETE; `note` says what it could not judge."""
    return f"The scan was completed successfully{'; ' if note else '.'}{note}"


def page(findings: Sequence[Finding], size: int, token: str, *, whole: bool = False) -> tuple[list[Finding], str]:
    """At most `size` findings behind the place that `token` remembers, and the token of the next page (empty at the
    end). The place is a finding's own, so that a scan in between neither repeats nor hides. `whole`: `size` counts
    vulnerabilities, and none is divided, however many packages have it. Raises BadToken."""
    rest = list(findings)
    if token:
        after = _place_of(token)
        rest = [finding for finding in rest if _place(finding) > after]
    taken: list[Finding] = []
    weight = 0
    most, bytes_ = (min(size, WHOLE), PAGE_BYTES // 2) if whole else (size, PAGE_BYTES)
    names: set[tuple[str, str]] = set()
    for finding in rest:
        name = (finding.severity, finding.name)
        goes_on = whole and name in names
        names.add(name)
        weight += len(msgspec.json.encode(finding))
        full = (len(names) if whole else len(taken) + 1) > most or weight > bytes_
        if taken and full and not goes_on:
            break
        taken.append(finding)
    more = len(rest) > len(taken)
    return taken, _token(_place(taken[-1])) if more and taken else ""


def _place(finding: Finding) -> Place:
    return -SEVERITIES.index(finding.severity), finding.name, finding.package, finding.version, finding.path


def _token(place: Place) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode()


def _place_of(token: str) -> Place:
    try:
        return _places.decode(base64.b64decode(token, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise BadToken("the nextToken is not valid") from None
