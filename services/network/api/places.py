"""The default VPC, its subnets, the tasks' interfaces: what there is, told in EC2's words."""

from __future__ import annotations

from contracts.aws import ec2
from contracts.records.agent import TaskStatus
from contracts.records.network import SecurityGroup
from contracts.records.scheduler import Task
from services.network.api.base import NetworkBase, dry
from services.network.decisions import usage
from services.network.decisions.filters import page, selected
from services.network.decisions.places import (
    INTERFACE_FILTERS,
    SUBNET_FILTERS,
    VPC_FILTERS,
    Interface,
    interface_facts,
    interface_shape,
    subnet_facts,
    subnet_shapes,
    vpc_facts,
    vpc_shape,
)
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError


class Places(NetworkBase):
    """DescribeVpcs, DescribeSubnets, DescribeNetworkInterfaces."""

    async def describe_vpcs(self, context: RequestContext, request: ec2.DescribeVpcsRequest) -> ec2.DescribeVpcsResult:
        """The default VPC. Raises AwsError."""
        dry(request)
        for wanted in request.vpc_ids or ():
            self.check_vpc(context, wanted)
        vpc = vpc_shape(context.account, context.region, await self.world.nodes())
        return ec2.DescribeVpcsResult(vpcs=selected([vpc], request.filters, VPC_FILTERS, vpc_facts))

    async def describe_subnets(
        self, context: RequestContext, request: ec2.DescribeSubnetsRequest
    ) -> ec2.DescribeSubnetsResult:
        """A subnet for each zone that has nodes. Raises AwsError."""
        dry(request)
        used = [task.zone for task, _ in await self._with_interfaces(context)]
        found = subnet_shapes(context.account, context.region, await self.world.nodes(), used)
        known = {subnet.subnet_id for subnet in found}
        for wanted in request.subnet_ids or ():
            if wanted not in known:
                raise AwsError("InvalidSubnetID.NotFound", f"The subnet ID '{wanted}' does not exist")
        named = [each for each in found if not request.subnet_ids or each.subnet_id in request.subnet_ids]
        passed = selected(named, request.filters, SUBNET_FILTERS, subnet_facts)
        shown, token = page(passed, lambda s: s.subnet_id or "", request.max_results, request.next_token)
        return ec2.DescribeSubnetsResult(subnets=shown, next_token=token)

    async def describe_network_interfaces(
        self, context: RequestContext, request: ec2.DescribeNetworkInterfacesRequest
    ) -> ec2.DescribeNetworkInterfacesResult:
        """The interfaces of the tasks that there are, with the groups that are in force. Raises AwsError."""
        dry(request)
        found = {}
        for task, status in await self._with_interfaces(context):
            shape = interface_shape(self._interface(task, status))
            found[shape.network_interface_id or ""] = shape
        for wanted in request.network_interface_ids or ():
            if wanted not in found:
                text = f"The networkInterface ID '{wanted}' does not exist"
                raise AwsError("InvalidNetworkInterfaceID.NotFound", text)
        named = [found[each] for each in request.network_interface_ids or found]
        passed = selected(named, request.filters, INTERFACE_FILTERS, interface_facts)
        shown, token = page(passed, lambda i: i.network_interface_id or "", request.max_results, request.next_token)
        return ec2.DescribeNetworkInterfacesResult(network_interfaces=shown, next_token=token)

    async def _with_interfaces(self, context: RequestContext) -> list[tuple[Task, TaskStatus]]:
        return [
            (task, status)
            for task, status in await self.world.tasks(context.account, context.region)
            if status is not None and status.network is not None and usage.of_task(task)
            if not usage.over(task, status)
        ]

    def _interface(self, task: Task, status: TaskStatus) -> Interface:
        network = status.network
        assert network is not None
        groups = []
        for group_id in usage.of_task(task) if network.groups is None else network.groups:
            gone = SecurityGroup(account=task.account, region=task.region, id=group_id, name="", description="")
            groups.append(self.world.group(task.account, task.region, group_id) or gone)
        return Interface(task, network, groups)
