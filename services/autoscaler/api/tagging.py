"""Tags of scalable targets."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from contracts.aws import application_autoscaling as aas
from contracts.records.autoscaler import SCALABLE_TARGET, ScalableTarget
from services.autoscaler.api.base import AutoScalingBase
from services.autoscaler.api.targets import MOST_TAGS
from services.autoscaler.decisions import names
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

_Tags = dict[str, str]


class Tagging(AutoScalingBase):
    """TagResource and its like."""

    async def tag_resource(
        self, context: RequestContext, request: aas.TagResourceRequest
    ) -> aas.TagResourceResponse:  # fmt: skip
        """Add tags, or change their values."""

        def tagged(old: _Tags) -> _Tags:
            new = {**old, **request.tags}
            if len(new) > MOST_TAGS:
                raise AwsError("TooManyTagsException", f"A scalable target has at most {MOST_TAGS} tags.")
            return new

        await self._change(context, request.resource_arn, tagged)
        return aas.TagResourceResponse()

    async def untag_resource(
        self, context: RequestContext, request: aas.UntagResourceRequest
    ) -> aas.UntagResourceResponse:
        """Take tags away; no error for those that are not there."""
        gone = set(request.tag_keys)
        await self._change(context, request.resource_arn, lambda old: {k: v for k, v in old.items() if k not in gone})
        return aas.UntagResourceResponse()

    async def list_tags_for_resource(
        self, context: RequestContext, request: aas.ListTagsForResourceRequest
    ) -> aas.ListTagsForResourceResponse:
        """The tags of a target."""
        return aas.ListTagsForResourceResponse(tags=self._target(context, request.resource_arn).tags)

    async def _change(self, context: RequestContext, arn: str, tags: Callable[[_Tags], _Tags]) -> None:
        target = self._target(context, arn)

        def change(old: ScalableTarget | None) -> ScalableTarget:
            if old is None:
                raise _missing(arn)
            new = tags(old.tags)
            return old if new == old.tags else replace(old, tags=new)

        key = SCALABLE_TARGET.key_of(target)
        await self.world.store.update(SCALABLE_TARGET, key, change, "scalable_target.tagged.v1")

    def _target(self, context: RequestContext, arn: str) -> ScalableTarget:
        targets = self.world.targets.records(context.account, context.region)
        found = next((t for t in targets if names.target_arn(t) == arn), None)
        if found is None:
            raise _missing(arn)
        return found


def _missing(arn: str) -> AwsError:
    return AwsError("ResourceNotFoundException", f"The resource {arn} doesn't exist.", ResourceName=arn)
