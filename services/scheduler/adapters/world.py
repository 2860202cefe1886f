"""The world as the scheduler sees it: its own records, the agents' records, who is alive, what is reserved.

All of it is memory, kept up to date by NATS. Reading costs nothing; writing is `world.store`.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from msgspec.structs import replace
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from contracts.kinds import Key, unescape
from contracts.records.agent import NODE, TASK_STATUS, Node, TaskStatus
from contracts.records.identity import MANAGED_NODE, ManagedNode
from contracts.records.scheduler import (
    CONTAINER_INSTANCE,
    SERVICE,
    SPOT_RECLAIM,
    TASK,
    TASK_DEFINITION,
    Cluster,
    ContainerInstance,
    Task,
)
from contracts.subjects import HEARTBEATS
from services.scheduler.adapters.impaired import Impaired
from services.scheduler.adapters.records import Records
from services.scheduler.decisions import life, managed_daemons, membership
from services.scheduler.decisions.backoff import Member
from services.scheduler.decisions.capacity import FARGATE_PROVIDERS
from services.scheduler.decisions.names import container_instance_id, daemon_name
from services.scheduler.decisions.placement import Candidate, Holding, Ledger, candidate_of
from services.scheduler.settings import SchedulerSettings
from services.shared.bus import Bus
from services.shared.clock import Clock
from services.shared.state import Change

Joined = tuple[Task, TaskStatus | None]
Counted = tuple[str, str | None]
"""A task's state and its launch type."""


