"""What Amazon's own ECS agent says to ECS. Nodes of Roadstead run Roadstead's agent, which speaks NATS, so these answer
that the other one can't join, instead of taking in what nobody would act upon.
"""

from __future__ import annotations

from typing import NoReturn

from contracts.aws import ecs
from services.scheduler.api.base import EcsBase
from services.scheduler.decisions import names
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError


class AgentWire(EcsBase):
    """RegisterContainerInstance, the Submit… operations, DiscoverPollEndpoint, UpdateContainerAgent."""

    async def register_container_instance(
        self, context: RequestContext, request: ecs.RegisterContainerInstanceRequest
    ) -> ecs.RegisterContainerInstanceResponse:
        """Refused: a machine joins by `roadstead node`."""
        _refuse()

    async def discover_poll_endpoint(
        self, context: RequestContext, request: ecs.DiscoverPollEndpointRequest
    ) -> ecs.DiscoverPollEndpointResponse:
        """Refused: there is nothing to poll."""
        _refuse()

    async def submit_task_state_change(
        self, context: RequestContext, request: ecs.SubmitTaskStateChangeRequest
    ) -> ecs.SubmitTaskStateChangeResponse:
        """Refused: what tasks are is told by their own agents."""
        _refuse()

    async def submit_container_state_change(
        self, context: RequestContext, request: ecs.SubmitContainerStateChangeRequest
    ) -> ecs.SubmitContainerStateChangeResponse:
        """Refused, as SubmitTaskStateChange is."""
        _refuse()

    async def submit_attachment_state_changes(
        self, context: RequestContext, request: ecs.SubmitAttachmentStateChangesRequest
    ) -> ecs.SubmitAttachmentStateChangesResponse:
        """Refused, as SubmitTaskStateChange is."""
        _refuse()

    async def update_container_agent(
        self, context: RequestContext, request: ecs.UpdateContainerAgentRequest
    ) -> ecs.UpdateContainerAgentResponse:
        """Refused: an agent is as new as the installation that it was started from."""
        cluster = self._seen_cluster(context, request.cluster)
        node = self.world.node_of_instance(names.last_part(request.container_instance))
        if node is None or not self.world.belongs(cluster.account, cluster.region, cluster.name, node):
            raise AwsError("InvalidParameterException", "The specified container instance does not exist.")
        raise AwsError("NoUpdateAvailableException", "There is no update available for your container agent.")


def _refuse() -> NoReturn:
    said = "Amazon's ECS agent can't join Roadstead: a machine joins with an SSM activation, by `roadstead node "
    raise AwsError("ClientException", f"{said}--activation-id … --activation-code … --endpoint …`.")
