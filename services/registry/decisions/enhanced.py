"""Findings as enhanced scanning tells them: in Amazon Inspector's shape, with what is known here and nothing else.

https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_EnhancedImageScanFinding.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby

from contracts.aws import ecr
from contracts.records.registry import Image
from contracts.records.scanner import SEVERITIES
from contracts.rpc.scanner import PACKAGE_TYPES, AdvisoryDetail, CvssScore, Finding, Findings

_MANAGERS = {
    "deb": "DPKG",
    "apk": "APK",
    "rpm": "RPM",
    "pypi": "PYTHONPKG",
    "npm": "NODEPKG",
    "maven": "JAR",
    "golang": "GOBINARY",
    "gem": "BUNDLER",
    "cargo": "CARGO",
    "composer": "COMPOSER",
    "nuget": "DOTNET",
}


def severity(word: str) -> str:
    """A severity as Inspector names it."""
    return "UNTRIAGED" if word == "UNDEFINED" else word


def status(scan_status: str, description: str, frequency: str) -> ecr.ImageScanStatus:
    """How a scan stands. What is scanned continuously is ACTIVE instead of COMPLETE, PENDING before."""
    if frequency != "CONTINUOUS_SCAN":
        return ecr.ImageScanStatus(status=scan_status, description=description or None)
    told = {"COMPLETE": "ACTIVE", "IN_PROGRESS": "PENDING"}.get(scan_status, scan_status)
    words = f"Continuous scan is selected for image. {description}" if told == "ACTIVE" else description
    return ecr.ImageScanStatus(status=told, description=words.strip() or None)


def findings(
    image: Image, arn: str, tags: list[str], found: Findings
) -> tuple[list[ecr.EnhancedImageScanFinding], dict[str, int]]:
    """A page of findings, one a vulnerability with all the packages that have it, and the counts of all."""
    ordered = sorted(found.findings, key=_vulnerability)
    active = {each.name for each in ordered if not each.suppressed}
    shown = []
    for (_, name, suppressed), group in groupby(ordered, key=_vulnerability):
        number = _finding_arn(image, name, apart=suppressed and name in active)
        shown.append(_shown(image, arn, number, tags, found, list(group)))
    return shown, {severity(word): count for word, count in found.counts.items()}


def _vulnerability(finding: Finding) -> tuple[int, str, bool]:
    """What is shown as one: packages in which it is suppressed apart from those in which it is not."""
    return -SEVERITIES.index(finding.severity), finding.name, bool(finding.suppressed)


def _shown(
    image: Image, arn: str, finding_arn: str, tags: list[str], found: Findings, group: Sequence[Finding]
) -> ecr.EnhancedImageScanFinding:
    first = group[0]
    detail = found.details.get(first.advisory, AdvisoryDetail())
    names = list(dict.fromkeys(each.package for each in group))
    return ecr.EnhancedImageScanFinding(
        aws_account_id=image.account,
        description=detail.summary or first.description or None,
        finding_arn=finding_arn,
        last_observed_at=found.completed_at,
        updated_at=found.completed_at,
        package_vulnerability_details=_details(first, detail, group),
        remediation=ecr.Remediation(recommendation=ecr.Recommendation(text=_advice(group))),
        resources=[_resource(image, arn, tags)],
        score=first.score or None,
        score_details=_score_details(first, detail),
        severity=severity(first.severity),
        status="SUPPRESSED" if first.suppressed else "ACTIVE",
        title=f"{first.name} - {', '.join(names[:5])}{' and more' if len(names) > 5 else ''}",
        type="PACKAGE_VULNERABILITY",
        fix_available=_fixable(group),
        exploit_available="YES" if first.exploited else "NO",
    )


def _finding_arn(image: Image, name: str, *, apart: bool = False) -> str:
    """Always the same for a vulnerability of an image. `apart`: the packages in which it alone is suppressed."""
    of = "\0".join((image.repository, image.digest, name, *(["suppressed"] if apart else [])))
    return f"arn:aws:inspector2:{image.region}:{image.account}:finding/{hashlib.sha256(of.encode()).hexdigest()[:32]}"


def _details(first: Finding, detail: AdvisoryDetail, group: Iterable[Finding]) -> ecr.PackageVulnerabilityDetails:
    source = first.ecosystem.partition(":")[0]
    return ecr.PackageVulnerabilityDetails(
        cvss=[
            ecr.CvssScore(base_score=each.base, scoring_vector=each.vector, source=source, version=each.version)
            for each in detail.scores
        ],
        reference_urls=detail.references,
        related_vulnerabilities=list(dict.fromkeys(alias for each in group for alias in each.aliases)),
        source=source,
        source_url=first.uri or None,
        vendor_created_at=_seconds(detail.published),
        vendor_severity=severity(first.severity),
        vendor_updated_at=_seconds(detail.modified),
        vulnerability_id=first.name,
        vulnerable_packages=[_package(each) for each in group],
    )


def _package(finding: Finding) -> ecr.VulnerablePackage:
    kind = PACKAGE_TYPES.get(finding.ecosystem.partition(":")[0], "rpm")
    epoch, version, release = 0, finding.version, None
    if kind in ("deb", "rpm"):
        before, colon, rest = version.partition(":")
        if colon and before.isdigit():
            epoch, version = int(before), rest
        number, dash, last = version.rpartition("-")
        if dash:
            version, release = number, last
    return ecr.VulnerablePackage(
        epoch=epoch,
        file_path=finding.path or None,
        name=finding.package,
        package_manager=_MANAGERS[kind],
        release=release,
        source_layer_hash=finding.layer or None,
        version=version,
        fixed_in_version=finding.fixed or "NotAvailable",
    )


def _advice(group: Iterable[Finding]) -> str:
    fixed = [f"{each.package} to {each.fixed}" for each in group if each.fixed]
    return f"Update {', '.join(dict.fromkeys(fixed))}" if fixed else "None Provided"


def _fixable(group: Sequence[Finding]) -> str:
    fixed = sum(bool(each.fixed) for each in group)
    return "YES" if fixed == len(group) else "PARTIAL" if fixed else "NO"


def _score_details(first: Finding, detail: AdvisoryDetail) -> ecr.ScoreDetails | None:
    """The score that the severity is from."""
    if not first.vector:
        return None
    known = [each for each in detail.scores if each.vector == first.vector]
    score = known[0] if known else CvssScore(version="", base=first.score, vector=first.vector)
    return ecr.ScoreDetails(
        cvss=ecr.CvssScoreDetails(
            adjustments=[],
            score=score.base,
            score_source=first.ecosystem.partition(":")[0],
            scoring_vector=score.vector,
            version=score.version or None,
        )
    )


def _resource(image: Image, arn: str, tags: list[str]) -> ecr.Resource:
    return ecr.Resource(
        details=ecr.ResourceDetails(
            aws_ecr_container_image=ecr.AwsEcrContainerImageDetails(
                image_hash=image.digest,
                image_tags=tags,
                pushed_at=image.pushed_at,
                registry=image.account,
                repository_name=image.repository,
            )
        ),
        id=f"{arn}/{image.digest}",
        type="AWS_ECR_CONTAINER_IMAGE",
    )


def _seconds(moment: str) -> float | None:
    try:
        return datetime.fromisoformat(moment).timestamp()
    except ValueError:
        return None
