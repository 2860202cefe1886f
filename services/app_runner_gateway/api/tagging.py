"""Tags of services and auto-scaling configurations."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from contracts.aws import apprunner as ar
from contracts.records.app_runner_gateway import APP_SERVICE, AUTO_SCALING
from services.app_runner_gateway.api.base import AppRunnerBase
from services.app_runner_gateway.decisions.requests import invalid
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

MOST_TAGS = 50


class Tagging(AppRunnerBase):
    """TagResource and its like."""

    async def tag_resource(self, context: RequestContext, request: ar.TagResourceRequest) -> ar.TagResourceResponse:
        """Add tags, or give them other values."""
        fresh = {t.key: t.value or "" for t in request.tags if t.key}
        await self._change(context, request.resource_arn, lambda old: {**old, **fresh})
        return ar.TagResourceResponse()

    async def untag_resource(
        self, context: RequestContext, request: ar.UntagResourceRequest
    ) -> ar.UntagResourceResponse:  # fmt: skip
        """Take tags away."""
        gone = set(request.tag_keys)
        await self._change(context, request.resource_arn, lambda old: {k: v for k, v in old.items() if k not in gone})
        return ar.UntagResourceResponse()

    async def list_tags_for_resource(
        self, context: RequestContext, request: ar.ListTagsForResourceRequest
    ) -> ar.ListTagsForResourceResponse:
        """All tags of one."""
        _, record = self._tagged(context, request.resource_arn)
        tags = [ar.Tag(key=k, value=v) for k, v in sorted(record.tags.items())]
        return ar.ListTagsForResourceResponse(tags=tags)

    def _tagged(self, context: RequestContext, arn: str) -> tuple[Any, Any]:
        if ":autoscalingconfiguration/" in arn:
            return AUTO_SCALING, self.scaling(context, arn)
        service = self.service(context, arn)
        if service.status == "DELETED":
            raise AwsError("ResourceNotFoundException", f"Service with the provided ARN does not exist: {arn}")
        return APP_SERVICE, service

    async def _change(self, context: RequestContext, arn: str, changed: Any) -> None:
        kind, record = self._tagged(context, arn)

        def change(old: Any) -> Any:
            if old is None:
                raise invalid("DefaultConfiguration can't be tagged.")
            tags = changed(old.tags)
            if len(tags) > MOST_TAGS:
                raise invalid(f"At most {MOST_TAGS} tags.")
            return replace(old, tags=tags) if tags != old.tags else old

        event = "app_service.tagged.v1" if kind is APP_SERVICE else "auto_scaling.tagged.v1"
        await self.world.store.update(kind, kind.key_of(record), change, event)
