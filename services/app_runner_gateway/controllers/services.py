"""Brings each service to what it is wanted to be: workloads, balance, operations.

A change only says which service to look at; `decisions.plan` says what to do from what is now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec
import structlog

from contracts.kinds import Key
from contracts.records.agent import TaskStatus
from contracts.records.app_runner_gateway import APP_SERVICE, AppService, Revision
from contracts.records.scheduler import Task
from contracts.rpc.scheduler import DELETE_WORKLOAD, PUT_WORKLOAD, DeleteWorkload, PutWorkload
from services.app_runner_gateway.adapters.checks import Checks
from services.app_runner_gateway.adapters.haproxy import ProxyAway
from services.app_runner_gateway.adapters.proxy import Proxy
from services.app_runner_gateway.adapters.world import World
from services.app_runner_gateway.controllers.traffic import Traffic
from services.app_runner_gateway.decisions import names
from services.app_runner_gateway.decisions.health import check_of
from services.app_runner_gateway.decisions.instances import RUNNING, stage
from services.app_runner_gateway.decisions.life import operation, revision
from services.app_runner_gateway.decisions.plan import DRAIN, Instance, Plan, Put, Workload, decide
from services.app_runner_gateway.decisions.proxy import Server
from services.app_runner_gateway.decisions.workloads import definition, registries, to_name
from services.app_runner_gateway.handlers.naming import provide_name
from services.app_runner_gateway.handlers.services import begin, finish
from services.app_runner_gateway.settings import AppRunnerGatewaySettings
from services.shared import telemetry
from services.shared.bus import CommandRefused
from services.shared.errors import StateUnavailable
from services.shared.marked import AWAY, Marked
from services.shared.state import Change

log = structlog.get_logger()

NAME_TRIES, NAME_AGAIN_S = 3, 5.0
"""How often a name is asked for before a service does without it, and how soon it is asked for again then."""
_TRY_AGAIN = ("ServiceUnavailable", "Internal")
_FAILED = ("TaskFailedToStart", "EssentialContainerExited")


class ServicesController(Marked):
    """`heard` is a listener of the world; `run` works until cancelled."""

    def __init__(
        self, world: World, proxy: Proxy, checks: Checks, traffic: Traffic, settings: AppRunnerGatewaySettings
    ) -> None:
        super().__init__(away=(*AWAY, ProxyAway))
        self._world, self._proxy, self._checks, self._traffic = world, proxy, checks, traffic
        self._settings = settings
        self._drained: dict[str, float] = {}
        self._refused: dict[Key, tuple[str, str]] = {}
        self._nameless: dict[Key, tuple[int, float]] = {}

    def heard(self, change: Change) -> None:
        """Mark what a change is about."""
        key = self._world.service_of(change)
        if key is not None:
            self.mark(key)

    def all_keys(self) -> Iterable[Key]:
        """Every service there is."""
        return self._world.services.all_keys()

    async def _reconcile(self, key: Key) -> None:
        entry = self._world.services.get(*key)
        if entry is None:
            self._nameless.pop(key, None)
            return
        service = entry.record
        if not self._proxy.running and service.status not in ("DELETED", "CREATE_FAILED"):
            await self._proxy.start()
        if service.image_moved and service.status == "RUNNING":
            with telemetry.continued("app_runner.deploy", entry.trace, app=service.name):
                image = await self._world.image_now(service.source["ImageRepository"]["ImageIdentifier"])
                await begin(self._world, key, "START_DEPLOYMENT", image, image_moved=False)
            return
        if await self._name(key, service, entry.trace):
            return
        plan = self._decide(key, service)
        renamed = to_name(service, self._world.workloads_of(service), plan)
        if renamed:
            plan = msgspec.structs.replace(plan, puts=(*plan.puts, *renamed))
        acts = plan.puts or plan.deletes or plan.outcome
        if not acts:
            await self._carry(service, plan)
        else:
            trace = _trace(service, entry.trace)
            with telemetry.continued("app_runner.reconcile", trace, app=service.name, did=_told(plan)):
                await self._act(key, service, plan)
        self._look_again(key, plan.wake_at - self._world.clock() if plan.wake_at is not None else None)

    async def _name(self, key: Key, service: AppService, trace: str | None) -> bool:
        """Ask for the name, if that is to be done now; whether it is known since. While discovery is away a service
        goes on without one. Raises StateUnavailable, for the first few times."""
        if service.registry_arn is not None or service.status in ("DELETED", "CREATE_FAILED"):
            self._nameless.pop(key, None)
            return False
        loop = asyncio.get_running_loop()
        tries, again_at = self._nameless.get(key, (0, 0.0))
        if loop.time() < again_at:
            return False
        try:
            with telemetry.continued("app_runner.name", trace, app=service.name):
                await provide_name(self._world, key, service)
        except StateUnavailable as error:
            tries += 1
            if tries < NAME_TRIES:
                self._nameless[key] = (tries, 0.0)
                raise
            log.warning("app_service.nameless", name=service.name, error=str(error))
            self._nameless[key] = (tries, loop.time() + NAME_AGAIN_S)
            loop.call_later(NAME_AGAIN_S + 0.01, self.mark, key)
            return False
        return True

    def _decide(self, key: Key, service: AppService) -> Plan:
        world, settings = self._world, self._settings
        bounds, now = world.bounds(service), world.clock()
        instances = self._instances(service)
        workloads = []
        there = bounds.low
        for number, record in world.workloads_of(service):
            failures, reason = self._failures(service, number)
            active = record.status == "ACTIVE"
            workloads.append(Workload(revision=number, active=active, desired=record.desired_count,
                                      failures=failures, reason=reason))  # fmt: skip
            if number == service.active and active:
                there = max(there, record.desired_count)
        wanted = self._traffic.wanted(key, there)
        plan = decide(
            service, bounds, wanted, workloads, instances, now, deploy_s=settings.deploy_s, drain_s=settings.drain_s
        )
        if refusal := self._refused.get(key):
            running = operation(service)
            if running is not None and running.id == refusal[0] and plan.outcome is None:
                return Plan(plan.balance, plan.answers, (), plan.deletes, "failed", refusal[1])
        return plan

    def _instances(self, service: AppService) -> list[Instance]:
        """The tasks of all revisions, and what the proxy still has of others."""
        key, carried = APP_SERVICE.key_of(service), dict(self._proxy.carried(service.host))
        found, alive = [], set()
        for number in {r.number for r in service.revisions} | {n for n, _ in self._world.workloads_of(service)}:
            made = revision(service, number)
            for task, status in self._world.tasks_of(service, number):
                server = carried.pop(task.id, None)
                state = self._state(key, task, status, made, server)
                if state not in ("gone", "stopping"):
                    alive.add(task.id)
                found.append(self._instance(task.id, number, state, server, task.created_at))
        self._checks.keep(key, alive)
        found += [self._instance(name, 0, "gone", server, 0.0) for name, server in carried.items()]
        return found

    def _state(
        self, key: Key, task: Task, status: TaskStatus | None, made: Revision | None, server: Server | None
    ) -> str:
        found = stage(task, status)
        if found != RUNNING or status is None or status.network is None:
            return found
        if made is None:
            return "ready" if server is not None else "starting"
        port = int(made.source["ImageRepository"]["ImageConfiguration"]["Port"])
        address = status.network.private_ipv4
        check = check_of(made.health_check)
        self._checks.follow(key, task.id, address, port, check, healthy=server is not None)
        return {"HEALTHY": "ready", "UNHEALTHY": "unhealthy"}.get(self._checks.state(task.id), "starting")

    def _instance(self, task: str, number: int, state: str, server: Server | None, created_at: float) -> Instance:
        if server is None or server.state != DRAIN:
            self._drained.pop(task, None)
        else:
            self._drained.setdefault(task, self._world.clock())
        return Instance(
            task=task,
            revision=number,
            state=state,
            created_at=created_at,
            balance=server.state if server is not None else None,
            in_flight=self._traffic.in_flight(task),
            drained_since=self._drained.get(task),
        )

    def _failures(self, service: AppService, number: int) -> tuple[int, str]:
        """How many of a revision's tasks ended by themselves since the operation began; why the last one did."""
        running = operation(service)
        if running is None:
            return 0, ""
        ended = [
            status
            for task, status in self._world.tasks_of(service, number)
            if status is not None
            and status.last_status == "STOPPED"
            and status.stop_code in _FAILED
            and task.desired_status != "STOPPED"
            and task.created_at >= running.started_at
        ]
        last = max(ended, key=lambda s: s.stopped_at or 0.0, default=None)
        return len(ended), _why(last) if last else ""

    async def _act(self, key: Key, service: AppService, plan: Plan) -> None:
        await self._carry(service, plan)
        for put in plan.puts:
            await self._put(key, service, put)
        running = operation(service)
        if plan.outcome and running is not None:
            await finish(self._world, key, running.id, plan.outcome, plan.reason)
            self._refused.pop(key, None)
            if plan.outcome == "succeeded" and service.candidate:
                self._traffic.expect_first(key, service.candidate)
        for number in plan.deletes:
            request = DeleteWorkload(
                account=service.account, region=service.region, name=names.workload(service, number)
            )
            await self._world.bus.call(DELETE_WORKLOAD, request)

    async def _put(self, key: Key, service: AppService, put: Put) -> None:
        made = revision(service, put.revision)
        if made is None:
            return
        request = PutWorkload(
            account=service.account,
            region=service.region,
            name=names.workload(service, put.revision),
            definition=definition(service, made),
            desired_count=put.count,
            stop_first=list(put.stop_first),
            tags=service.tags,
            service_registries=registries(service),
        )
        try:
            await self._world.bus.call(PUT_WORKLOAD, request)
        except CommandRefused as refusal:
            if refusal.code in _TRY_AGAIN:
                raise StateUnavailable(refusal.message) from refusal
            log.error("app_service.refused", name=service.name, revision=put.revision, error=refusal.message)
            running = operation(service)
            if running is not None:
                self._refused[key] = (running.id, refusal.message)
                self.mark(key)

    async def _carry(self, service: AppService, plan: Plan) -> None:
        if not self._proxy.running:
            return
        most = self._world.bounds(service).concurrency
        carried = self._proxy.carried(service.host)
        servers = {}
        for number in {r.number for r in service.revisions} | {n for n, _ in self._world.workloads_of(service)}:
            for task, status in self._world.tasks_of(service, number):
                made = revision(service, number)
                if task.id in plan.balance and status is not None and status.network is not None and made is not None:
                    port = int(made.source["ImageRepository"]["ImageConfiguration"]["Port"])
                    servers[task.id] = Server(status.network.private_ipv4, port, most, plan.balance[task.id])
        for task, state in plan.balance.items():
            if task not in servers and (known := carried.get(task)) is not None:
                servers[task] = Server(known.address, known.port, most, state)
        await self._proxy.carry(service.host, servers, answers=plan.answers)
        self._traffic.closely(APP_SERVICE.key_of(service), DRAIN in plan.balance.values())
        self._traffic.woken()


def _trace(service: AppService, written: str | None) -> str | None:
    """The trace that a step belongs to: the deployment's while there is one."""
    made = revision(service, service.candidate) if service.candidate else None
    return made.trace if made is not None and made.trace else written


def _told(plan: Plan) -> str:
    steps = [f"{p.count} of revision {p.revision}" for p in plan.puts]
    steps += [f"no revision {n}" for n in plan.deletes]
    return ", ".join([*steps, *([plan.outcome] if plan.outcome else [])])


def _why(status: TaskStatus) -> str:
    """Why a task ended, as its agent says; with the exit code of a container that ended by itself."""
    reasons = [status.stopped_reason or ""]
    reasons += [f"exit code {c.exit_code}" for c in status.containers if c.exit_code is not None]
    return ", ".join(r for r in reasons if r)