class World(Records):
    """Open it with `World.open`."""

    def __init__(self, bus: Bus, clock: Clock, settings: SchedulerSettings) -> None:
        super().__init__(bus)
        self.clock = clock
        self.settings = settings
        self.silence_s = settings.node_silence_s
        self.backoff = settings.backoff()
        self.ledger = Ledger()
        self.managed: dict[str, ManagedNode] = {}
        self.impaired = Impaired()
        self._heartbeats: Subscription | None = None
        self._heard: dict[str, float] = {}
        self._candidates: dict[str, tuple[int, Candidate]] = {}
        self._instances: dict[str, str] = {}
        self._changed_candidates: dict[tuple[str, ...], tuple[Candidate, ContainerInstance, Candidate]] = {}
        self._task_keys: dict[Key, Key] = {}
        self._of_service: defaultdict[Key, set[Key]] = defaultdict(set)
        self._of_node: defaultdict[str, set[Key]] = defaultdict(set)
        self._latest: dict[Key, int] = {}
        self._counted_as: dict[Key, Counted] = {}
        self._counts: defaultdict[Key, Counter[Counted]] = defaultdict(Counter)
        self._early: list[Change] | None = []

    @classmethod
    async def open(cls, bus: Bus, clock: Clock, settings: SchedulerSettings) -> World:
        """Read all there is and follow. Raises StateUnavailable."""
        world = cls(bus, clock, settings)
        await world._follow()
        early, world._early = world._early or [], None
        for change in early:
            world._take_in(change)
        for change in early:
            world._judge(change)
        world._heartbeats = await bus.subscribe(HEARTBEATS, world._on_heartbeat)
        bus.on_reconnect(world.forgive)
        return world

    async def close(self) -> None:
        """Stop following."""
        if self._heartbeats is not None:
            await self._heartbeats.unsubscribe()
        await super().close()

    # What changes

    def _changed(self, change: Change) -> None:
        if self._early is not None:
            self._early.append(change)
            return
        self._take_in(change)
        self._tell(change)
        for node in self._judge(change):
            self._touch(node)

    def _touch(self, node: str) -> None:
        """A node is not what it was, although its record is."""
        entry = self.nodes.get(node)
        self._tell(Change(NODE, (node,), entry, entry))

    def _take_in(self, change: Change) -> None:
        if change.kind is TASK:
            self._index_task(change)
            self._settle(change.key)
        elif change.kind is TASK_STATUS:
            self._settle(change.key)
        elif change.kind is NODE:
            self._index_node(change)
        elif change.kind is MANAGED_NODE and change.new is not None:
            record: ManagedNode = change.new.record
            self.managed[record.node] = record
            self._candidates.pop(record.node, None)
        elif change.kind is SPOT_RECLAIM:
            self._candidates.pop(change.key[0], None)
        elif change.kind is TASK_DEFINITION and change.new is not None:
            account, region, family, revision = change.key
            family_key = (account, region, family)
            self._latest[family_key] = max(self._latest.get(family_key, 0), int(revision))

    def _index_task(self, change: Change) -> None:
        account, region, cluster, node, task_id = key = change.key
        record: Task = (change.new or change.old).record  # type: ignore[union-attr]
        service_key = (account, region, cluster, record.service)
        if change.new is not None:
            self._task_keys[account, region, cluster, task_id] = key
            self._of_node[node].add(key)
            if record.service:
                self._of_service[service_key].add(key)
            return
        self._task_keys.pop((account, region, cluster, task_id), None)
        self._of_node[node].discard(key)
        self._of_service[service_key].discard(key)
        if not self._of_service[service_key]:
            del self._of_service[service_key]

    def _index_node(self, change: Change) -> None:
        name = change.key[0]
        self._candidates.pop(name, None)
        if change.new is None:
            self._heard.pop(name, None)
            self._instances.pop(container_instance_id(name), None)
            return
        self._instances[container_instance_id(name)] = name
        if change.old is None or change.old.record.session != change.new.record.session:
            self._heard[name] = self.clock()

    def _judge(self, change: Change) -> list[str]:
        """The nodes that a change has made well, or not: where a critical daemon's task fares otherwise now."""
        if change.kind is SERVICE and daemon_name(change.key[3]) is not None:
            account, region, cluster, daemon = change.key
            on = {task.node for task, _ in self.tasks_of(*change.key)}
            nodes = on | {*self.impaired.nodes_of(change.key[:3], daemon)}
        elif change.kind in (TASK, TASK_STATUS):
            task = self.tasks.record(*change.key) or (change.old.record if change.old is not None else None)
            if not isinstance(task, Task) or daemon_name(task.service) is None:
                return []
            (account, region, cluster), daemon, nodes = change.key[:3], task.service, {task.node}
        else:
            return []
        where = (account, region, cluster)
        service = self.services.record(*where, daemon)
        critical = service is not None and managed_daemons.is_critical(service)
        return [
            node
            for node in sorted(nodes)
            if self.impaired.set(where, node, daemon, critical and self._impairs((*where, daemon), node))
        ]

    def _impairs(self, daemon: Key, node: str) -> bool:
        tasks = [each for each in self.tasks_of(*daemon) if each[0].node == node]
        definition = self.definition_of(max((task for task, _ in tasks), key=lambda t: t.created_at)) if tasks else None
        checked = definition is not None and life.has_health_check(definition.definition)
        return managed_daemons.impairs(tasks, checked)

    def _settle(self, key: Key) -> None:
        """Hold or let go of what the task reserves, and count it as what it is now."""
        task, status = self.tasks.record(*key), self.statuses.record(*key)
        self._count(key, None if task is None else (life.counts_as(task, status), task.launch_type))
        if task is None or life.over(task, status):
            self.ledger.release(key)
            return
        self.ledger.hold(key, self.holding(task))

    def _count(self, key: Key, now: Counted | None) -> None:
        before = self._counted_as.get(key)
        if before == now:
            return
        counts = self._counts[key[:3]]
        if before is not None:
            counts[before] -= 1
        if now is None:
            self._counted_as.pop(key, None)
        else:
            counts[now] += 1
            self._counted_as[key] = now

    @staticmethod
    def holding(task: Task) -> Holding:
        """What the task reserves."""
        group = f"{task.account}/{task.region}/{task.cluster}/{task.group}"
        gpus = tuple(gpu for own in task.gpus.values() for gpu in own)
        return Holding(task.node, task.cpu_units, task.memory_mib, tuple(task.host_ports), group, gpus)

    # Who is alive

    async def _on_heartbeat(self, message: Msg) -> None:
        name = unescape(message.subject.split(".")[2])
        if name not in self._heard:
            return
        was_silent = not self.connected(name)
        self._heard[name] = self.clock()
        if was_silent:
            self._touch(name)

    def forgive(self) -> None:
        """After a time in which nothing could be heard, nobody is silent yet."""
        now = self.clock()
        for name in self._heard:
            self._heard[name] = now

    def connected(self, node: str) -> bool:
        """Whether the node's agent was heard of lately."""
        heard = self._heard.get(node)
        return heard is not None and self.clock() - heard <= self.silence_s

    def silences(self) -> Iterator[tuple[str, float]]:
        """Each node with the time at which it will have been silent for too long; never (inf) for external ones, unless
        the settings say otherwise."""
        return iter([(name, heard + self.patience_s(name)) for name, heard in self._heard.items()])

    def patience_s(self, node: str) -> float:
        """How long a node may be silent before what it runs is written off."""
        return self.silence_s if node not in self.managed else self.settings.external_silence_s or math.inf

    def occupied_nodes(self) -> list[str]:
        """The nodes on which something is reserved."""
        return self.ledger.occupied()

    # What is

    def candidates(self, account: str, region: str, cluster: str, *, impaired: bool = False) -> list[Candidate]:
        """All nodes of a cluster, as placement sees them: with what the cluster's owner made of them. Those that are
        not well take tasks too if `impaired` says so."""
        found = [self._candidate(entry.record, entry.sequence) for entry in self.nodes.entries()]
        strangers = self._strangers(account, region, cluster)
        if strangers:
            found = [node for node in found if node.name not in strangers]
        ill = () if impaired else self.impaired.of(account, region, cluster)
        if ill:
            found = [replace(node, usable=False) if node.name in ill else node for node in found]
        changed = {i.node: i for i in self.instances.records(account, region, cluster)}
        if not changed:
            return found
        return [self._with(node, changed[node.name]) if node.name in changed else node for node in found]

    def candidate(
        self, account: str, region: str, cluster: str, node: str, *, impaired: bool = False
    ) -> Candidate | None:
        """A node as placement in a cluster sees it. `impaired`: as in `candidates`."""
        entry = self.nodes.get(node)
        if entry is None or not self.belongs(account, region, cluster, node):
            return None
        found = self._candidate(entry.record, entry.sequence)
        if not impaired and self.impaired.by(account, region, cluster, node):
            found = replace(found, usable=False)
        instance = self.instances.record(account, region, cluster, node)
        return found if instance is None else self._with(found, instance)

    def _with(self, node: Candidate, instance: ContainerInstance) -> Candidate:
        key = CONTAINER_INSTANCE.key_of(instance)
        known = self._changed_candidates.get(key)
        if known is None or known[0] is not node or known[1] is not instance:
            usable = node.usable and instance.status != "DRAINING"
            made = replace(node, attributes={**node.attributes, **instance.attributes}, usable=usable)
            known = self._changed_candidates[key] = (node, instance, made)
        return known[2]

    def nodes_of(self, account: str, region: str, cluster: str) -> list[Node]:
        """The nodes that are container instances of a cluster (decisions.membership)."""
        strangers = self._strangers(account, region, cluster)
        return [node for node in self.nodes.records() if node.node not in strangers]

    def present(self) -> list[Node]:
        """All nodes but the external ones that were taken out: what their agents said last stays."""
        out = {m.node for m in self.managed.values() if self.deregistered(m.account, m.region, m.cluster, m.node)}
        return [node for node in self.nodes.records() if node.node not in out]

    def node_count(self, account: str, region: str, cluster: str) -> int:
        """How many nodes a cluster has."""
        return len(self.nodes) - sum(node in self._heard for node in self._strangers(account, region, cluster))

    def _strangers(self, account: str, region: str, cluster: str) -> set[str]:
        named = {*self.managed, *(i.node for i in self.instances.records(account, region, cluster))}
        return {node for node in named if not self.belongs(account, region, cluster, node)}

    def belongs(self, account: str, region: str, cluster: str, node: str) -> bool:
        """Whether a node is of a cluster."""
        where = (account, region, cluster)
        return membership.of_cluster(self.managed.get(node), where) and not self.deregistered(*where, node)

    def deregistered(self, account: str, region: str, cluster: str, node: str) -> bool:
        """Whether a node was taken out of a cluster."""
        instance = self.instances.record(account, region, cluster, node)
        return membership.taken_out(self.managed.get(node), instance, self.nodes.record(node))

    def draining(self, account: str, region: str, cluster: str, node: str) -> bool:
        """Whether a cluster's tasks are to leave a node."""
        if self.impaired.by(account, region, cluster, node):
            return True
        instance = self.instances.record(account, region, cluster, node)
        if instance is not None and instance.status == "DRAINING":
            return True
        record = self.nodes.record(node)
        return record is not None and record.draining

    def providers_of(self, account: str, region: str, cluster: str) -> dict[str, str]:
        """The capacity providers that a cluster's tasks may run on, with the launch type that these have then. One of
        managed instances is of one cluster."""
        own = [
            p for p in self.providers.records(account, region) if p.status == "ACTIVE" and p.cluster in ("", cluster)
        ]
        return {**FARGATE_PROVIDERS, **{p.name: "MANAGED_INSTANCES" if p.cluster else "EC2" for p in own}}

    def _candidate(self, node: Node, sequence: int) -> Candidate:
        connected = self.connected(node.node)
        known = self._candidates.get(node.node)
        if known is not None and known[0] == sequence and known[1].connected == connected:
            return known[1]
        spot = self.reclaims.record(node.node) is None
        made = candidate_of(node, external=node.node in self.managed, spot=spot, connected=connected)
        self._candidates[node.node] = (sequence, made)
        return made

    def shown(self, account: str, region: str, cluster: str) -> Cluster | None:
        """A cluster, None for a hidden one: what runs there is nobody's but the service's that has it run."""
        found = self.clusters.record(account, region, cluster)
        return None if found is None or found.hidden else found

    def node_of_instance(self, instance_id: str) -> str | None:
        """The node that is shown as this container instance."""
        return self._instances.get(instance_id)

    def counts(self, account: str, region: str, cluster: str) -> Mapping[Counted, int]:
        """How many tasks a cluster has in each state (life.counts_as) and of each launch type."""
        return self._counts.get((account, region, cluster), {})

    def task_key(self, account: str, region: str, cluster: str, task_id: str) -> Key | None:
        """Where a task is stored."""
        return self._task_keys.get((account, region, cluster, task_id))

    def joined(self, key: Key) -> Joined | None:
        """A task and its status."""
        task = self.tasks.record(*key)
        return (task, self.statuses.record(*key)) if task is not None else None

    def tasks_in(self, *prefix: str) -> list[Joined]:
        """The tasks of an account, a region, a cluster."""
        key_of = TASK.key_of
        return [(task, self.statuses.record(*key_of(task))) for task in self.tasks.records(*prefix)]

    def tasks_on(self, node: str) -> list[Joined]:
        """The tasks on a node, of all accounts."""
        return self._join(self._of_node.get(node, ()))

    def tasks_of(self, account: str, region: str, cluster: str, service: str) -> list[Joined]:
        """The tasks of a service."""
        return self._join(self._of_service.get((account, region, cluster, service), ()))

    def _join(self, keys: object) -> list[Joined]:
        return [found for key in list(keys) if (found := self.joined(key)) is not None]  # type: ignore[call-overload]

    def members(self, account: str, region: str, cluster: str, service: str) -> list[Member]:
        """The tasks of a service, as rollouts see them."""
        checked: dict[str, bool] = {}
        members = []
        record = self.services.record(account, region, cluster, service)
        fronted = record.fronted if record is not None else ()
        for task, status in self.tasks_of(account, region, cluster, service):
            if task.task_definition not in checked:
                definition = self.definition_of(task)
                checked[task.task_definition] = definition is not None and life.has_health_check(definition.definition)
            leaving = self.draining(account, region, cluster, task.node)
            made = life.member(task, status, checked[task.task_definition], leaving=leaving)
            behind = task.deployment in fronted
            members.append(life.behind_gateway(made, self.targets.record(*TASK.key_of(task))) if behind else made)
        return members

    def latest_revision(self, account: str, region: str, family: str) -> int:
        """The highest revision ever given out, 0 for none."""
        return self._latest.get((account, region, family), 0)

    def claim_revision(self, account: str, region: str, family: str) -> int:
        """The next revision of a family, given out once in this process; a number may stay unused."""
        key = (account, region, family)
        self._latest[key] = revision = self._latest.get(key, 0) + 1
        return revision
