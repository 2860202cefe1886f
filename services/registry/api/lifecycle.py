"""ECR: lifecycle policies and their previews. The rules are in decisions/lifecycle.py."""

from __future__ import annotations

from contracts.aws import ecr
from contracts.records.registry import Image
from services.registry.api.base import EcrOperations
from services.registry.decisions.lifecycle import Due
from services.registry.decisions.lifecycle_text import BadLifecycle, read_lifecycle
from services.registry.decisions.names import RepositoryId
from services.registry.decisions.pages import BadToken, page
from services.registry.handlers import errors
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

PAGE = 100
PREVIEW_LIFE_S = 24 * 3600.0


class LifecycleOperations(EcrOperations):
    """PutLifecyclePolicy and what goes with it."""

    async def put_lifecycle_policy(
        self, context: RequestContext, request: ecr.PutLifecyclePolicyRequest
    ) -> ecr.PutLifecyclePolicyResponse:
        """Set the policy of a repository. It is carried out soon after, and then daily."""
        repository = self._id(context, request.registry_id, request.repository_name)
        _check(request.lifecycle_policy_text)
        await self._lifecycle.put(repository, request.lifecycle_policy_text)
        return ecr.PutLifecyclePolicyResponse(
            registry_id=repository.account,
            repository_name=repository.name,
            lifecycle_policy_text=request.lifecycle_policy_text,
        )

    async def get_lifecycle_policy(
        self, context: RequestContext, request: ecr.GetLifecyclePolicyRequest
    ) -> ecr.GetLifecyclePolicyResponse:
        """The policy as it was set."""
        repository = self._id(context, request.registry_id, request.repository_name)
        record = self._repositories.get(repository)
        if not record.lifecycle:
            raise errors.lifecycle_not_found(repository)
        return ecr.GetLifecyclePolicyResponse(
            registry_id=repository.account,
            repository_name=repository.name,
            lifecycle_policy_text=record.lifecycle,
            last_evaluated_at=record.lifecycle_evaluated_at or None,
        )

    async def delete_lifecycle_policy(
        self, context: RequestContext, request: ecr.DeleteLifecyclePolicyRequest
    ) -> ecr.DeleteLifecyclePolicyResponse:
        """Take the policy away."""
        repository = self._id(context, request.registry_id, request.repository_name)
        record = self._repositories.get(repository)
        if not record.lifecycle:
            raise errors.lifecycle_not_found(repository)
        await self._lifecycle.put(repository, "")
        return ecr.DeleteLifecyclePolicyResponse(
            registry_id=repository.account,
            repository_name=repository.name,
            lifecycle_policy_text=record.lifecycle,
            last_evaluated_at=record.lifecycle_evaluated_at or None,
        )

    async def start_lifecycle_policy_preview(
        self, context: RequestContext, request: ecr.StartLifecyclePolicyPreviewRequest
    ) -> ecr.StartLifecyclePolicyPreviewResponse:
        """See what a policy would do, or the one that is set."""
        repository = self._id(context, request.registry_id, request.repository_name)
        text = request.lifecycle_policy_text or self._repositories.get(repository).lifecycle
        if not text:
            raise errors.lifecycle_not_found(repository)
        _check(text)
        await self._lifecycle.preview(repository, text)
        return ecr.StartLifecyclePolicyPreviewResponse(
            registry_id=repository.account,
            repository_name=repository.name,
            lifecycle_policy_text=text,
            status="IN_PROGRESS",
        )

    async def get_lifecycle_policy_preview(
        self, context: RequestContext, request: ecr.GetLifecyclePolicyPreviewRequest
    ) -> ecr.GetLifecyclePolicyPreviewResponse:
        """The images that would go, the oldest first, each with the rule that says so."""
        repository = self._id(context, request.registry_id, request.repository_name)
        preview = self._repositories.get(repository).preview
        if preview is None:
            raise errors.preview_not_found(repository)
        answer = ecr.GetLifecyclePolicyPreviewResponse(
            registry_id=repository.account,
            repository_name=repository.name,
            lifecycle_policy_text=preview.policy,
            status="EXPIRED" if self._clock() > preview.started_at + PREVIEW_LIFE_S else "COMPLETE",
            preview_results=[],
        )
        if answer.status == "EXPIRED":
            return answer
        found = await self._lifecycle.previewed(repository, preview)
        answer.summary = _summary(found)
        images = [(each, image) for each in found if (image := self._images.find(repository, each.digest)) is not None]
        chosen = self._chosen(repository, request, images)
        try:
            taken, answer.next_token = page(chosen, _order, request.max_results or PAGE, request.next_token)
        except BadToken as error:
            raise errors.invalid_parameter("nextToken", str(error)) from None
        answer.preview_results = [_result(each, image) for each, image in taken]
        return answer

    def _chosen(
        self,
        repository: RepositoryId,
        request: ecr.GetLifecyclePolicyPreviewRequest,
        images: list[tuple[Due, Image]],
    ) -> list[tuple[Due, Image]]:
        if request.image_ids:
            if request.next_token or request.max_results:
                raise AwsError("InvalidParameterException", "imageIds can't be used with nextToken or maxResults")
            wanted = {
                each.image_digest or self._images.tagged(repository, each.image_tag or "") for each in request.image_ids
            }
            images = [pair for pair in images if pair[0].digest in wanted]
        status = request.filter.tag_status if request.filter else None
        if status in (None, "ANY"):
            return images
        return [pair for pair in images if (status == "TAGGED") == bool(pair[0].tags)]


def _check(text: str) -> None:
    try:
        read_lifecycle(text)
    except BadLifecycle as error:
        raise errors.invalid_parameter("LifecyclePolicyText", f"Lifecycle policy validation failure: {error}") from None


def _order(pair: tuple[Due, Image]) -> tuple[str, ...]:
    return f"{pair[1].activated_at or pair[1].pushed_at:020.6f}", pair[0].digest


def _summary(found: list[Due]) -> ecr.LifecyclePolicyPreviewSummary:
    archived = sum(each.archive for each in found)
    return ecr.LifecyclePolicyPreviewSummary(
        expiring_image_total_count=len(found) - archived,
        transitioning_image_total_counts=[
            ecr.TransitioningImageTotalCount(target_storage_class="ARCHIVE", image_total_count=archived)
        ],
    )


def _result(each: Due, image: Image) -> ecr.LifecyclePolicyPreviewResult:
    action = (
        ecr.LifecyclePolicyRuleAction(type="TRANSITION", target_storage_class="ARCHIVE")
        if each.archive
        else ecr.LifecyclePolicyRuleAction(type="EXPIRE")
    )
    return ecr.LifecyclePolicyPreviewResult(
        image_tags=list(each.tags) or None,
        image_digest=each.digest,
        image_pushed_at=image.pushed_at,
        action=action,
        applied_rule_priority=each.priority,
        storage_class="ARCHIVE" if image.archived else "STANDARD",
    )
