"""ECR: images that are put away, and whose pulls don't count."""

from __future__ import annotations

from contracts.aws import ecr
from services.registry.api.base import EcrOperations
from services.registry.decisions.pages import BadToken, page
from services.registry.handlers import errors
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

PAGE = 100
MAX_EXCLUSIONS = 100


class ArchiveOperations(EcrOperations):
    """UpdateImageStorageClass, and pull time update exclusions."""

    async def update_image_storage_class(
        self, context: RequestContext, request: ecr.UpdateImageStorageClassRequest
    ) -> ecr.UpdateImageStorageClassResponse:
        """Archive an image, or bring it back: both are done when it is answered."""
        repository = self._existing(context, request.registry_id, request.repository_name)
        found = self._named(repository, request.image_id)
        archive = request.target_storage_class == "ARCHIVE"
        if archive and self._images.indexes_of(repository, found.digest):
            raise AwsError(
                "ImageStorageClassUpdateNotSupportedException",
                f"The image with digest '{found.digest}' is part of a manifest list, and is archived with that only",
            )
        image = await self._images.set_archived(repository, found.digest, archive)
        if image is None:
            raise errors.image_not_found(repository, found.digest, request.image_id.image_tag)
        return ecr.UpdateImageStorageClassResponse(
            registry_id=repository.account,
            repository_name=repository.name,
            image_id=ecr.ImageIdentifier(image_digest=image.digest, image_tag=request.image_id.image_tag),
            image_status="ARCHIVED" if image.archived else "ACTIVE",
        )

    async def register_pull_time_update_exclusion(
        self, context: RequestContext, request: ecr.RegisterPullTimeUpdateExclusionRequest
    ) -> ecr.RegisterPullTimeUpdateExclusionResponse:
        """From now on the pulls of this role or user leave no mark."""
        arn, now = request.principal_arn, self._clock()

        def added(old: dict[str, float]) -> dict[str, float]:
            if arn in old:
                raise AwsError(
                    "ExclusionAlreadyExistsException",
                    f"The principal '{arn}' is excluded from pull time updates already",
                )
            if len(old) >= MAX_EXCLUSIONS:
                raise AwsError("LimitExceededException", f"A registry can't have more than {MAX_EXCLUSIONS} exclusions")
            return {**old, arn: now}

        await self._settings.change_exclusions(context.account, context.region, added)
        return ecr.RegisterPullTimeUpdateExclusionResponse(principal_arn=arn, created_at=now)

    async def deregister_pull_time_update_exclusion(
        self, context: RequestContext, request: ecr.DeregisterPullTimeUpdateExclusionRequest
    ) -> ecr.DeregisterPullTimeUpdateExclusionResponse:
        """Its pulls count again."""
        arn = request.principal_arn

        def removed(old: dict[str, float]) -> dict[str, float]:
            if arn not in old:
                raise AwsError(
                    "ExclusionNotFoundException", f"The principal '{arn}' is not excluded from pull time updates"
                )
            return {each: since for each, since in old.items() if each != arn}

        await self._settings.change_exclusions(context.account, context.region, removed)
        return ecr.DeregisterPullTimeUpdateExclusionResponse(principal_arn=arn)

    async def list_pull_time_update_exclusions(
        self, context: RequestContext, request: ecr.ListPullTimeUpdateExclusionsRequest
    ) -> ecr.ListPullTimeUpdateExclusionsResponse:
        """The principals, in pages."""
        found = list(self._settings.get(context.account, context.region).pull_exclusions)
        try:
            taken, token = page(found, lambda arn: (arn,), request.max_results or PAGE, request.next_token)
        except BadToken as error:
            raise errors.invalid_parameter("nextToken", str(error)) from None
        return ecr.ListPullTimeUpdateExclusionsResponse(pull_time_update_exclusions=taken, next_token=token)
