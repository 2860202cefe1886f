"""Container instances: the nodes that agents have registered, seen from a cluster. Nodes belong to every cluster.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerInstance.html
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from contracts.aws import ecs
from contracts.records.agent import Node
from contracts.records.scheduler import CONTAINER_INSTANCE, TASK, Cluster, ContainerInstance
from services.scheduler.adapters import World
from services.scheduler.api.base import EcsBase
from services.scheduler.api.shapes import instance_arn
from services.scheduler.decisions import life, managed_daemons, names
from services.scheduler.decisions.attributes import MOST_ATTRIBUTES, check_attributes
from services.scheduler.decisions.pages import page
from services.scheduler.decisions.placement import Demand, facts_of
from services.scheduler.decisions.query import Expression, parse
from services.scheduler.handlers import node_attributes
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

_CHANGED = "container_instance.attributes_changed.v1"


class ContainerInstances(EcsBase):
    """ListContainerInstances and its like, and attributes."""

    async def list_container_instances(
        self, context: RequestContext, request: ecs.ListContainerInstancesRequest
    ) -> ecs.ListContainerInstancesResponse:
        """The ARNs of container instances, all but for the given status and filter expression."""
        cluster = self._seen_cluster(context, request.cluster)
        expression = parse(request.filter) if request.filter else None
        arns = sorted(
            instance_arn(cluster.account, cluster.region, cluster.name, node.node)
            for node in self.world.nodes_of(cluster.account, cluster.region, cluster.name)
            if request.status in (None, self._status(cluster, node))
            and (expression is None or self._holds(cluster, node, expression))
        )
        shown, token = page(arns, request.next_token, request.max_results)
        return ecs.ListContainerInstancesResponse(container_instance_arns=shown, next_token=token)

    def _holds(self, cluster: Cluster, node: Node, expression: Expression) -> bool:
        candidate = self.world.candidate(cluster.account, cluster.region, cluster.name, node.node)
        if candidate is None:
            return False
        scope = f"{cluster.account}/{cluster.region}/{cluster.name}/"
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
            node = self._node_of(cluster, reference)
            if node is None:
                failures.append(self._missing(cluster, reference))
            else:
                found.append(self._instance(cluster, node))
        return ecs.DescribeContainerInstancesResponse(container_instances=found, failures=failures)

    def _status(self, cluster: Cluster, node: Node) -> str:
        drained = self.world.draining(cluster.account, cluster.region, cluster.name, node.node)
        return "DRAINING" if drained else "ACTIVE"

    async def update_container_instances_state(
        self, context: RequestContext, request: ecs.UpdateContainerInstancesStateRequest
    ) -> ecs.UpdateContainerInstancesStateResponse:
        """Let the cluster's tasks leave these nodes (DRAINING), or let them take tasks again (ACTIVE)."""
        cluster = self._seen_cluster(context, request.cluster)
        if not 1 <= len(request.container_instances) <= 10:
            raise AwsError("InvalidParameterException", "Specify between 1 and 10 container instances.")
        if request.status not in ("ACTIVE", "DRAINING"):
            raise AwsError("InvalidParameterException", "Container instance status must be either ACTIVE or DRAINING.")
        event = "container_instance.draining.v1" if request.status == "DRAINING" else "container_instance.activated.v1"
        found, failures = [], []
        for reference in request.container_instances:
            node = self._node_of(cluster, reference)
            if node is None:
                failures.append(self._missing(cluster, reference))
                continue
            await self._change_instance(cluster, node.node, event, lambda old: replace(old, status=request.status))
            found.append(self._instance(cluster, node))
        return ecs.UpdateContainerInstancesStateResponse(container_instances=found, failures=failures)

    async def deregister_container_instance(
        self, context: RequestContext, request: ecs.DeregisterContainerInstanceRequest
    ) -> ecs.DeregisterContainerInstanceResponse:
        """Take a node out of the cluster: one write. With `force` what runs there is given up, and replaced elsewhere
        if it is a service's. An external node is refused from then on; another one is back when its agent registers
        anew."""
        cluster = self._own_cluster(context, request.cluster)
        node = self._node_of(cluster, request.container_instance)
        if node is None:
            raise AwsError("InvalidParameterException", "The specified container instance does not exist.")
        where = (cluster.account, cluster.region, cluster.name)
        alive = [task for task, status in self.world.tasks_on(node.node) if not life.over(task, status)]
        if not request.force and any(TASK.key_of(task)[:3] == where for task in alive):
            raise AwsError("InvalidParameterException", "Found running tasks on the instance.")
        shown = self._instance(cluster, node)
        out = {"status": "INACTIVE", "session": node.session}
        await self._change_instance(
            cluster, node.node, "container_instance.deregistered.v1", lambda old: replace(old, **out)
        )
        shown.status, shown.agent_connected = "INACTIVE", False
        return ecs.DeregisterContainerInstanceResponse(container_instance=shown)

    async def put_attributes(
        self, context: RequestContext, request: ecs.PutAttributesRequest
    ) -> ecs.PutAttributesResponse:
        """Give container instances attributes, or existing ones new values."""
        cluster = self._seen_cluster(context, request.cluster)
        if not 1 <= len(request.attributes) <= MOST_ATTRIBUTES:
            raise AwsError("InvalidParameterException", f"Specify between 1 and {MOST_ATTRIBUTES} attributes.")
        check_attributes(request.attributes)
        for node, own in self._by_node(cluster, request.attributes).items():
            new = {a.name: a.value or "" for a in own}
            await self._change_instance(
                cluster, node, _CHANGED, lambda old, new=new: _with(old, {**old.attributes, **new})
            )
        return ecs.PutAttributesResponse(attributes=request.attributes)

    async def delete_attributes(
        self, context: RequestContext, request: ecs.DeleteAttributesRequest
    ) -> ecs.DeleteAttributesResponse:
        """Take away attributes that were put. Those of the agent stay; what is not there is no error."""
        cluster = self._seen_cluster(context, request.cluster)
        if not 1 <= len(request.attributes) <= MOST_ATTRIBUTES:
            raise AwsError("InvalidParameterException", f"Specify between 1 and {MOST_ATTRIBUTES} attributes.")
        for node, own in self._by_node(cluster, request.attributes).items():
            gone = {a.name for a in own}
            await self._change_instance(
                cluster,
                node,
                _CHANGED,
                lambda old, gone=gone: _with(old, {k: v for k, v in old.attributes.items() if k not in gone}),
            )
        return ecs.DeleteAttributesResponse(attributes=request.attributes)

    async def list_attributes(
        self, context: RequestContext, request: ecs.ListAttributesRequest
    ) -> ecs.ListAttributesResponse:
        """The attributes of all container instances, all but for the given name and value."""
        cluster = self._seen_cluster(context, request.cluster)
        if request.attribute_value is not None and request.attribute_name is None:
            raise AwsError("InvalidParameterException", "attributeName must be specified with attributeValue.")
        found = {}
        for node in self.world.nodes_of(cluster.account, cluster.region, cluster.name):
            target = instance_arn(cluster.account, cluster.region, cluster.name, node.node)
            for name, value in node_attributes(self.world, cluster, node.node).items():
                if request.attribute_name in (None, name) and request.attribute_value in (None, value):
                    found[f"{target} {name}"] = ecs.Attribute(
                        name=name, value=value, target_type="container-instance", target_id=target
                    )
        shown, token = page(sorted(found), request.next_token, request.max_results)
        return ecs.ListAttributesResponse(attributes=[found[key] for key in shown], next_token=token)

    def _by_node(self, cluster: Cluster, attributes: list[ecs.Attribute]) -> dict[str, list[ecs.Attribute]]:
        """The attributes by the node that each is for. Raises TargetNotFoundException."""
        found: dict[str, list[ecs.Attribute]] = {}
        for attribute in attributes:
            if not attribute.target_id:
                raise AwsError("InvalidParameterException", "targetId must be specified for each attribute.")
            node = self._node_of(cluster, attribute.target_id)
            if node is None:
                raise AwsError("TargetNotFoundException", "The specified target wasn't found.")
            found.setdefault(node.node, []).append(attribute)
        return found

    async def _change_instance(
        self, cluster: Cluster, node: str, event: str, change: Callable[[ContainerInstance], ContainerInstance]
    ) -> None:
        key = (cluster.account, cluster.region, cluster.name, node)

        def changed(old: ContainerInstance | None) -> ContainerInstance:
            known = old or ContainerInstance(
                account=cluster.account, region=cluster.region, cluster=cluster.name, node=node
            )
            if known.status == "INACTIVE":  # its agent has registered anew, or nothing would be changed
                known = replace(known, status="ACTIVE", session="")
            new = change(known)
            return old if old is not None and new == old else replace(new, version=known.version + 1)

        await self.world.store.update(CONTAINER_INSTANCE, key, changed, event)

    def _node_of(self, cluster: Cluster, reference: str) -> Node | None:
        name = self.world.node_of_instance(names.last_part(reference))
        if name is None or not self.world.belongs(cluster.account, cluster.region, cluster.name, name):
            return None
        return self.world.nodes.record(name)

    def _missing(self, cluster: Cluster, reference: str) -> ecs.Failure:
        instance_id = names.last_part(reference)
        arn = names.arn(cluster.account, cluster.region, "container-instance", cluster.name, instance_id)
        return ecs.Failure(arn=arn, reason="MISSING")

    def _instance(self, cluster: Cluster, node: Node) -> ecs.ContainerInstance:
        return instance_shape(self.world, cluster, node)


