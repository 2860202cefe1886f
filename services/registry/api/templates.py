"""ECR: templates of repositories that are made by a pull or a replication."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from contracts.aws import ecr
from contracts.records.registry import CREATION_TEMPLATE, CreationTemplate
from services.registry.api.base import EcrOperations
from services.registry.api.repositories import check_encryption, check_exclusions, merged_tags
from services.registry.decisions.access import read_repository_policy
from services.registry.decisions.lifecycle_text import BadLifecycle, read_lifecycle
from services.registry.decisions.names import RepositoryId
from services.registry.decisions.pages import BadToken, page
from services.registry.handlers import errors
from services.registry.handlers.policies import granter_of
from services.registry.handlers.roles import TEMPLATES, in_role
from services.shared.aws.context import RequestContext
from services.shared.policies import MalformedPolicy

PAGE = 100
_SETTINGS = {
    "image_tag_mutability": "imageTagMutability",
    "image_tag_mutability_exclusion_filters": "imageTagMutabilityExclusionFilters",
    "encryption_configuration": "encryptionConfiguration",
}
Request = ecr.CreateRepositoryCreationTemplateRequest | ecr.UpdateRepositoryCreationTemplateRequest


class TemplateOperations(EcrOperations):
    """CreateRepositoryCreationTemplate and what goes with it."""

    async def create_repository_creation_template(
        self, context: RequestContext, request: ecr.CreateRepositoryCreationTemplateRequest
    ) -> ecr.CreateRepositoryCreationTemplateResponse:
        """Say how repositories under a prefix are made."""
        now = self._clock()
        empty = CreationTemplate(
            account=context.account,
            region=context.region,
            prefix=request.prefix,
            created_at=now,
            updated_at=now,
            applied_for=[],
        )
        self._check_role(context, request.custom_role_arn, TEMPLATES)
        template = _changed(empty, _members(context, request))
        _check(template)
        await self._check_key(context, template)
        await self._prefixed.create(CREATION_TEMPLATE, template)
        return ecr.CreateRepositoryCreationTemplateResponse(
            registry_id=context.account, repository_creation_template=_shown(template)
        )

    async def update_repository_creation_template(
        self, context: RequestContext, request: ecr.UpdateRepositoryCreationTemplateRequest
    ) -> ecr.UpdateRepositoryCreationTemplateResponse:
        """Change what is given; the rest stays. Repositories that are there don't change."""
        self._check_role(context, request.custom_role_arn, TEMPLATES)
        members, now = _members(context, request), self._clock()
        there = self._prefixed.get(CREATION_TEMPLATE, context.account, context.region, request.prefix)
        await self._check_key(context, _changed(there, members))

        def changed(old: CreationTemplate) -> CreationTemplate:
            template = replace(_changed(old, members), updated_at=now)
            _check(template)
            return template

        template = await self._prefixed.change(
            CREATION_TEMPLATE, context.account, context.region, request.prefix, changed
        )
        return ecr.UpdateRepositoryCreationTemplateResponse(
            registry_id=context.account, repository_creation_template=_shown(template)
        )

    async def _check_key(self, context: RequestContext, template: CreationTemplate) -> None:
        """The use of its KMS key is granted for all repositories that it is for, by the template's role, or by who
        makes the template if it has none: they must be allowed to. Raises KmsException."""
        encryption = template.settings.get("encryptionConfiguration", {})
        if encryption.get("encryptionType") == "KMS":
            about = RepositoryId(context.account, context.region, template.prefix.rstrip("/"))
            granter = in_role(template.role_arn) if template.role_arn else granter_of(context)
            await self._keys.check(about, encryption.get("kmsKey") or "", granter)

    async def describe_repository_creation_templates(
        self, context: RequestContext, request: ecr.DescribeRepositoryCreationTemplatesRequest
    ) -> ecr.DescribeRepositoryCreationTemplatesResponse:
        """Templates in pages, all or those of some prefixes."""
        every = self._prefixed.all(CREATION_TEMPLATE, context.account, context.region)
        wanted = [each for each in every if not request.prefixes or each.prefix in request.prefixes]
        try:
            found, token = page(wanted, lambda each: (each.prefix,), request.max_results or PAGE, request.next_token)
        except BadToken as error:
            raise errors.invalid_parameter("nextToken", str(error)) from None
        return ecr.DescribeRepositoryCreationTemplatesResponse(
            registry_id=context.account,
            repository_creation_templates=[_shown(each) for each in found],
            next_token=token,
        )

    async def delete_repository_creation_template(
        self, context: RequestContext, request: ecr.DeleteRepositoryCreationTemplateRequest
    ) -> ecr.DeleteRepositoryCreationTemplateResponse:
        """Drop a template; repositories that it made stay as they are."""
        template = await self._prefixed.delete(CREATION_TEMPLATE, context.account, context.region, request.prefix)
        return ecr.DeleteRepositoryCreationTemplateResponse(
            registry_id=context.account, repository_creation_template=_shown(template)
        )


def _members(context: RequestContext, request: Request) -> dict[str, Any]:
    """What a request gives, as the record has it. Raises for what does not exist here."""
    operation, encryption = context.operation, request.encryption_configuration
    check_encryption(operation, encryption)
    given: dict[str, Any] = {
        "applied_for": request.applied_for,
        "description": request.description,
        "policy": request.repository_policy,
        "lifecycle": request.lifecycle_policy,
        "role_arn": request.custom_role_arn,
    }
    if request.resource_tags is not None:
        given["tags"] = merged_tags({}, request.resource_tags)
    settings = {wire: msgspec.to_builtins(getattr(request, name)) for name, wire in _SETTINGS.items()}
    given["settings"] = {name: value for name, value in settings.items() if value is not None}
    return {name: value for name, value in given.items() if value is not None}


def _changed(template: CreationTemplate, members: dict[str, Any]) -> CreationTemplate:
    settings = {**template.settings, **members["settings"]}
    excludes = str(settings.get("imageTagMutability", "")).endswith("_WITH_EXCLUSION")
    if not excludes and "imageTagMutabilityExclusionFilters" not in members["settings"]:
        settings.pop("imageTagMutabilityExclusionFilters", None)
    return replace(template, **{**members, "settings": settings})


def _check(template: CreationTemplate) -> None:
    settings = template.settings
    exclusions = settings.get("imageTagMutabilityExclusionFilters") or []
    check_exclusions(settings.get("imageTagMutability"), [each["filter"] for each in exclusions])
    if not template.applied_for:
        raise errors.invalid_parameter("appliedFor", "a template must hold for something")
    try:
        if template.policy:
            read_repository_policy(template.policy)
    except MalformedPolicy as error:
        raise errors.invalid_parameter("repositoryPolicy", f"Invalid repository policy provided: {error}") from None
    try:
        if template.lifecycle:
            read_lifecycle(template.lifecycle)
    except BadLifecycle as error:
        raise errors.invalid_parameter("lifecyclePolicy", str(error)) from None


def _shown(template: CreationTemplate) -> ecr.RepositoryCreationTemplate:
    wire = {
        "prefix": template.prefix,
        "description": template.description or None,
        "resourceTags": [{"Key": key, "Value": value} for key, value in template.tags.items()],
        "repositoryPolicy": template.policy or None,
        "lifecyclePolicy": template.lifecycle or None,
        "appliedFor": template.applied_for,
        "customRoleArn": template.role_arn or None,
        **template.settings,
    }
    shown = msgspec.convert(
        {name: value for name, value in wire.items() if value is not None}, ecr.RepositoryCreationTemplate
    )
    return replace(shown, created_at=template.created_at, updated_at=template.updated_at)
