"""Automatic deployments: a tag that moves begins a deployment of every service that follows it."""

from __future__ import annotations

from contracts.records.app_runner_gateway import APP_SERVICE, AppService
from contracts.records.registry import ImageTag
from services.app_runner_gateway.adapters.world import World
from services.app_runner_gateway.decisions.life import revision
from services.app_runner_gateway.decisions.requests import ecr_image
from services.app_runner_gateway.handlers.services import mark_moved
from services.shared.consumers import Event


class Images:
    """`on_tag_moved` handles `tag.moved.v1`."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def on_tag_moved(self, event: Event) -> None:
        """One write for each service that is to be deployed; the controller begins when nothing else is in progress."""
        tag = event.record
        if not isinstance(tag, ImageTag):
            return
        for service in self._world.services.records():
            if follows(service, tag):
                await mark_moved(self._world, APP_SERVICE.key_of(service))


def follows(service: AppService, tag: ImageTag) -> bool:
    """Whether a service is deployed automatically from this tag, and does not run this very image already."""
    if not service.source.get("AutoDeploymentsEnabled"):
        return False
    image = ecr_image(service.source["ImageRepository"]["ImageIdentifier"])
    if image is None:
        return False
    if (image.account, image.region, image.repository, image.tag) != (tag.account, tag.region, tag.repository, tag.tag):
        return False
    newest = revision(service, service.candidate or service.active)
    return newest is None or not newest.image.endswith(f"@{tag.digest}")
