"""ECR: what refers to an image: signatures, bills of materials."""

from __future__ import annotations

from contracts.aws import ecr
from contracts.records.registry import Image
from services.registry.api.base import EcrOperations
from services.registry.decisions.manifests import artifact_type_of
from services.registry.decisions.names import valid_digest
from services.registry.decisions.pages import BadToken, page
from services.registry.handlers import errors
from services.shared.aws.context import RequestContext

PAGE = 20


class ReferrerOperations(EcrOperations):
    """ListImageReferrers."""

    async def list_image_referrers(
        self, context: RequestContext, request: ecr.ListImageReferrersRequest
    ) -> ecr.ListImageReferrersResponse:
        """The artifacts that refer to a digest, those that are active unless others are asked for, in pages."""
        repository = self._existing(context, request.registry_id, request.repository_name)
        digest = request.subject_id.image_digest
        if not valid_digest(digest):
            raise errors.invalid_parameter("subjectId.imageDigest", f"'{digest}' is not an image digest")
        types = request.filter.artifact_types if request.filter else None
        status = (request.filter.artifact_status if request.filter else None) or "ACTIVE"
        found = [
            image
            for image in self._images.referrers(repository, digest)
            if (not types or artifact_type_of(image) in types) and status in ("ANY", _status(image))
        ]
        try:
            taken, token = page(found, lambda image: (image.digest,), request.max_results or PAGE, request.next_token)
        except BadToken as error:
            raise errors.invalid_parameter("nextToken", str(error)) from None
        return ecr.ListImageReferrersResponse(referrers=[_shown(image) for image in taken], next_token=token)


def _status(image: Image) -> str:
    return "ARCHIVED" if image.archived else "ACTIVE"


def _shown(image: Image) -> ecr.ImageReferrer:
    return ecr.ImageReferrer(
        digest=image.digest,
        media_type=image.media_type,
        artifact_type=artifact_type_of(image),
        size=image.manifest_size,
        annotations=image.annotations or None,
        artifact_status=_status(image),
    )
