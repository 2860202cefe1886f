"""ECR: managed signing."""

from __future__ import annotations

import msgspec

from contracts.aws import ecr
from contracts.records.registry import Signing
from services.registry.api.base import EcrOperations
from services.registry.decisions.signing import parse_profile
from services.registry.handlers import errors
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError


class SigningOperations(EcrOperations):
    """PutSigningConfiguration and what goes with it."""

    async def put_signing_configuration(
        self, context: RequestContext, request: ecr.PutSigningConfigurationRequest
    ) -> ecr.PutSigningConfigurationResponse:
        """Set the rules, for what is pushed from now on. Profiles are the registry's own: see its README."""
        rules = msgspec.to_builtins(request.signing_configuration.rules)
        for rule in rules:
            profile = parse_profile(rule["signingProfileArn"])
            if profile is None or profile[:2] != (context.account, context.region):
                raise errors.invalid_parameter(
                    "signingConfiguration.rules.signingProfileArn",
                    f"{rule['signingProfileArn']} is no signing profile of the registry's account and region",
                )
        await self._signing.configure(context.account, context.region, rules)
        return ecr.PutSigningConfigurationResponse(signing_configuration=request.signing_configuration)

    async def get_signing_configuration(
        self, context: RequestContext, request: ecr.GetSigningConfigurationRequest
    ) -> ecr.GetSigningConfigurationResponse:
        """The rules. Raises SigningConfigurationNotFoundException."""
        found = self._signing_configuration(context)
        return ecr.GetSigningConfigurationResponse(registry_id=context.account, signing_configuration=found)

    async def delete_signing_configuration(
        self, context: RequestContext, request: ecr.DeleteSigningConfigurationRequest
    ) -> ecr.DeleteSigningConfigurationResponse:
        """Take the rules away; what was signed stays, and so do the profiles' keys."""
        found = self._signing_configuration(context)
        await self._settings.set_signing(context.account, context.region, None)
        return ecr.DeleteSigningConfigurationResponse(registry_id=context.account, signing_configuration=found)

    async def describe_image_signing_status(
        self, context: RequestContext, request: ecr.DescribeImageSigningStatusRequest
    ) -> ecr.DescribeImageSigningStatusResponse:
        """How far an image is with each profile that it is to be signed with."""
        repository = self._existing(context, request.registry_id, request.repository_name)
        image = self._named(repository, request.image_id)
        return ecr.DescribeImageSigningStatusResponse(
            repository_name=repository.name,
            image_id=ecr.ImageIdentifier(image_digest=image.digest, image_tag=request.image_id.image_tag),
            registry_id=repository.account,
            signing_statuses=[_shown(each) for each in image.signings],
        )

    def _signing_configuration(self, context: RequestContext) -> ecr.SigningConfiguration:
        rules = self._settings.get(context.account, context.region).signing
        if rules is None:
            raise AwsError(
                "SigningConfigurationNotFoundException",
                f"The registry with id '{context.account}' has no signing configuration",
            )
        return msgspec.convert({"rules": rules}, ecr.SigningConfiguration)


def _shown(signing: Signing) -> ecr.ImageSigningStatus:
    return ecr.ImageSigningStatus(
        signing_profile_arn=signing.profile,
        status="FAILED" if signing.failure_code else "COMPLETE" if signing.signature else "IN_PROGRESS",
        failure_code=signing.failure_code or None,
        failure_reason=signing.failure_reason or None,
    )
