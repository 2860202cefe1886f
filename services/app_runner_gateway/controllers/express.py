"""Has the tasks of services with an address in the balance that belong there, and writes down which those are.

It starts and stops nothing: the scheduler does, and goes by what is written here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

import structlog
from msgspec.structs import replace

from contracts.kinds import Key
from contracts.records.agent import TaskStatus
from contracts.records.app_runner_gateway import TARGET, Target
from contracts.records.metrics import MetricSample
from contracts.records.scheduler import SERVICE, ExpressRevision, Service, Task
from services.app_runner_gateway.adapters.checks import Checks
from services.app_runner_gateway.adapters.express import ExpressWorld
from services.app_runner_gateway.adapters.haproxy import ProxyAway
from services.app_runner_gateway.adapters.proxy import Proxy
from services.app_runner_gateway.controllers.traffic import Traffic
from services.app_runner_gateway.decisions.express import (
    UNHEALTHY,
    ExpressPlan,
    Replica,
    check_of,
    decide,
    gives_up_at,
    patience,
    stage_of,
    why_ill,
)
from services.app_runner_gateway.decisions.instances import GONE, RUNNING, STARTING, STOPPING, stage
from services.app_runner_gateway.decisions.measuring import Meter, express_samples
from services.app_runner_gateway.decisions.plan import DRAIN
from services.app_runner_gateway.decisions.proxy import EXPRESS, TEST, WEIGHTED, Seen, Server
from services.app_runner_gateway.decisions.trial import trial_of
from services.shared.errors import AwsError
from services.shared.marked import AWAY, Marked

log = structlog.get_logger()

_KINDS = (EXPRESS, WEIGHTED)
_PLACES = (*_KINDS, TEST)


class ExpressController(Marked):
    """It is a Watcher of the traffic, too."""

    def __init__(
        self,
        world: ExpressWorld,
        proxy: Proxy,
        checks: Checks,
        traffic: Traffic,
        prepare: Callable[[str], Awaitable[None]],
        start_s: float,
    ) -> None:
        super().__init__(away=(*AWAY, ProxyAway))
        self._world, self._proxy, self._checks, self._traffic = world, proxy, checks, traffic
        self._prepare, self._start_s = prepare, start_s
        self._drained: dict[str, float] = {}
        self._draining: set[Key] = set()
        self._prepared: set[str] = set()
        self._hosts: dict[Key, str] = {}
        self._meters: dict[tuple[Key, str], Meter] = {}

    def all_keys(self) -> Iterable[Key]:
        """Every service there is."""
        return [SERVICE.key_of(service) for service in self._world.services()]

    async def run(self) -> None:
        """Look at every service once, then at those that are marked."""
        await self._forget_strangers()
        await super().run()

    async def _forget_strangers(self) -> None:
        """Take from the proxy what a gateway before this one left there of services that are no more."""
        hosts = {service.front.host for service in self._world.services() if service.front is not None}
        for place in self._proxy.hosts():
            kind, _, host = place.rpartition(":")
            if kind and host not in hosts:
                try:
                    await self._proxy.carry(place, {}, answers=False)
                except ProxyAway as error:
                    log.warning("express.not_forgotten", host=host, error=error.message)

    async def _moved(self, key: Key, host: str | None) -> None:
        """Take from the proxy the host that a service of this name had before it got another, or none."""
        before = self._hosts.get(key)
        if before is not None and before != host and self._proxy.running:
            for kind in _PLACES:
                await self._proxy.carry(f"{kind}:{before}", {}, answers=False)
            del self._hosts[key]
        if host is not None:
            self._hosts[key] = host

    async def _forget(self, key: Key) -> None:
        """What was known of a service that has no address any more."""
        await self._moved(key, None)
        self._checks.keep(key, set())
        self._draining.discard(key)
        for target in self._world.targets(key).values():
            await self._world.world.store.delete(TARGET, TARGET.key_of(target), "target.removed.v1")

    async def _reconcile(self, key: Key) -> None:
        service = self._world.service(key)
        if service is None or service.front is None:
            await self._forget(key)
            return
        if not self._world.known(key):
            return
        if service.status == "ACTIVE" and not await self._ready(service.region):
            return
        now = self._world.world.clock()
        # Tasks of a deployment that is not behind the gateway (yet, or any more) are none of its.
        all_, fronted = self._world.tasks(key), service.fronted
        tasks = {task.id: (task, status) for task, status in all_ if task.deployment in fronted}
        replicas = self._replicas(key, service, tasks, now)
        plan = decide(service, replicas, now)
        if self._proxy.running:
            await self._carry(key, service, plan, tasks)
            await self._moved(key, service.front.host)
        await self._tell(key, service, tasks, plan)
        self._later(key, service, plan, tasks, now)

    async def _ready(self, region: str) -> bool:
        """Whether there is a proxy, with a certificate for the region."""
        if region not in self._prepared or not self._proxy.running:
            try:
                await self._prepare(region)
            except AwsError as error:
                log.error("express.not_served", error=error.message)
                return False
            self._prepared.add(region)
        return True

    def _carried(self, service: Service) -> dict[str, Server]:
        """The tasks of a service in the proxy, wherever they are: one that leaves one place for the other is ready."""
        host = service.front.host if service.front is not None else ""
        found: dict[str, Server] = {}
        for kind in _KINDS:
            for name, server in self._proxy.carried(f"{kind}:{host}").items():
                if name not in found or found[name].state == DRAIN:
                    found[name] = server
        return found

    def _replicas(
        self, key: Key, service: Service, tasks: Mapping[str, tuple[Task, TaskStatus | None]], now: float
    ) -> list[Replica]:
        carried = self._carried(service)
        found, followed, settled = [], set(), self._settled(service)
        for task_id, (task, status) in tasks.items():
            server = carried.pop(task_id, None)
            if stage(task, status) == RUNNING and status is not None and status.network is not None:
                followed.add(task_id)
                revision = _revision(service, task)
                address = status.network.private_ipv4
                healthy = server is not None
                port = revision.check_port or revision.port
                self._checks.follow(key, task_id, address, port, check_of(revision), healthy=healthy)
            health = self._checks.state(task_id)
            start_s = self._patience(service, task)
            found.append(self._replica(task_id, task, stage_of(task, status, health, start_s, now), server, settled))
        self._checks.keep(key, followed)
        found += [self._replica(name, None, GONE, server, settled) for name, server in carried.items()]
        return found

    def _patience(self, service: Service, task: Task) -> float:
        return patience(service, _revision(service, task), self._start_s)

    def _settled(self, service: Service) -> bool:
        """Whether nothing is in flight in the place that the service has left, with weights or without."""
        assert service.front is not None
        places = [f"{kind}:{service.front.host}" for kind in _PLACES]
        return not self._proxy.haproxy.lingers and all(
            self._proxy.carried(place) or self._proxy.settled(place) for place in places
        )

    def _replica(self, name: str, task: Task | None, found: str, server: Server | None, settled: bool) -> Replica:
        drained = self._drained.get(name)
        if server is None or server.state != DRAIN:
            self._drained.pop(name, None)
            drained = None
        elif drained is None:  # a gateway before this one drained it
            drained = self._drained[name] = asyncio.get_running_loop().time()
        seen = drained is not None and self._traffic.looked_at > drained
        stops_at = task.stopping_at + task.drain_s if task is not None and task.stopping_at is not None else None
        balance = server.state if server is not None else None
        if server is None and found == STOPPING and not settled:
            balance = DRAIN  # it was in the place that the service has left, where requests are in flight
        return Replica(
            task=name,
            deployment=task.deployment if task is not None else "",
            stage=found,
            balance=balance,
            idle=seen and settled and not self._traffic.in_flight(name),
            stops_at=stops_at,
        )

    async def _carry(
        self, key: Key, service: Service, plan: ExpressPlan, tasks: Mapping[str, tuple[Task, TaskStatus | None]]
    ) -> None:
        assert service.front is not None
        known, most = self._carried(service), self._proxy.frame.connections
        servers = {}
        for name, placed in plan.balance.items():
            task, status = tasks.get(name, (None, None))
            if name in known:
                address, port = known[name].address, known[name].port
            elif task is not None and status is not None and status.network is not None:
                address, port = status.network.private_ipv4, _revision(service, task).port
            else:
                continue
            servers[name] = Server(address, port, most, placed.state, placed.weight if plan.weighted else 1)
        used, other = (WEIGHTED, EXPRESS) if plan.weighted else (EXPRESS, WEIGHTED)
        host = service.front.host
        await self._proxy.carry(f"{used}:{host}", servers, answers=plan.answers, lines=service.front.hosts)
        await self._proxy.carry(f"{other}:{host}", {}, answers=False)
        await self._carry_tests(service, {n: s for n, s in servers.items() if n in tasks}, tasks)
        now = asyncio.get_running_loop().time()
        for name, server in self._carried(service).items():
            if server.state == DRAIN:
                self._drained.setdefault(name, now)
        if any(placed.state == DRAIN for placed in plan.balance.values()):
            self._draining.add(key)
        else:
            self._draining.discard(key)
        self._traffic.woken()

    async def _carry_tests(
        self, service: Service, servers: Mapping[str, Server], tasks: Mapping[str, tuple[Task, TaskStatus | None]]
    ) -> None:
        """Lead test traffic to the deployment that is to get it, as far as its tasks are ready."""
        assert service.front is not None
        told = trial_of(service, self._world.gateways(service))
        ready = {
            name: replace(server, weight=1)
            for name, server in servers.items()
            if server.state != DRAIN and tasks[name][0].deployment == told.deployment
        }
        if ready:
            await self._proxy.know(told.headers)
        place = f"{TEST}:{service.front.host}"
        await self._proxy.carry(place, ready, answers=bool(ready), lines=told.lines)

    async def _tell(
        self, key: Key, service: Service, tasks: Mapping[str, tuple[Task, TaskStatus | None]], plan: ExpressPlan
    ) -> None:
        """Write down what has become of tasks, now that the proxy has it so."""
        known = self._world.targets(key)
        store, now = self._world.world.store, self._world.world.clock()
        wanted = {name: plan.targets.get(name) for name in known.keys() - tasks.keys()} | dict(plan.targets)
        for name, state in wanted.items():
            before = known.get(name)
            if state is None:
                if before is not None:
                    await store.delete(TARGET, TARGET.key_of(before), "target.removed.v1")
            elif before is None or before.state != state:
                task = tasks[name][0]
                target = Target(
                    account=task.account,
                    region=task.region,
                    cluster=task.cluster,
                    node=task.node,
                    task=task.id,
                    service=task.service,
                    state=state,
                    since=now,
                    reason=why_ill(_revision(service, task)) if state == UNHEALTHY else "",
                )
                await store.put(TARGET, target, f"target.{state}.v1")

    def _later(
        self, key: Key, service: Service, plan: ExpressPlan, tasks: Mapping[str, tuple[Task, TaskStatus | None]],
        now: float,
    ) -> None:  # fmt: skip
        starting = [
            gives_up_at(status, self._patience(service, task))
            for task, status in tasks.values()
            if stage_of(task, status, self._checks.state(task.id), self._patience(service, task), now) == STARTING
        ]
        wakes = [at for at in (*starting, plan.wake_at) if at is not None and at < float("inf")]
        self._look_again(key, min(wakes) - now if wakes else None)

    # What the traffic tells

    def live(self) -> bool:
        """Whether a service with an address is there."""
        return any(service.status != "INACTIVE" for service in self._world.services())

    def closely(self) -> bool:
        """Whether tasks are drained now."""
        return bool(self._draining)

    def take_in(self, seen: list[Seen]) -> None:
        """A look at the proxy: what is drained is looked at again, what was asked is added up."""
        whole = {s.backend: s for s in seen if not s.server}
        live = {SERVICE.key_of(s): s for s in self._world.services() if s.status != "INACTIVE"}
        for key, service in live.items():
            for kind in _KINDS:
                assert service.front is not None
                backend = self._proxy.backend(f"{kind}:{service.front.host}")
                if backend is not None and backend in whole:
                    self._meters.setdefault((key, kind), Meter()).observe(backend, whole[backend])
        for gone in [at for at in self._meters if at[0] not in live]:
            del self._meters[gone]
        for key in list(self._draining):
            self.mark(key)

    def measured(self) -> list[MetricSample]:
        """The period of every service that was seen."""
        told: list[MetricSample] = []
        for (key, _), meter in self._meters.items():
            service = self._world.service(key)
            if service is not None:
                ready = sum(server.state != DRAIN for server in self._carried(service).values())
                told += express_samples(service, meter.take(), ready)
        return told


def _revision(service: Service, task: Task) -> ExpressRevision:
    """What the task's deployment is."""
    assert service.front is not None
    return next(r for r in service.front.revisions if r.deployment == task.deployment)
