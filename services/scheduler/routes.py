"""HTTP that is not AWS': what operators look at."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
from aiohttp import web

from contracts.records.scheduler import Service
from services.scheduler.adapters import Joined, World
from services.scheduler.decisions import life, spot
from services.scheduler.decisions.express import endpoint
from services.scheduler.handlers.spot import interrupt, release
from services.shared.door_key import KeyedDoor
from services.shared.http import Query, Route, answer, bind, problem
from services.shared.metrics import Metrics

MOST_TASKS = 1000


class NodeState(msgspec.Struct, kw_only=True, frozen=True):
    """A node, and what of it is reserved. cpu in units (1024 = one core), memory in MiB."""

    node: str
    zone: str
    cpu_units: int
    cpu_reserved: int
    memory_mib: int
    memory_reserved: int
    tasks: int
    connected: bool
    draining: bool
    capacity_kind: str
    taken_back: bool


class ClusterState(msgspec.Struct, kw_only=True, frozen=True):
    """A cluster. A hidden one holds the workloads of another service."""

    account: str
    region: str
    name: str
    hidden: bool


class ServiceState(msgspec.Struct, kw_only=True, frozen=True):
    """A service, and how many of its tasks run. `url`: where an Express service answers."""

    account: str
    region: str
    cluster: str
    name: str
    status: str
    desired: int
    running: int
    steady: bool
    url: str = ""


class TaskState(msgspec.Struct, kw_only=True, frozen=True):
    """A task that is not over. `since`: when it was placed."""

    account: str
    region: str
    cluster: str
    id: str
    service: str
    task_definition: str
    node: str
    status: str
    health: str
    address: str
    since: float


class State(msgspec.Struct, kw_only=True, frozen=True):
    """All of it; `tasks` counts every task that is known, those over for a while too."""

    nodes: list[NodeState]
    clusters: list[ClusterState]
    services: list[ServiceState]
    tasks: int
    latest_tasks: list[TaskState]


class Interrupted(msgspec.Struct, frozen=True):
    """The ids of the tasks whose spot capacity is taken back."""

    tasks: list[str]


class NodeName(msgspec.Struct, frozen=True):
    """A node."""

    node: str


class Overview:
    """Nodes with what is reserved on them, and services with how many of their tasks run."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def state(self, request: web.Request) -> web.Response:
        """`GET /state`: a State; `?tasks=N` adds the N tasks that were placed last and are not over."""
        text = request.query.get("tasks", "0")
        if not text.isdecimal() or int(text) > MOST_TASKS:
            return problem(f"tasks is a number from 0 to {MOST_TASKS}", 400)
        return answer(self.describe(int(text)))

    def describe(self, tasks: int = 0) -> State:
        """The same, as a value."""
        return State(
            nodes=self._nodes(),
            clusters=self._clusters(),
            services=self._services(),
            tasks=len(self._world.tasks),
            latest_tasks=self._tasks(tasks) if tasks else [],
        )

    def measure(self, metrics: Metrics) -> None:
        """Tell Prometheus how many there are of what."""
        metrics.observed("nodes", "Nodes, by whether they are heard of", ("state",), self._count_nodes)
        metrics.observed("tasks", "Tasks that are not over, by their last status", ("status",), self._count_tasks)
        metrics.observed(
            "service_tasks",
            "Tasks of a service, wanted and running",
            ("cluster", "service", "kind"),
            self._count_services,
        )

    def _count_nodes(self) -> dict[tuple[str, ...], float]:
        counted = Counter("ready" if self._world.connected(n.node) else "silent" for n in self._world.present())
        return {(state,): counted[state] for state in ("ready", "silent")}

    def _count_tasks(self) -> dict[tuple[str, ...], float]:
        joined = (each for node in self._world.nodes.records() for each in self._world.tasks_on(node.node))
        return dict(Counter((life.last_status(*each),) for each in joined if not life.over(*each)))

    def _count_services(self) -> dict[tuple[str, ...], float]:
        return {
            (each.cluster, each.name, kind): count
            for each in self._services()
            for kind, count in (("desired", each.desired), ("running", each.running))
        }

    def _nodes(self) -> list[NodeState]:
        shown = []
        for node in sorted(self._world.present(), key=lambda n: n.node):
            used = self._world.ledger.usage(node.node)
            shown.append(
                NodeState(
                    node=node.node,
                    zone=node.zone,
                    cpu_units=node.cpu_units,
                    cpu_reserved=used.cpu,
                    memory_mib=node.memory_mib,
                    memory_reserved=used.memory,
                    tasks=used.tasks,
                    connected=self._world.connected(node.node),
                    draining=node.draining,
                    capacity_kind=node.capacity_kind,
                    taken_back=self._world.reclaims.record(node.node) is not None,
                )
            )
        return shown

    def _clusters(self) -> list[ClusterState]:
        return [
            ClusterState(account=c.account, region=c.region, name=c.name, hidden=c.hidden)
            for c in sorted(self._world.clusters.records(), key=lambda c: (c.account, c.region, c.name))
            if c.status == "ACTIVE"
        ]

    def _services(self) -> list[ServiceState]:
        return [
            ServiceState(
                account=s.account,
                region=s.region,
                cluster=s.cluster,
                name=s.name,
                status=s.status,
                desired=s.desired_count,
                running=sum(m.state == "running" for m in self._world.members(s.account, s.region, s.cluster, s.name)),
                steady=s.steady,
                url=self._url(s),
            )
            for s in sorted(self._world.services.records(), key=lambda s: (s.cluster, s.name))
            if s.status != "INACTIVE"
        ]

    def _url(self, service: Service) -> str:
        if service.front is None:
            return ""
        return f"https://{endpoint(service.front, self._world.ingress)}"

    def _tasks(self, most: int) -> list[TaskState]:
        nodes = [node.node for node in self._world.nodes.records()]
        joined = (each for node in nodes for each in self._world.tasks_on(node))
        present = (each for each in joined if life.counts_as(*each) != "stopped")
        return [_task_state(each) for each in heapq.nlargest(most, present, key=lambda j: (j[0].created_at, j[0].id))]


