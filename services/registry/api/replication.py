"""ECR: replication rules, and how far an image is."""

from __future__ import annotations

import msgspec

from contracts.aws import ecr
from services.registry.api.base import EcrOperations
from services.registry.decisions.replication import BadReplication, check_replication
from services.registry.handlers import errors
from services.shared.aws.context import RequestContext


class ReplicationOperations(EcrOperations):
    """PutReplicationConfiguration and what goes with it."""

    async def put_replication_configuration(
        self, context: RequestContext, request: ecr.PutReplicationConfigurationRequest
    ) -> ecr.PutReplicationConfigurationResponse:
        """Set the rules; they hold for what is pushed from now on."""
        rules = msgspec.to_builtins(request.replication_configuration.rules)
        try:
            check_replication(rules, context.account, context.region)
        except BadReplication as error:
            raise errors.invalid_parameter("ReplicationConfiguration", str(error)) from None
        await self._settings.set_replication(context.account, context.region, rules, self._clock())
        return ecr.PutReplicationConfigurationResponse(replication_configuration=request.replication_configuration)

    async def describe_registry(
        self, context: RequestContext, request: ecr.DescribeRegistryRequest
    ) -> ecr.DescribeRegistryResponse:
        """The account's registry, and its replication rules."""
        rules = self._settings.get(context.account, context.region).replication
        return ecr.DescribeRegistryResponse(
            registry_id=context.account,
            replication_configuration=msgspec.convert({"rules": rules}, ecr.ReplicationConfiguration),
        )

    async def describe_image_replication_status(
        self, context: RequestContext, request: ecr.DescribeImageReplicationStatusRequest
    ) -> ecr.DescribeImageReplicationStatusResponse:
        """How far an image is on its way to each destination: whether it is there, not what was once noted."""
        repository = self._existing(context, request.registry_id, request.repository_name)
        image = self._named(repository, request.image_id)
        return ecr.DescribeImageReplicationStatusResponse(
            repository_name=repository.name,
            image_id=ecr.ImageIdentifier(image_digest=image.digest, image_tag=request.image_id.image_tag),
            replication_statuses=[
                ecr.ImageReplicationStatus(
                    region=target.region, registry_id=target.account, status=status, failure_code=why or None
                )
                for target, status, why in self._replication.status(repository, image)
            ],
        )
