"""Tells what happened, as EventBridge would be told: a durable consumer of the event log, one event a change.

Any scheduler may be the one that tells of a change. It is told at least once; who is told twice finds the same id, and
the stream refuses the second within ten minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from contracts.events import EVENTS
from contracts.kinds import Key, Kind
from contracts.records.agent import NODE, TASK_STATUS, Node, TaskStatus
from contracts.records.events import AwsEvent
from contracts.records.scheduler import CONTAINER_INSTANCE, SERVICE, TASK, TASK_DEFINITION, Cluster, Task
from contracts.streams import EVENTS_AGE_S
from contracts.subjects import EVENTS_STREAM
from services.scheduler.adapters import World
from services.scheduler.decisions import names
from services.scheduler.decisions.telling import Teller
from services.shared.aws_events import tell
from services.shared.consumers import Consumer, Event

KINDS = (TASK, TASK_STATUS, SERVICE, NODE, CONTAINER_INSTANCE)

ShowTask = Callable[[World, Task, TaskStatus | None], Any]
ShowInstance = Callable[[World, Cluster, Node], Any]


class Telling:
    """Hears of every change of tasks, services, nodes and container instances. `show_task` and `show_instance` are how
    the API shows them."""

    def __init__(self, world: World, show_task: ShowTask, show_instance: ShowInstance) -> None:
        self._world = world
        self._show_task = show_task
        self._show_instance = show_instance

    def consumer(self) -> Consumer:
        """What calls it."""
        heard = {
            TASK: self.on_task,
            TASK_STATUS: self.on_task_status,
            SERVICE: self.on_service,
            NODE: self.on_node,
            CONTAINER_INSTANCE: self.on_instance,
        }

        async def on_change(event: Event) -> None:
            if event.record is not None:  # what is deleted was told to be over before
                await heard[event.kind](event)

        return Consumer(self._world.bus, "telling", KINDS, {name: on_change for kind in KINDS for name in EVENTS[kind]})

    async def on_task(self, event: Event) -> None:
        """What is wanted of a task has changed: it is placed, or to stop."""
        placed = event.name == "task.placed.v1"  # no agent knows of it yet
        await self._tell_task(event, event.record, None if placed else await self._then(TASK_STATUS, event))

    async def on_task_status(self, event: Event) -> None:
        """What a task is has changed."""
        task = await self._then(TASK, event)
        if task is not None:
            await self._tell_task(event, task, event.record)

    async def _tell_task(self, event: Event, task: Any, status: TaskStatus | None) -> None:
        if self._world.shown(*event.key[:3]) is None:
            return
        family, _, revision = task.task_definition.rpartition(":")
        await self._known(TASK_DEFINITION, (task.account, task.region, family, revision))
        shape = msgspec.to_builtins(self._show_task(self._world, task, status))
        await self._tell([_teller(event).task(shape)])

    async def on_service(self, event: Event) -> None:
        """A service is another than it was: the log knows what it was."""
        service: Any = event.record
        if self._world.shown(*event.key[:3]) is None or names.daemon_name(service.name) is not None:
            return
        before = await self._logged(SERVICE, event)
        since = self._world.clock() - EVENTS_AGE_S
        by_itself = event.name not in ("service.created.v1", "service.updated.v1")
        await self._tell(_teller(event).service(before, service, since, by_itself=by_itself))

    async def _then(self, kind: Kind[Any], event: Event) -> Any:
        """The record of another kind with the event's key, as it was when the event was logged: a task that starts and
        stops at once was RUNNING in between, whatever is known of it by now. What the log has forgotten is as it is."""
        found = await self._logged(kind, event)
        if found is not None:
            return found
        table = self._world.tasks if kind is TASK else self._world.statuses
        return table.record(*event.key)

    async def _logged(self, kind: Kind[Any], event: Event) -> Any:
        """The newest record of a kind with the event's key before the event, None when the log has none (any more)."""
        if event.logged <= 1:
            return None
        subject = kind.subject(event.key).replace("state.", "events.", 1)
        body = {"multi_last": [subject], "up_to_seq": event.logged - 1}
        found = await self._world.bus.request(f"$JS.API.DIRECT.GET.{EVENTS_STREAM}", msgspec.json.encode(body))
        return kind.decoder.decode(found.data) if "Nats-Sequence" in (found.headers or {}) and found.data else None

    async def on_node(self, event: Event) -> None:
        """A node's agent has registered: a container instance of every cluster."""
        node: Any = event.record
        await self._tell_node(node, _origin(event), event.at)

    async def node_connection(self, name: str, silent_at: float) -> None:
        """A node's agent is not heard of any more, or is again. No record says so, heartbeats do: whoever leads tells,
        and who takes over in between tells once more. `silent_at` is when it is held to be silent."""
        node = self._world.nodes.record(name)
        if node is not None:
            word = "heard" if self._world.connected(name) else "silent"
            await self._tell_node(node, f"{name} {node.session} {word} {silent_at}", self._world.clock())

    async def _tell_node(self, node: Node, origin: str, at: float) -> None:
        for cluster in list(self._world.clusters.records()):
            shown = cluster.status == "ACTIVE" and not cluster.hidden
            if shown and self._world.belongs(cluster.account, cluster.region, cluster.name, node.node):
                await self._tell_instance(cluster, node, origin, at)

    async def on_instance(self, event: Event) -> None:
        """A container instance has other attributes, or is to be emptied."""
        cluster, node = self._world.shown(*event.key[:3]), self._world.nodes.record(event.key[3])
        if cluster is not None and node is not None:
            await self._tell_instance(cluster, node, _origin(event), event.at)

    async def _tell_instance(self, cluster: Cluster, node: Node, origin: str, at: float) -> None:
        where = (cluster.account, cluster.region)
        shape = msgspec.to_builtins(self._show_instance(self._world, cluster, node))
        if not self._world.belongs(*where, cluster.name, node.node):
            shape["status"] = "INACTIVE"
        teller = Teller(*where, origin, at)
        await self._tell([teller.instance(shape, names.arn(*where, "cluster", cluster.name))])

    async def _known(self, kind: Kind[Any], key: Key) -> Any:
        """A record; another scheduler may have written it a moment ago."""
        found = self._world.store.table(kind).record(*key)
        if found is None:
            entry = await self._world.store.refresh(kind, key)
            found = entry.record if entry is not None else None
        return found

    async def _tell(self, told: Iterable[AwsEvent]) -> None:
        for event in told:
            await tell(self._world.bus, event)


def _origin(event: Event) -> str:
    return f"{event.kind.subject(event.key)} {event.sequence}"


def _teller(event: Event) -> Teller:
    return Teller(event.key[0], event.key[1], _origin(event), event.at)
