"""External nodes: the machines that joined with an activation, and whether one is still in."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from contracts.records.identity import MANAGED_NODE, ManagedNode
from contracts.records.scheduler import CONTAINER_INSTANCE, TASK, TASK_DEFINITION, Task, TaskDefinition
from services.shared.bus import Bus
from services.shared.errors import AccessDenied
from services.shared.state import fetch
from services.shared.views import Change, View


class ManagedNodes:
    """All that ever joined, in memory. Open it with `ManagedNodes.open`."""

    def __init__(self, bus: Bus, nodes: View, instances: View) -> None:
        self._bus = bus
        self._nodes = nodes
        self._instances = instances.table(CONTAINER_INSTANCE)
        self._views = (nodes, instances)
        self._known: dict[str, ManagedNode] = {}
        self._listeners: list[Callable[[str], None]] = []
        for record in nodes.table(MANAGED_NODE).records():
            self._known[record.node] = record
        for view in self._views:
            view.listen(self._on_change)

    @classmethod
    async def open(cls, bus: Bus) -> ManagedNodes:
        """Read all, and follow. Raises StateUnavailable."""
        return cls(bus, await View.open(bus, MANAGED_NODE), await View.open(bus, CONTAINER_INSTANCE))

    async def close(self) -> None:
        """Stop following."""
        for view in self._views:
            await view.close()

    def listen(self, listener: Callable[[str], None]) -> None:
        """Be told the name of each node of which something changed."""
        self._listeners.append(listener)

    def _on_change(self, change: Change) -> None:
        entry = change.new or change.old
        if entry is None:
            return
        record = entry.record
        if change.kind is MANAGED_NODE:
            self._known[record.node] = record
        for listener in self._listeners:
            listener(record.node)

    def member(self, node: str) -> ManagedNode | None:
        """The node, if it is in: neither its account's owner nor its cluster's has taken it out."""
        found = self._known.get(node)
        if found is None or found.status != "ACTIVE":
            return None
        instance = self._instances.record(found.account, found.region, found.cluster, node)
        return found if instance is None or instance.status != "INACTIVE" else None

    def refusal(self, node: str, secret: str) -> str:
        """Why it may not connect with this secret; empty when it may."""
        found = self._known.get(node)
        if found is None or not hmac.compare_digest(digest(secret), found.secret_digest):
            return "there is no such node, or its secret is another one"
        return "" if self.member(node) is not None else f"{node} was deregistered"

    async def task(self, node: str, task_id: str) -> tuple[Task, TaskDefinition]:
        """A task that is on this node, with its definition, as they are now. Raises AccessDenied, StateUnavailable."""
        member = self.member(node)
        task = definition = None
        if member is not None:
            key = (member.account, member.region, member.cluster, node, task_id)
            task = await fetch(self._bus, TASK, key)
        if task is not None:
            family, _, revision = task.task_definition.rpartition(":")
            definition = await fetch(self._bus, TASK_DEFINITION, (task.account, task.region, family, revision))
        if task is None or definition is None or task.lost_at is not None:
            raise AccessDenied(f"The node {node} has no task {task_id}.")
        return task, definition


def digest(secret: str) -> str:
    """What is kept of a secret. It is random and long, so that no slower hash is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()