def instance_shape(world: World, cluster: Cluster, node: Node) -> ecs.ContainerInstance:
    """A node as DescribeContainerInstances shows it in a cluster. Its version grows with each record of it."""
    where = (cluster.account, cluster.region, cluster.name, node.node)
    used = world.ledger.usage(node.node)
    ports = sorted(str(port) for port in used.ports)
    states = [life.counts_as(task, status) for task, status in world.tasks_on(node.node)]
    attributes = node_attributes(world, cluster, node.node)
    return ecs.ContainerInstance(
        container_instance_arn=instance_arn(*where),
        ec2_instance_id=node.node,
        version=world.nodes.sequence((node.node,)) + world.instances.sequence(where),
        version_info=ecs.VersionInfo(agent_version=node.agent_version, docker_version=node.runtime),
        registered_resources=_resources(node.cpu_units, node.memory_mib, [], node.gpus),
        remaining_resources=_resources(
            node.cpu_units - used.cpu,
            node.memory_mib - used.memory,
            ports,
            [gpu for gpu in node.gpus if gpu not in used.gpus],
        ),
        status="DRAINING" if world.draining(*where) else "ACTIVE",
        status_reason=managed_daemons.impaired_reason(world.impaired.by(*where)) or None,
        agent_connected=world.connected(node.node),
        running_tasks_count=states.count("running"),
        pending_tasks_count=states.count("pending"),
        attributes=[ecs.Attribute(name=name, value=value) for name, value in sorted(attributes.items())],
        registered_at=node.registered_at,
        attachments=[],
        tags=[],
    )


def _with(instance: ContainerInstance, attributes: dict[str, str]) -> ContainerInstance:
    return replace(instance, attributes=attributes)


def _resources(cpu: int, memory: int, ports: list[str], gpus: list[str]) -> list[ecs.Resource]:
    gpu = ecs.Resource(name="GPU", type="STRINGSET", string_set_value=gpus, double_value=0.0, long_value=0)
    return [
        ecs.Resource(name="CPU", type="INTEGER", integer_value=cpu, double_value=0.0, long_value=0),
        ecs.Resource(name="MEMORY", type="INTEGER", integer_value=memory, double_value=0.0, long_value=0),
        ecs.Resource(name="PORTS", type="STRINGSET", string_set_value=ports, double_value=0.0, long_value=0),
        *([gpu] if gpus else []),
    ]
