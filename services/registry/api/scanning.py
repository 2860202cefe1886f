"""ECR: scans of images, and when they are made. The scanner scans every image that is pushed, whatever is set here."""

from __future__ import annotations

import msgspec

from contracts.aws import ecr
from contracts.rpc.scanner import Finding
from services.registry.api.base import EcrOperations
from services.registry.decisions.names import RepositoryId
from services.registry.decisions.scanning import BadRules, applied, check_rules, scans_on_push
from services.registry.handlers import errors
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError, NotImplementedYet

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
        try:
            found = await self._scanning.findings(image, request.max_results or PAGE, request.next_token or "")
        except AwsError as error:
            if error.code == "ScanNotFoundException":
                raise errors.scan_not_found(repository, image.digest, request.image_id.image_tag) from None
            raise
        complete = found.status == "COMPLETE"
        findings = ecr.ImageScanFindings(
            image_scan_completed_at=found.completed_at,
            vulnerability_source_updated_at=found.advisories_at or None,
            finding_severity_counts=dict(found.counts),
            findings=[_shown(finding) for finding in found.findings],
        )
        return ecr.DescribeImageScanFindingsResponse(
            registry_id=repository.account,
            repository_name=repository.name,
            image_id=ecr.ImageIdentifier(image_digest=image.digest, image_tag=request.image_id.image_tag),
            image_scan_status=ecr.ImageScanStatus(status=found.status, description=found.description or None),
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
        if scan_type == "ENHANCED":
            raise NotImplementedYet("ECR", "PutRegistryScanningConfiguration", "ENHANCED scanning does not exist")
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
        rules = self._scanning.settings(context.account, context.region)["rules"]
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
            frequency, filters = applied(rules, name)
            on_push = scans_on_push(rules, record.settings, name)
            found.append(
                ecr.RepositoryScanningConfiguration(
                    repository_arn=repository.arn,
                    repository_name=name,
                    scan_on_push=on_push,
                    scan_frequency="SCAN_ON_PUSH" if on_push else frequency,
                    applied_scan_filters=msgspec.convert(filters, list[ecr.ScanningRepositoryFilter]),
                )
            )
        return ecr.BatchGetRepositoryScanningConfigurationResponse(scanning_configurations=found, failures=failures)


def _shown(finding: Finding) -> ecr.ImageScanFinding:
    told = {
        "package_name": finding.package,
        "package_version": finding.version,
        "fixed_version": finding.fixed,
        "CVSS3_VECTOR": finding.vector,
        "CVSS3_SCORE": f"{finding.score:.1f}" if finding.vector else "",
    }
    return ecr.ImageScanFinding(
        name=finding.name,
        description=finding.description or None,
        uri=finding.uri or None,
        severity=finding.severity,
        attributes=[ecr.Attribute(key=key, value=value) for key, value in told.items() if value],
    )
