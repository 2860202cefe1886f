"""The service controller: looks at each service that something happened to, decides, acts.

Level-triggered: a change only says *which* service to look at. What to do is decided from what is now, so an action
that was cut off half-way is simply decided upon again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator

import structlog
from msgspec.structs import replace

from contracts.kinds import Key
from contracts.records.agent import NODE, TASK_STATUS
from contracts.records.app_runner_gateway import TARGET
from contracts.records.identity import MANAGED_NODE
from contracts.records.monitor import METRIC_ALARM
from contracts.records.scheduler import (
    CONTAINER_INSTANCE,
    GATEWAY,
    SERVICE,
    SPOT_RECLAIM,
    TASK,
    Deployment,
    Service,
    ServiceEvent,
    TaskSet,
)
from services.scheduler.adapters import World
from services.scheduler.decisions import daemons, gateways, life, messages, names, shifting, spot, task_sets
from services.scheduler.decisions.backoff import Member
from services.scheduler.decisions.capacity import Capacity, of_launch_type, of_strategy
from services.scheduler.decisions.expressions import read
from services.scheduler.decisions.placement import CAPACITY, Refusal, refuses
from services.scheduler.decisions.ranking import Batch
from services.scheduler.decisions.rollback import watched
from services.scheduler.decisions.rollout import Plan, decide, rebalances, unbalanced
from services.scheduler.decisions.rollouts import recorded
from services.scheduler.decisions.services import is_daemon
from services.scheduler.decisions.stages import goes_by_stages
from services.scheduler.decisions.task_sets import is_external
from services.scheduler.handlers import TaskPlan, fresh_ids, place_tasks, start_on, stop_task, write_tasks
from services.shared import telemetry
from services.shared.bus import Fence
from services.shared.errors import StateUnavailable
from services.shared.state import Change, Conflict

log = structlog.get_logger()

AT_ONCE = 50
RETRY_S = 0.5
REST, LEAST_REST_S = 4, 0.002
"""A service is not looked at again before this many times as long has passed as the last look took, or as many times as
services wait to be looked at, if that is worth a timer. The tasks of a large service change by the hundred: one look is
for many of them, and all looks together leave half of the time to what they have started."""


class ServiceController:
    """Reconciles services. `heard` is a listener of the world; `run` works until cancelled. `term` is the fence of the
    lease while that is held: one that stalls finds out late that another has taken over, and must not start what that
    one did, not even what it was about to send."""

    def __init__(self, world: World, term: Callable[[], Fence | None]) -> None:
        self._world = world
        self._term = term
        self._dirty: dict[Key, str | None] = {}
        self._busy: set[Key] = set()
        self._took: dict[Key, float] = {}
        self._starved: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._wake = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()

    def heard(self, change: Change) -> None:
        """Mark what a change is about."""
        trace = change.new.trace if change.new is not None else None
        if change.kind is SERVICE:
            self.mark(change.key, trace)
        elif change.kind in (TASK, TASK_STATUS, TARGET):
            account, region, cluster = change.key[:3]
            task = self._world.tasks.record(*change.key)
            if task is None and change.kind is TASK and change.old is not None:
                task = change.old.record
            if task is not None and task.service:
                self.mark((account, region, cluster, task.service), trace)
            if task is None or life.over(task, self._world.statuses.record(*change.key)):
                self._feed()
        elif change.kind in (NODE, SPOT_RECLAIM):
            self._node_changed(change.key[0])
        elif change.kind is MANAGED_NODE and change.new is not None:
            self._node_changed(change.new.record.node)
        elif change.kind is CONTAINER_INSTANCE:
            self._node_changed(change.key[3])
        elif change.kind is GATEWAY and change.new is None:
            for service in self._world.services.records(*change.key[:2]):
                if service.connector is not None and service.status != "INACTIVE":
                    self.mark(SERVICE.key_of(service), trace)
        elif change.kind is METRIC_ALARM:
            for service in self._world.services.records(*change.key[:2]):
                if change.key[2] in watched(service):
                    self.mark(SERVICE.key_of(service), trace)

    def _node_changed(self, node: str) -> None:
        """What has tasks there may have to move them, a DAEMON may want one, zones may be balanced anew, what lacks a
        place may find one."""
        for task, _ in self._world.tasks_on(node):
            if task.service:
                self.mark((task.account, task.region, task.cluster, task.service))
        for service in self._world.services.records():
            if service.status == "ACTIVE" and (is_daemon(service) or rebalances(service)):
                self.mark(SERVICE.key_of(service))
        self._feed()

    def mark(self, key: Key, trace: str | None = None) -> None:
        """Look at this service soon. `trace` is the trace that this belongs to."""
        self._dirty[key] = trace or self._dirty.get(key)
        self._wake.set()

    def _feed(self) -> None:
        """Something became free: services that lacked a place may find one."""
        starved, self._starved = self._starved, set()
        for key in starved:
            self.mark(key)

    async def run(self) -> None:
        """Look at every service once, then at those that are marked."""
        for service in self._world.services.records():
            if service.status != "INACTIVE":
                self.mark(SERVICE.key_of(service))
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                for key in [k for k in self._dirty if k not in self._busy]:
                    self._busy.add(key)
                    work = asyncio.create_task(self._work(key, self._dirty.pop(key)))
                    self._running.add(work)
                    work.add_done_callback(self._running.discard)
        finally:
            for timer in self._timers.values():
                timer.cancel()
            for work in self._running:
                work.cancel()

    async def _work(self, key: Key, trace: str | None) -> None:
        try:
            fence = self._term()
            if fence is None:
                self._later(key, self._world.clock() + RETRY_S)
                return
            with telemetry.continued("scheduler.reconcile", trace, service=key[3], cluster=key[2]):
                await self._reconcile(key, fence)
        except (StateUnavailable, Conflict):
            self._later(key, self._world.clock() + RETRY_S)
        except Exception:
            log.exception("service.reconcile_failed", account=key[0], region=key[1], cluster=key[2], name=key[3])
            self._later(key, self._world.clock() + 10 * RETRY_S)
        finally:
            rest = max(REST, len(self._dirty)) * self._took.pop(key, 0.0)
            if rest >= LEAST_REST_S:
                asyncio.get_running_loop().call_later(rest, self._rested, key)
            else:
                self._rested(key)

    def _rested(self, key: Key) -> None:
        self._busy.discard(key)
        if key in self._dirty:
            self._wake.set()

    @contextlib.contextmanager
    def _timed(self, key: Key) -> Iterator[None]:
        """What is done here is part of what a look at the service takes. Writes are not: another process does them."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        yield
        self._took[key] = self._took.get(key, 0.0) + loop.time() - began

    def _later(self, key: Key, at: float | None) -> None:
        known = self._timers.pop(key, None)
        if known is not None:
            known.cancel()
        if at is not None:
            delay = max(0.0, at - self._world.clock())
            self._timers[key] = asyncio.get_running_loop().call_later(delay, self.mark, key)

    async def _reconcile(self, key: Key, fence: Fence) -> None:
        await self._world.store.settle()
        service = self._world.services.record(*key)
        if service is None or service.status == "INACTIVE":
            self._later(key, None)
            return
        with self._timed(key):
            plan = self._decide(service)
        told = [*plan.messages]
        if plan.stops:
            told += await self._stop(service, plan)
        for deployment, count in ((plan.deployment, plan.starts), *plan.others):
            if count:
                told += await self._start(service, plan, deployment, count, fence)
        if plan.nodes:
            told += await self._start_on_nodes(service, plan, fence)
        await self._write(key, service, plan, told)
        self._later(key, plan.wake_at)

    def _decide(self, service: Service) -> Plan:
        members = self._world.members(*SERVICE.key_of(service))
        plan, warned = self._next_step(service, members), spot.warnings(service, members)
        return replace(plan, messages=(*warned, *plan.messages)) if warned else plan

    def _next_step(self, service: Service, members: list[Member]) -> Plan:
        world, now = self._world, self._world.clock()
        if is_external(service):
            return task_sets.decide(service, members, now, world.backoff)
        if is_daemon(service):
            nodes = self._daemon_nodes(service)
            watched = (world.triggered(service), world.watch_s(service))
            return daemons.decide(service, members, nodes, now, world.backoff, *watched)
        alarms = world.triggered(service)
        if service.deployments and goes_by_stages(service.deployments[0]):
            return shifting.decide(service, members, now, world.backoff, alarms)
        plan = decide(service, members, now, world.backoff, alarms, world.watch_s(service))
        if not rebalances(service) or not plan.steady or plan.stops or plan.starts:
            return plan
        task_plan = self._next_plan(service, plan)
        node = self._next_node(task_plan) if task_plan is not None else None
        zone = next((n.zone for n in world.nodes.records() if n.node == node), None)
        if zone is None or not unbalanced(service, members, zone):
            return plan
        told = (*plan.messages, messages.rebalancing(service.name, zone))
        return replace(plan, starts=1, deployment=service.deployments[0].id, messages=told)

    def _next_plan(self, service: Service, plan: Plan) -> TaskPlan | None:
        primary = plan.deployments[0] if plan.deployments else service.deployments[0]
        (capacity,) = self._capacities(service, primary, 1)
        return self._task_plan(service, primary, capacity)

    def _next_node(self, plan: TaskPlan) -> str | None:
        cluster = plan.cluster
        on = self._world.candidates(cluster.account, cluster.region, cluster.name)
        return Batch(plan.demand(), on, self._world.ledger).next()

    def _daemon_nodes(self, service: Service) -> list[str]:
        """The nodes that are to have a task of a DAEMON: those that suit, whether they have the room or not."""
        if service.status != "ACTIVE" or not service.deployments:
            return []
        return [*self._plans_by_node(service)]

    def _plans_by_node(self, service: Service) -> dict[str, TaskPlan]:
        """What a DAEMON starts on each node that suits: of several capacity providers, for the one whose node it is."""
        deployment = service.deployments[0]
        strategy = deployment.capacity_provider_strategy
        known = self._world.providers_of(service.account, service.region, service.cluster)
        capacities = [of_strategy([item], {}, deployment.platform_version, known) for item in strategy]
        capacities = capacities or [*self._capacities(service, deployment, 1)]
        plans = [plan for c in capacities if (plan := self._task_plan(service, deployment, c)) is not None]
        demands = [(plan, plan.demand()) for plan in plans]
        found: dict[str, TaskPlan] = {}
        for node in self._world.candidates(service.account, service.region, service.cluster, impaired=True):
            usage = self._world.ledger.usage(node.name)
            for plan, demand in sorted(demands, key=lambda each, node=node: each[1].kind != node.kind):  # type: ignore[misc]
                if (refuses(node, demand, usage) or "RESOURCE").startswith("RESOURCE"):
                    found[node.name] = plan
                    break
        return found

    async def _start_on_nodes(self, service: Service, plan: Plan, fence: Fence) -> list[str]:
        plans = self._plans_by_node(service)
        nodes = [node for node in plan.nodes if node in plans]
        outcomes = await asyncio.gather(
            *(start_on(self._world, plans[node], node, fresh_ids(1)[0], fence) for node in nodes)
        )
        started = [task.id for task in outcomes if not isinstance(task, str)]
        refused = {node: reason for node, reason in zip(nodes, outcomes, strict=True) if isinstance(reason, str)}
        told = [messages.started(service.name, started)] if started else []
        if refused:
            self._starved.add(SERVICE.key_of(service))
            told += self._unplaced(service, Refusal(refused))
        return told

    async def _stop(self, service: Service, plan: Plan) -> list[str]:
        where = (service.account, service.region, service.cluster)

        async def stop(task_id: str, reason: str) -> None:
            key = self._world.task_key(*where, task_id)
            if key is not None:
                await stop_task(self._world, key, code="ServiceSchedulerInitiated", reason=reason)

        for chunk in range(0, len(plan.stops), AT_ONCE):
            await asyncio.gather(*(stop(s.task, s.reason) for s in plan.stops[chunk : chunk + AT_ONCE]))
        return [messages.stopped(service.name, [s.task for s in plan.stops])]

    async def _start(self, service: Service, plan: Plan, wanted: str, count: int, fence: Fence) -> list[str]:
        deployment = next(d for d in (*plan.deployments, *service.task_sets) if d.id == wanted)
        started: list[str] = []
        refusal: Refusal | None = None
        for capacity, number in self._capacities(service, deployment, count).items():
            task_plan = self._task_plan(service, deployment, capacity)
            if task_plan is None:
                break
            with self._timed(SERVICE.key_of(service)):
                tasks, refused = place_tasks(self._world, task_plan, fresh_ids(number))
            refusal = refused or refusal
            started += [task.id for task in await write_tasks(self._world, tasks, fence)]
        told = [messages.started(service.name, started)] if started else []
        if refusal is not None:
            self._starved.add(SERVICE.key_of(service))
            told += self._unplaced(service, refusal)
        return told

    def _unplaced(self, service: Service, refusal: Refusal) -> list[str]:
        closest = refusal.closest()
        if closest is not None and closest[1] == CAPACITY:
            message = messages.unavailable(service.name)
        elif closest is None:
            message = messages.unplaced(service.name, None, "No Container Instances were found in your cluster")
        else:
            where = (service.account, service.region, "container-instance", service.cluster)
            nearest = names.arn(*where, names.container_instance_id(closest[0]))
            message = messages.unplaced(service.name, nearest, closest[1])
        return [] if any(event.message == message for event in service.events[:5]) else [message]

    def _capacities(self, service: Service, deployment: Deployment | TaskSet, count: int) -> Counter[Capacity]:
        chosen: Counter[Capacity] = Counter()
        strategy = deployment.capacity_provider_strategy
        if not strategy:
            chosen[of_launch_type(deployment.launch_type or "EC2", deployment.platform_version)] = count
            return chosen
        where = (service.account, service.region, service.cluster, service.name)
        running = Counter(
            task.capacity_provider or ""
            for task, status in self._world.tasks_of(*where)
            if task.deployment == deployment.id and life.desired_status(task, status) == "RUNNING"
        )
        known = self._world.providers_of(*where[:3])
        for _ in range(count):
            capacity = of_strategy(strategy, running, deployment.platform_version, known)
            running[capacity.provider or ""] += 1
            chosen[capacity] += 1
        return chosen

    def _task_plan(self, service: Service, deployment: Deployment | TaskSet, capacity: Capacity) -> TaskPlan | None:
        where = (service.account, service.region)
        family, _, revision = deployment.task_definition.rpartition(":")
        definition = self._world.definitions.record(*where, family, revision)
        cluster = self._world.clusters.record(*where, service.cluster)
        if definition is None or cluster is None:
            log.error("service.incomplete", name=service.name, task_definition=deployment.task_definition)
            return None
        request = service.request
        propagated = {"SERVICE": service.tags, "TASK_DEFINITION": definition.tags}.get(
            request.get("propagateTags", ""), {}
        )
        daemon = names.daemon_name(service.name)
        managed = {"aws:ecs:clusterName": service.cluster} | (
            {} if daemon is not None else {"aws:ecs:serviceName": service.name}
        )
        return TaskPlan(
            cluster=cluster,
            definition=definition,
            group=f"service:{service.name}" if daemon is None else f"daemon:{daemon}",
            capacity=capacity,
            placing=read(request.get("placementConstraints") or (), request.get("placementStrategy") or ()),
            service=service.name,
            deployment=deployment.id,
            started_by=deployment.id,
            network_configuration=deployment.network_configuration,
            enable_execute_command=bool(request.get("enableExecuteCommand")),
            tags={**propagated, **managed} if request.get("enableECSManagedTags") else dict(propagated),
            drain_s=service.front.drain_s if service.front and deployment.id in service.fronted else 0.0,
        )

    async def _write(self, key: Key, decided: Service, plan: Plan, told: list[str]) -> None:
        """One write of the service, if anything changed. The events are kept in any case; the rest only if nobody
        changed the service meanwhile, for then it is decided upon anew."""
        now = self._world.clock()
        events = [_service_event(text, now) for text in reversed(told)]

        def change(old: Service | None) -> Service | None:
            if old is None:
                return old
            kept = [*events, *old.events][: messages.KEPT] if events else old.events
            if old is not decided:
                return replace(old, events=kept) if events else old
            new = replace(
                old,
                status=plan.status,
                steady=plan.steady,
                deployments=plan.deployments,
                events=kept,
                task_sets=old.task_sets if plan.task_sets is None else plan.task_sets,
                desired_count=old.desired_count if plan.desired is None else plan.desired,
            )
            new = recorded(self._released(new), now)
            return old if new == old else new

        await self._world.store.update(SERVICE, key, change, _event(decided, plan))

    def _released(self, service: Service) -> Service:
        """The service, off the gateways that nothing of it is behind any more."""
        if service.connector is None:
            return service
        tasks = self._world.tasks_of(*SERVICE.key_of(service))
        living = {task.deployment for task, status in tasks if not life.over(task, status)}
        known = self._world.gateways.records(service.account, service.region)
        return gateways.released(service, living, {gateway.name: gateway for gateway in known})


def _service_event(text: str, now: float) -> ServiceEvent:
    known = text if isinstance(text, messages.Message) else messages.Message(text)
    return ServiceEvent(
        id=names.event_uuid(), created_at=now, message=str(text), action=known.action, detail=known.detail
    )


def _event(service: Service, plan: Plan) -> str:
    if plan.status != service.status:
        return "service.inactive.v1"
    if plan.steady and not service.steady:
        return "service.steady.v1"
    return "service.progressed.v1"
