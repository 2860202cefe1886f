"""ECR: images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from contracts.aws import ecr
from contracts.records.registry import Image
from services.registry.api.base import EcrOperations
from services.registry.decisions.manifests import ManifestInvalid, artifact_type_of
from services.registry.decisions.names import RepositoryId, valid_digest, valid_tag
from services.registry.decisions.pages import BadToken, page
from services.registry.handlers import errors
from services.registry.handlers.images import ImageReferenced, as_aws_error
from services.registry.handlers.policies import asker_of
from services.registry.handlers.pull_through import HELD, Answer
from services.registry.ports import KeyRefused, LoginFailed, UpstreamFailed
from services.shared.authorization import request_keys
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

PAGE = 100
_Item = TypeVar("_Item")


class _Failed(Exception):
    """One image of a batch can't be had."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class ImageOperations(EcrOperations):
    """PutImage and what goes with it."""

    async def put_image(self, context: RequestContext, request: ecr.PutImageRequest) -> ecr.PutImageResponse:
        """Take in a manifest whose layers are there."""
        repository = self._existing(context, request.registry_id, request.repository_name)
        tag = request.image_tag
        if tag is not None and not valid_tag(tag):
            raise errors.invalid_parameter("imageTag", f"'{tag}' is not a tag")
        try:
            image = await self._images.push(
                repository,
                request.image_manifest.encode(),
                request.image_manifest_media_type or "",
                tag=tag,
                digest=request.image_digest,
                strict=True,
                signings=self._signing.wanted(repository, asker_of(context), lambda: request_keys(context)),
            )
        except ManifestInvalid as error:
            raise as_aws_error(error) from None
        return ecr.PutImageResponse(
            image=ecr.Image(
                registry_id=repository.account,
                repository_name=repository.name,
                image_id=ecr.ImageIdentifier(image_digest=image.digest, image_tag=tag),
                image_manifest=request.image_manifest,
                image_manifest_media_type=image.media_type,
            )
        )

    async def describe_images(
        self, context: RequestContext, request: ecr.DescribeImagesRequest
    ) -> ecr.DescribeImagesResponse:
        """Images by id, or all in pages."""
        repository = self._existing(context, request.registry_id, request.repository_name)
        tags = self._images.tags(repository)
        if request.image_ids:
            if request.next_token or request.max_results:
                raise AwsError("InvalidParameterException", "imageIds can't be used with nextToken or maxResults")
            found = {image.digest: image for image in (self._image(repository, each) for each in request.image_ids)}
            details = [self._detail(image, tags.get(image.digest)) for image in found.values()]
            return ecr.DescribeImagesResponse(image_details=details)
        status = request.filter.tag_status if request.filter else None
        archived = request.filter.image_status if request.filter else None
        images = [
            image
            for image in self._images.all(repository)
            if _wanted(status, image.digest in tags) and _is_told(archived, image)
        ]
        taken, token = _page(images, lambda image: (image.digest,), request.max_results, request.next_token)
        return ecr.DescribeImagesResponse(
            image_details=[self._detail(image, tags.get(image.digest)) for image in taken], next_token=token
        )

    async def list_images(self, context: RequestContext, request: ecr.ListImagesRequest) -> ecr.ListImagesResponse:
        """The ids of images: one for each tag, and one for each image without."""
        repository = self._existing(context, request.registry_id, request.repository_name)
        status = request.filter.tag_status if request.filter else None
        archived = request.filter.image_status if request.filter else None
        tags = self._images.tags(repository)
        images = [image for image in self._images.all(repository) if _is_told(archived, image)]
        ids = [(image.digest, tag) for image in images for tag in tags.get(image.digest, [""])]
        wanted = [each for each in ids if _wanted(status, bool(each[1]))]
        taken, token = _page(wanted, lambda each: each, request.max_results, request.next_token)
        return ecr.ListImagesResponse(
            image_ids=[ecr.ImageIdentifier(image_digest=digest, image_tag=tag or None) for digest, tag in taken],
            next_token=token,
        )

    async def batch_get_image(
        self, context: RequestContext, request: ecr.BatchGetImageRequest
    ) -> ecr.BatchGetImageResponse:
        """Manifests by id. They are given as they were pushed, whatever media types are accepted. What a pull-through
        cache does not have yet comes from its upstream."""
        repository = self._id(context, request.registry_id, request.repository_name)
        if not self._pull_through.covers(repository):
            self._repositories.get(repository)
        images, failures = [], []
        for each in request.image_ids:
            try:
                digest, media_type, manifest = await self._pulled(context, repository, each)
            except _Failed as failed:
                failures.append(_failure(each, failed))
                continue
            images.append(
                ecr.Image(
                    registry_id=repository.account,
                    repository_name=repository.name,
                    image_id=ecr.ImageIdentifier(image_digest=digest, image_tag=each.image_tag),
                    image_manifest=manifest.decode(),
                    image_manifest_media_type=media_type,
                )
            )
        return ecr.BatchGetImageResponse(images=images, failures=failures)

    async def _pulled(
        self, context: RequestContext, repository: RepositoryId, each: ecr.ImageIdentifier
    ) -> tuple[str, str, bytes]:
        """(digest, media type, manifest) of an image that is pulled."""
        _check_id(each)
        answer = HELD
        if self._pull_through.covers(repository):
            answer = await self._from_upstream(context, repository, each.image_digest or each.image_tag or "")
        if answer.coming is not None:
            return answer.coming.digest, answer.coming.media_type, answer.coming.data
        image = _active(self._of_batch(repository, each))
        try:
            manifest = await self._images.manifest(repository, image.digest)
        except KeyRefused as refused:
            raise _Failed("KmsError", refused.message) from None
        self._images.pulls.pulled(image, context.principal_arn)
        return image.digest, image.media_type, manifest

    async def _from_upstream(self, context: RequestContext, repository: RepositoryId, reference: str) -> Answer:
        def allow() -> None:
            self._policies.require_import(asker_of(context), repository, lambda: request_keys(context))

        try:
            return await self._pull_through.image(repository, reference, allow)
        except LoginFailed as error:
            raise _Failed("UpstreamAccessDenied", str(error)) from None
        except UpstreamFailed as error:
            code = "ImageNotFound" if error.unknown else "UpstreamUnavailable"
            raise _Failed(code, str(error)) from None

    async def batch_delete_image(
        self, context: RequestContext, request: ecr.BatchDeleteImageRequest
    ) -> ecr.BatchDeleteImageResponse:
        """Delete images by digest (with all their tags), or by tag (with the last tag the image goes)."""
        repository = self._existing(context, request.registry_id, request.repository_name)
        deleted: list[ecr.ImageIdentifier] = []
        failures = []
        for each in request.image_ids:
            try:
                deleted += await self._delete(repository, each)
            except _Failed as failed:
                failures.append(_failure(each, failed))
        return ecr.BatchDeleteImageResponse(image_ids=deleted, failures=failures)

    async def _delete(self, repository: RepositoryId, each: ecr.ImageIdentifier) -> list[ecr.ImageIdentifier]:
        image = self._of_batch(repository, each)
        try:
            if each.image_tag is not None:
                await self._images.untag(repository, each.image_tag, last_takes_image=True)
                return [ecr.ImageIdentifier(image_digest=image.digest, image_tag=each.image_tag)]
            tags = await self._images.delete(repository, image.digest) or []
        except ImageReferenced as error:
            raise _Failed("ImageReferencedByManifestList", str(error)) from None
        return [ecr.ImageIdentifier(image_digest=image.digest, image_tag=tag) for tag in tags or [None]]

    def _of_batch(self, repository: RepositoryId, each: ecr.ImageIdentifier) -> Image:
        _check_id(each)
        digest, tag = each.image_digest, each.image_tag
        image = self._images.find(repository, digest or tag or "")
        if image is None:
            raise _Failed("ImageNotFound", "Requested image not found")
        if digest is not None and tag is not None and self._images.tagged(repository, tag) != digest:
            raise _Failed("ImageTagDoesNotMatchDigest", "The tag does not name the image with this digest")
        return image

    def _detail(self, image: Image, tags: list[str] | None) -> ecr.ImageDetail:
        status, findings = self._scanning.told(image)
        return ecr.ImageDetail(
            registry_id=image.account,
            repository_name=image.repository,
            image_digest=image.digest,
            image_tags=tags,
            image_size_in_bytes=self._images.size_of(image),
            image_pushed_at=image.pushed_at,
            image_scan_status=status,
            image_scan_findings_summary=findings,
            image_manifest_media_type=image.media_type,
            artifact_media_type=artifact_type_of(image),
            subject_manifest_digest=image.subject,
            last_recorded_pull_time=self._images.pulled_at(image) or None,
            image_status="ARCHIVED" if image.archived else "ACTIVE",
            last_archived_at=image.archived_at or None,
            last_activated_at=image.activated_at or None,
        )

    def _image(self, repository: RepositoryId, each: ecr.ImageIdentifier) -> Image:
        try:
            return self._of_batch(repository, each)
        except _Failed as failed:
            if failed.code in ("ImageNotFound", "ImageTagDoesNotMatchDigest"):
                raise errors.image_not_found(repository, each.image_digest, each.image_tag) from None
            raise AwsError("InvalidParameterException", str(failed)) from None


