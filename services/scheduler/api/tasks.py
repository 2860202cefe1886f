"""Tasks.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html
"""

from __future__ import annotations

import asyncio
from collections import Counter
from weakref import WeakValueDictionary

import msgspec

from contracts.aws import ecs
from contracts.kinds import Key
from contracts.records.scheduler import Cluster, Task, TaskDefinition
from services.scheduler.adapters import World
from services.scheduler.api.base import EcsBase, wire
from services.scheduler.api.shapes import instance_arn, task_arn, task_shape
from services.scheduler.decisions import life, names, tags
from services.scheduler.decisions.capacity import Capacity, check_strategy, of_launch_type, of_strategy
from services.scheduler.decisions.expressions import read
from services.scheduler.decisions.pages import page
from services.scheduler.decisions.placement import Refusal
from services.scheduler.decisions.requests import check_network, check_overrides, check_support
from services.scheduler.handlers import TaskPlan, fresh_ids, start_on, start_tasks, stop_task
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

MAX_COUNT = 10
MAX_DESCRIBED = 100


class Tasks(EcsBase):
    """RunTask and its like."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._by_token: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()

    async def run_task(self, context: RequestContext, request: ecs.RunTaskRequest) -> ecs.RunTaskResponse:
        """Place up to ten tasks. What does not fit is told in `failures`, not as an error."""
        cluster = await self._used_cluster(context, request.cluster)
        count = 1 if request.count is None else request.count
        if not 1 <= count <= MAX_COUNT:
            raise AwsError("InvalidParameterException", f"Number of tasks must be between 1 and {MAX_COUNT}.")
        definition = self._runnable(context, request.task_definition)
        if request.client_token is None:
            return await self._run(request, cluster, definition, fresh_ids(count))
        key = (cluster.account, cluster.region, cluster.name, request.client_token)
        ids = [names.derived_id("task", *key, str(number)) for number in range(count)]
        # Whoever waits for the lock keeps it in the dictionary; with the last of them it goes.
        lock = self._by_token.setdefault(key, asyncio.Lock())
        async with lock:
            return self._ran_before(cluster, request, ids) or await self._run(request, cluster, definition, ids)

    def _ran_before(self, cluster: Cluster, request: ecs.RunTaskRequest, ids: list[str]) -> ecs.RunTaskResponse | None:
        """What the same request with the same token was answered. Raises ConflictException for another request."""
        found = [self._find(cluster, task_id) for task_id in ids]
        known = [joined for joined in found if joined is not None]
        if not known:
            return None
        if any(task.request_digest != _digest(request) for task, _ in known):
            raise AwsError(
                "ConflictException",
                "The RunTask request could not be processed due to conflicts: the client token was used before with "
                "other parameters.",
                resourceIds=[task_arn(task) for task, _ in known],
            )
        return ecs.RunTaskResponse(tasks=[task_shape(self.world, *joined) for joined in known], failures=[])

    async def _run(
        self, request: ecs.RunTaskRequest, cluster: Cluster, definition: TaskDefinition, ids: list[str]
    ) -> ecs.RunTaskResponse:
        capacities = self._capacities(request, cluster, len(ids))
        for capacity in set(capacities):
            check_support(definition, capacity.launch_type)
        own = any(capacity.launch_type != "FARGATE" for capacity in capacities)
        if own and not self.world.node_count(cluster.account, cluster.region, cluster.name):
            raise AwsError("InvalidParameterException", "No Container Instances were found in your cluster.")
        plan = self._plan(request, cluster, definition, capacities[0])
        await self._require_groups(cluster, plan.network_configuration)
        plan = msgspec.structs.replace(
            plan,
            placing=read(wire(request.placement_constraints or []), wire(request.placement_strategy or [])),
            request_digest=_digest(request) if request.client_token else "",
        )
        started: list[Task] = []
        failures: list[ecs.Failure] = []
        for capacity, number in Counter(capacities).items():
            chosen, ids = ids[:number], ids[number:]
            tasks, refusal = await start_tasks(self.world, msgspec.structs.replace(plan, capacity=capacity), chosen)
            started += tasks
            if refusal is not None:
                failures += self._refused(cluster, refusal)
        shapes = [task_shape(self.world, task, None, with_tags=True) for task in started]
        return ecs.RunTaskResponse(tasks=shapes, failures=failures)

    def _capacities(self, request: ecs.RunTaskRequest, cluster: Cluster, count: int) -> list[Capacity]:
        strategy = wire(request.capacity_provider_strategy or [])
        if strategy and request.launch_type is not None:
            raise AwsError(
                "InvalidParameterException",
                "Specifying both a launch type and capacity provider strategy is not supported.",
            )
        if not strategy and request.launch_type is None:
            strategy = cluster.request.get("defaultCapacityProviderStrategy", [])
        if not strategy:
            return [of_launch_type(request.launch_type or "EC2", request.platform_version)] * count
        known = self.world.providers_of(cluster.account, cluster.region, cluster.name)
        check_strategy(strategy, known)
        running: Counter[str] = Counter()
        chosen = []
        for _ in range(count):
            capacity = of_strategy(strategy, running, request.platform_version, known)
            running[capacity.provider or ""] += 1
            chosen.append(capacity)
        return chosen

    def _plan(
        self,
        request: ecs.RunTaskRequest | ecs.StartTaskRequest,
        cluster: Cluster,
        definition: TaskDefinition,
        capacity: Capacity,
    ) -> TaskPlan:
        overrides = wire(request.overrides) if request.overrides is not None else {}
        network = wire(request.network_configuration) if request.network_configuration is not None else {}
        check_overrides(definition, overrides)
        check_network(definition, network)
        labels = tags.read(request.tags)
        if request.propagate_tags == "TASK_DEFINITION":
            labels = {**definition.tags, **labels}
        elif request.propagate_tags == "SERVICE":
            raise AwsError("InvalidParameterException", "The SERVICE option of propagateTags is for services only.")
        if request.enable_ecs_managed_tags:
            labels["aws:ecs:clusterName"] = cluster.name
        if (request.group or "").startswith("service:"):
            raise AwsError("InvalidParameterException", "Invalid namespace for group.")
        return TaskPlan(
            cluster=cluster,
            definition=definition,
            group=request.group or f"family:{definition.family}",
            capacity=capacity,
            overrides=overrides,
            started_by=request.started_by or "",
            network_configuration=network,
            enable_execute_command=bool(request.enable_execute_command),
            tags=tags.joined({}, labels),
        )

    def _refused(self, cluster: Cluster, refusal: Refusal) -> list[ecs.Failure]:
        if not refusal.reasons:
            return [ecs.Failure(reason="Capacity is unavailable at this time: no node has registered.")]
        return [
            ecs.Failure(arn=instance_arn(cluster.account, cluster.region, cluster.name, node), reason=reason)
            for node, reason in sorted(refusal.reasons.items())
        ]

    async def start_task(self, context: RequestContext, request: ecs.StartTaskRequest) -> ecs.StartTaskResponse:
        """Start a task on each of these container instances."""
        cluster = await self._used_cluster(context, request.cluster)
        if not 1 <= len(request.container_instances) <= MAX_COUNT:
            raise AwsError("InvalidParameterException", f"Specify between 1 and {MAX_COUNT} container instances.")
        definition = self._runnable(context, request.task_definition)
        plan = self._plan(request, cluster, definition, of_launch_type("EC2"))
        await self._require_groups(cluster, plan.network_configuration)
        started, failures = [], []
        for reference in request.container_instances:
            instance_id = names.last_part(reference)
            node = self.world.node_of_instance(instance_id) or ""
            capacity = of_launch_type("EXTERNAL" if node in self.world.managed else "EC2")
            on = msgspec.structs.replace(plan, capacity=capacity)
            outcome = await start_on(self.world, on, node, fresh_ids(1)[0])
            if isinstance(outcome, str):
                arn = names.arn(cluster.account, cluster.region, "container-instance", cluster.name, instance_id)
                failures.append(ecs.Failure(arn=arn, reason=outcome))
            else:
                started.append(task_shape(self.world, outcome, None, with_tags=True))
        return ecs.StartTaskResponse(tasks=started, failures=failures)

    async def stop_task(self, context: RequestContext, request: ecs.StopTaskRequest) -> ecs.StopTaskResponse:
        """Want a task stopped; it is when its agent says so."""
        cluster = self._seen_cluster(context, request.cluster)
        joined = self._find(cluster, names.last_part(request.task))
        if joined is None:
            raise AwsError("InvalidParameterException", "The referenced task was not found.")
        task, status = joined
        if not life.over(task, status):
            reason = request.reason or "Task stopped by user"
            key = _key(task)
            task = await stop_task(self.world, key, code="UserInitiated", reason=reason) or task
        return ecs.StopTaskResponse(task=task_shape(self.world, task, status))

    async def describe_tasks(
        self, context: RequestContext, request: ecs.DescribeTasksRequest
    ) -> ecs.DescribeTasksResponse:
        """The named tasks, joined with what their agents say; those that are not there as MISSING failures."""
        cluster = self._seen_cluster(context, request.cluster)
        if not request.tasks:
            raise AwsError("InvalidParameterException", "Tasks cannot be empty.")
        if len(request.tasks) > MAX_DESCRIBED:
            raise AwsError("InvalidParameterException", f"Tasks must have at most {MAX_DESCRIBED} items.")
        with_tags = "TAGS" in (request.include or ())
        found, failures = [], []
        for reference in request.tasks:
            task_id = names.last_part(reference)
            joined = self._find(cluster, task_id)
            if joined is None:
                arn = names.arn(cluster.account, cluster.region, "task", cluster.name, task_id)
                failures.append(ecs.Failure(arn=arn, reason="MISSING"))
            else:
                found.append(task_shape(self.world, *joined, with_tags=with_tags))
        return ecs.DescribeTasksResponse(tasks=found, failures=failures)

    async def list_tasks(self, context: RequestContext, request: ecs.ListTasksRequest) -> ecs.ListTasksResponse:
        """ARNs of tasks that all given filters hold for; those that want to run unless STOPPED is asked for."""
        cluster = self._seen_cluster(context, request.cluster)
        where = (cluster.account, cluster.region, cluster.name)
        if request.daemon_name is not None:
            raise AwsError("UnsupportedFeatureException", "Roadstead has no ECS daemons yet.")
        if request.service_name is not None:
            service = names.last_part(request.service_name)
            if self.world.services.record(*where, service) is None:
                raise AwsError("ServiceNotFoundException", "Service not found.")
            tasks = self.world.tasks_of(*where, service)
        else:
            tasks = self.world.tasks_in(*where)
        node = None
        if request.container_instance is not None:
            node = self.world.node_of_instance(names.last_part(request.container_instance))
            if node is None:
                raise AwsError("InvalidParameterException", "The specified container instance does not exist.")
        wanted = request.desired_status or "RUNNING"
        arns = sorted(
            task_arn(task)
            for task, status in tasks
            if life.desired_status(task, status) == wanted
            and (node is None or task.node == node)
            and (request.family is None or task.task_definition.rpartition(":")[0] == request.family)
            and (request.started_by is None or task.started_by == request.started_by)
            and (request.launch_type is None or task.launch_type == request.launch_type)
        )
        shown, token = page(arns, request.next_token, request.max_results)
        return ecs.ListTasksResponse(task_arns=shown, next_token=token)


def _key(task: Task) -> Key:
    return (task.account, task.region, task.cluster, task.node, task.id)


def _digest(request: ecs.RunTaskRequest) -> str:
    return names.derived_id("request", msgspec.json.encode(request).decode())
