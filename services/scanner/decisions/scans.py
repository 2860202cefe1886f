"""What becomes of a scan: when one is due, when one may be asked for, and which part of the findings is told."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from contracts.records.registry import Image
from contracts.records.scanner import SEVERITIES, ImageScan
from contracts.rpc.scanner import Finding

QUOTA_S = 24 * 3600.0
"""ECR's basic scanning: an image is scanned once a day. https://docs.aws.amazon.com/AmazonECR/latest/userguide/
image-scanning-basic.html"""

PAGE_BYTES = 512 * 1024
"""How much of findings goes into one reply: NATS takes messages of up to 1 MiB."""

Place = tuple[int, str, str, str, str]
_places = msgspec.json.Decoder(Place)


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


def _new(image: Image, old: ImageScan | None, now: float, by: str) -> ImageScan:
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


def is_due(scan: ImageScan, advisories: str) -> bool:
    """Whether there is something to do: it was asked for, or the advisories are others than it was matched with. When
    there are none any more (an index that can't be read), what was found with those before still holds."""
    outdated = bool(advisories) and scan.advisories != advisories
    return scan.status == "IN_PROGRESS" or (scan.status == "COMPLETE" and outdated)


def page(findings: Sequence[Finding], size: int, token: str) -> tuple[list[Finding], str]:
    """At most `size` findings behind the place that `token` remembers, and the token of the next page (empty at the
    end). The place is a finding's own, so that a scan in between neither repeats nor hides. Raises BadToken."""
    rest = list(findings)
    if token:
        after = _place_of(token)
        rest = [finding for finding in rest if _place(finding) > after]
    taken: list[Finding] = []
    weight = 0
    for finding in rest[:size]:
        weight += len(msgspec.json.encode(finding))
        if taken and weight > PAGE_BYTES:
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