def _task_state(joined: Joined) -> TaskState:
    task, status = joined
    network = status.network if status is not None else None
    return TaskState(
        account=task.account,
        region=task.region,
        cluster=task.cluster,
        id=task.id,
        service=task.service,
        task_definition=task.task_definition,
        node=task.node,
        status=life.last_status(task, status),
        health=status.health_status if status is not None else "UNKNOWN",
        address=network.private_ipv4 if network is not None else "",
        since=task.created_at,
    )


class Spot(KeyedDoor):
    """Spot capacity, taken back and given again by an operator."""

    refuses = (spot.BadInterruption, msgspec.MsgspecError)

    def __init__(self, world: World, key: Path) -> None:
        super().__init__(key)
        self._world = world

    async def interrupt(self, request: web.Request) -> web.Response:
        """`POST /spot/interruptions`: take back a task's capacity or a node's."""
        return answer(Interrupted(await interrupt(self._world, spot.read(await request.read()))))

    async def release(self, request: web.Request) -> web.Response:
        """`DELETE /spot/interruptions`: the node has spot capacity again."""
        named = msgspec.json.decode(await request.read(), type=NodeName)
        if not await release(self._world, named.node):
            return problem(f"node: nothing of {named.node} was taken back", 404)
        return answer(named)


def routes(overview: Overview, spot_routes: Spot) -> Sequence[web.AbstractRouteDef]:
    """All of them, each with its owner."""
    return [*bind(READING, overview), *bind(SPOT, spot_routes)]


READING = (
    Route(
        "GET",
        "/state",
        "state",
        State,
        "Nodes with what is reserved on them, clusters, services with how many of their tasks run.",
        (
            Query(
                "tasks",
                f"also so many tasks that are not over, newest first (at most {MOST_TASKS})",
                "integer",
                0,
            ),
        ),
        {400: "`tasks` is no such number"},
    ),
)
_LOCK = {400: "a member is wrong; says which", 401: "the key is missing or wrong", 503: "NATS is away"}
SPOT = (
    Route(
        "POST",
        "/spot/interruptions",
        "interrupt",
        Interrupted,
        "Take back the spot capacity of a task, or of a node until it is released.",
        errors=_LOCK,
        body=spot.Interruption,
        locked=True,
    ),
    Route(
        "DELETE",
        "/spot/interruptions",
        "release",
        NodeName,
        "Let a node have spot capacity again.",
        errors={404: "nothing of it was taken back", **_LOCK},
        body=NodeName,
        locked=True,
    ),
)
ROUTES = (*READING, *SPOT)