def _check_id(each: ecr.ImageIdentifier) -> None:
    digest, tag = each.image_digest, each.image_tag
    if digest is None and tag is None:
        raise _Failed("MissingDigestAndTag", "Invalid request parameters: both tag and digest cannot be null")
    if digest is not None and not valid_digest(digest):
        raise _Failed("InvalidImageDigest", f"Invalid request parameters: '{digest}' is not an image digest")
    if tag is not None and not valid_tag(tag):
        raise _Failed("InvalidImageTag", f"Invalid request parameters: '{tag}' is not an image tag")


def _page(
    items: list[_Item], key: Callable[[_Item], tuple[str, ...]], size: int | None, token: str | None
) -> tuple[list[_Item], str | None]:
    try:
        return page(items, key, size or PAGE, token)
    except BadToken as error:
        raise errors.invalid_parameter("nextToken", str(error)) from None


def _wanted(status: str | None, tagged: bool) -> bool:
    return status in (None, "ANY") or (status == "TAGGED") == tagged


def _is_told(wanted: str | None, image: Image) -> bool:
    """Whether an image has the status that is asked for, ACTIVE when nothing is said, and is one of the user's: what
    the platform attached to one is told of by name, and by ListImageReferrers. Nothing is ever ACTIVATING here: it is
    done at once."""
    if image.attached:
        return False
    return wanted == "ANY" or (wanted or "ACTIVE") == ("ARCHIVED" if image.archived else "ACTIVE")


def _active(image: Image) -> Image:
    if image.archived:
        raise _Failed("ImageNotFound", "Requested image is archived: activate it with UpdateImageStorageClass")
    return image


def _failure(each: ecr.ImageIdentifier, failed: _Failed) -> ecr.ImageFailure:
    return ecr.ImageFailure(image_id=each, failure_code=failed.code, failure_reason=str(failed))
