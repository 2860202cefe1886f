"""Container instances: the nodes that agents have registered, seen from a cluster. Nodes belong to every cluster.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerInstance.html
"""

from __future__ import annotations

from contracts.aws import ecs
from contracts.records.agent import Node
from contracts.records.scheduler import Cluster
from services.scheduler.api.base import EcsBase
from services.scheduler.api.shapes import instance_arn
from services.scheduler.decisions import life, names
from services.scheduler.decisions.pages import page
from services.scheduler.decisions.placement import Demand, facts_of
from services.scheduler.decisions.query import Expression, parse
from services.scheduler.handlers import node_attributes
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError


class ContainerInstances(EcsBase):
    """ListContainerInstances and DescribeContainerInstances."""

    async def list_container_instances(
        self, context: RequestContext, request: ecs.ListContainerInstancesRequest
    ) -> ecs.ListContainerInstancesResponse:
        """The ARNs of container instances, all but for the given status and filter expression."""
        cluster = self._seen_cluster(context, request.cluster)
        expression = parse(request.filter) if request.filter else None
        arns = sorted(
            instance_arn(cluster.account, cluster.region, cluster.name, node.node)
            for node in self.world.nodes.records()
            if request.status in (None, _status(node))
            and (expression is None or self._holds(cluster, node, expression))
        )
        shown, token = page(arns, request.next_token, request.max_results)
        return ecs.ListContainerInstancesResponse(container_instance_arns=shown, next_token=token)

    def _holds(self, cluster: Cluster, node: Node, expression: Expression) -> bool:
        entry = self.world.nodes.get(node.node)
        if entry is None:
            return False
        scope = f"{cluster.account}/{cluster.region}/{cluster.name}/"
        candidate = self.world.candidate(entry.record, entry.sequence)
        demand = Demand(scope=scope, expressions=(expression,))
        return expression.holds(facts_of(candidate, self.world.ledger.usage(node.node), demand))

    async def describe_container_instances(
        self, context: RequestContext, request: ecs.DescribeContainerInstancesRequest
    ) -> ecs.DescribeContainerInstancesResponse:
        """The named container instances; those that are not there as MISSING failures."""
        cluster = self._seen_cluster(context, request.cluster)
        if not 1 <= len(request.container_instances) <= 100:
            raise AwsError("InvalidParameterException", "Specify between 1 and 100 container instances.")
        found, failures = [], []
        for reference in request.container_instances:
            instance_id = names.last_part(reference)
            node = self.world.nodes.record(self.world.node_of_instance(instance_id) or "")
            if node is None:
                arn = names.arn(cluster.account, cluster.region, "container-instance", cluster.name, instance_id)
                failures.append(ecs.Failure(arn=arn, reason="MISSING"))
            else:
                found.append(self._instance(cluster, node))
        return ecs.DescribeContainerInstancesResponse(container_instances=found, failures=failures)

    def _instance(self, cluster: Cluster, node: Node) -> ecs.ContainerInstance:
        used = self.world.ledger.usage(node.node)
        ports = sorted(str(port) for port in used.ports)
        states = [life.counts_as(task, status) for task, status in self.world.tasks_on(node.node)]
        connected = self.world.connected(node.node)
        attributes = node_attributes(self.world, node.node)
        return ecs.ContainerInstance(
            container_instance_arn=instance_arn(cluster.account, cluster.region, cluster.name, node.node),
            ec2_instance_id=node.node,
            version=1,
            version_info=ecs.VersionInfo(agent_version=node.agent_version, docker_version=node.runtime),
            registered_resources=_resources(node.cpu_units, node.memory_mib, []),
            remaining_resources=_resources(node.cpu_units - used.cpu, node.memory_mib - used.memory, ports),
            status=_status(node),
            agent_connected=connected,
            running_tasks_count=states.count("running"),
            pending_tasks_count=states.count("pending"),
            attributes=[ecs.Attribute(name=name, value=value) for name, value in sorted(attributes.items())],
            registered_at=node.registered_at,
            attachments=[],
            tags=[],
        )


def _status(node: Node) -> str:
    return "DRAINING" if node.draining else "ACTIVE"


def _resources(cpu: int, memory: int, ports: list[str]) -> list[ecs.Resource]:
    return [
        ecs.Resource(name="CPU", type="INTEGER", integer_value=cpu, double_value=0.0, long_value=0),
        ecs.Resource(name="MEMORY", type="INTEGER", integer_value=memory, double_value=0.0, long_value=0),
        ecs.Resource(name="PORTS", type="STRINGSET", string_set_value=ports, double_value=0.0, long_value=0),
    ]
