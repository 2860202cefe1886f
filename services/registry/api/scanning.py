"""ECR: scans of images, and when they are made. With basic scanning every image that is pushed is scanned, and matched
again when advisories change, whatever is set; with enhanced scanning the registry's rules say so."""

from __future__ import annotations

import msgspec

from contracts.aws import ecr
from contracts.records.registry import scan_frequency
from contracts.rpc.scanner import Finding
from services.registry.api.base import EcrOperations
from services.registry.decisions.enhanced import findings as enhanced_findings
from services.registry.decisions.enhanced import status as enhanced_status
from services.registry.decisions.names import RepositoryId
from services.registry.decisions.scanning import BadRules, check_rules, scans_on_push
from services.registry.handlers import errors
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

PAGE = 100


class ScanningOperations(EcrOperations):
    """StartImageScan and what goes with it."""

    async def start_image_scan(
        self, context: RequestContext, request: ecr.StartImageScanRequest
    ) -> ecr.StartImageScanResponse:
        """Scan an image, once a day."""
        repository = self._existing(context, request.registry_id, request.repository_name)
        image = self._named(repository, request.image_id)
        started = await self._scanning.start(image, self._repositories.get(repository))
        return ecr.StartImageScanResponse(
            registry_id=repository.account,
            repository_name=repository.name,
            image_id=ecr.ImageIdentifier(image_digest=image.digest, image_tag=request.image_id.image_tag),
            image_scan_status=ecr.ImageScanStatus(status=started.status, description=started.description or None),
        )

    async def describe_image_scan_findings(
        self, context: RequestContext, request: ecr.DescribeImageScanFindingsRequest
    ) -> ecr.DescribeImageScanFindingsResponse:
        """What the newest scan of an image found, the worst first, in pages."""
        repository = self._existing(context, request.registry_id, request.repository_name)
        image = self._named(repository, request.image_id)
        settings = self._scanning.settings(context.account, context.region)
        enhanced = settings["scanType"] == "ENHANCED"
        try:
            found = await self._scanning.findings(
                image, request.max_results or PAGE, request.next_token or "", enhanced=enhanced
            )
        except AwsError as error:
            if error.code == "ScanNotFoundException":
                raise errors.scan_not_found(repository, image.digest, request.image_id.image_tag) from None
            raise
        complete = found.status == "COMPLETE"
        findings = ecr.ImageScanFindings(
            image_scan_completed_at=found.completed_at,
            vulnerability_source_updated_at=found.advisories_at or None,
            finding_severity_counts=dict(found.counts),
        )
        how = ecr.ImageScanStatus(status=found.status, description=found.description or None)
        if enhanced:
            tags = self._images.tags_of(repository, image.digest)
            shown, counts = enhanced_findings(image, repository.arn, tags, found)
            findings.enhanced_findings, findings.finding_severity_counts = shown, counts
            how = enhanced_status(
                found.status, found.description, scan_frequency(settings["rules"], repository.name)[0]
            )
        else:
            findings.findings = [_shown(finding) for finding in found.findings]
        return ecr.DescribeImageScanFindingsResponse(
            registry_id=repository.account,
            repository_name=repository.name,
            image_id=ecr.ImageIdentifier(image_digest=image.digest, image_tag=request.image_id.image_tag),
            image_scan_status=how,
            image_scan_findings=findings if complete else None,
            next_token=found.next_token or None,
        )

    async def put_image_scanning_configuration(
        self, context: RequestContext, request: ecr.PutImageScanningConfigurationRequest
    ) -> ecr.PutImageScanningConfigurationResponse:
        """Say whether a repository is to be scanned on push."""
        repository = self._id(context, request.registry_id, request.repository_name)
        wanted = ecr.ImageScanningConfiguration(scan_on_push=bool(request.image_scanning_configuration.scan_on_push))
        settings = {"imageScanningConfiguration": msgspec.to_builtins(wanted)}
        await self._repositories.change_settings(repository, settings, "repository.scanning_changed.v1")
        return ecr.PutImageScanningConfigurationResponse(
            registry_id=repository.account,
            repository_name=repository.name,
            image_scanning_configuration=wanted,
        )

    async def get_registry_scanning_configuration(
        self, context: RequestContext, request: ecr.GetRegistryScanningConfigurationRequest
    ) -> ecr.GetRegistryScanningConfigurationResponse:
        """The registry's rules; none from the beginning."""
        settings = self._scanning.settings(context.account, context.region)
        return ecr.GetRegistryScanningConfigurationResponse(
            registry_id=context.account,
            scanning_configuration=msgspec.convert(settings, ecr.RegistryScanningConfiguration),
        )

    async def put_registry_scanning_configuration(
        self, context: RequestContext, request: ecr.PutRegistryScanningConfigurationRequest
    ) -> ecr.PutRegistryScanningConfigurationResponse:
        """Set the registry's rules. Without a type it stays what it was."""
        known = self._scanning.settings(context.account, context.region)
        scan_type = request.scan_type or known["scanType"]
        rules = msgspec.to_builtins(request.rules or [])
        try:
            check_rules(scan_type, rules)
        except BadRules as error:
            raise errors.invalid_parameter("rules", str(error)) from None
        settings = {"scanType": scan_type, "rules": rules}
        await self._scanning.put_settings(context.account, context.region, settings)
        return ecr.PutRegistryScanningConfigurationResponse(
            registry_scanning_configuration=msgspec.convert(settings, ecr.RegistryScanningConfiguration)
        )

    async def batch_get_repository_scanning_configuration(
        self, context: RequestContext, request: ecr.BatchGetRepositoryScanningConfigurationRequest
    ) -> ecr.BatchGetRepositoryScanningConfigurationResponse:
        """What the rules come to for some repositories."""
        settings = self._scanning.settings(context.account, context.region)
        rules, enhanced = settings["rules"], settings["scanType"] == "ENHANCED"
        found, failures = [], []
        for name in request.repository_names:
            repository = RepositoryId(context.account, context.region, name)
            record = self._repositories.find(repository)
            if record is None:
                failures.append(
                    ecr.RepositoryScanningConfigurationFailure(
                        repository_name=name,
                        failure_code="REPOSITORY_NOT_FOUND",
                        failure_reason=errors.repository_not_found(repository).message,
                    )
                )
                continue
            frequency, filters = scan_frequency(rules, name)
            on_push = scans_on_push(rules, {} if enhanced else record.settings, name)
            found.append(
                ecr.RepositoryScanningConfiguration(
                    repository_arn=repository.arn,
                    repository_name=name,
                    scan_on_push=on_push,
                    scan_frequency="SCAN_ON_PUSH" if on_push and not enhanced else frequency,
                    applied_scan_filters=msgspec.convert(filters, list[ecr.ScanningRepositoryFilter]),
                )
            )
        return ecr.BatchGetRepositoryScanningConfigurationResponse(scanning_configurations=found, failures=failures)


def _shown(finding: Finding) -> ecr.ImageScanFinding:
    told = {
        "package_name": finding.package,
        "package_version": finding.version,
        "fixed_version": finding.fixed,
        f"{_cvss(finding.vector)}_VECTOR": finding.vector,
        f"{_cvss(finding.vector)}_SCORE": f"{finding.score:.1f}" if finding.vector else "",
        "known_exploited": finding.exploited,
        "aliases": ", ".join(finding.aliases),
    }
    return ecr.ImageScanFinding(
        name=finding.name,
        description=finding.description or None,
        uri=finding.uri or None,
        severity=finding.severity,
        attributes=[ecr.Attribute(key=key, value=value) for key, value in told.items() if value],
    )


def _cvss(vector: str) -> str:
    return {"CVSS:4": "CVSS4", "CVSS:3": "CVSS3"}.get(vector[:6], "CVSS2")
