"""Holds the tasks of this node to their security groups: with the rules from before their first container starts, and
with every change of a rule or of a group's members from then on. Level-triggered: what is to be is worked out anew.

The default group lets everything through until somebody changes it; a task that is in no other costs nothing here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog

from contracts.records.agent import TASK_STATUS
from contracts.records.network import SECURITY_GROUP, SecurityGroup, default_group, default_group_id
from contracts.records.scheduler import Task
from services.agent.decisions.groups import Membership, groups_of, packet_rules, peers
from services.agent.ports import PacketRules, Runtime, RuntimeFailure, Sandbox
from services.shared.bus import Bus
from services.shared.errors import StateUnavailable
from services.shared.views import Change, View

log = structlog.get_logger()

AGAIN_S = 1.0
Place = tuple[str, str]
"""Account and region."""


class _Guard:
    """A task that is held to its groups. `known`: `rules` is what is in force; after a restart nobody knows."""

    def __init__(self, task: Task, sandbox: Sandbox, known: bool) -> None:
        self.sandbox = sandbox
        self.place = (task.account, task.region)
        self.groups = groups_of(task)
        # The gateway is of this machine: who is behind it must hear it.
        self.also_from = sandbox.gateway if task.drain_s else ""
        self.known = known
        self.rules: PacketRules | None = None
        self.peers: set[str] = set()
        self.lock = asyncio.Lock()


class _Members:
    """The members of all groups of a place, followed from when a rule first names one."""

    def __init__(self, place: Place) -> None:
        self.membership = Membership()
        self.lock = asyncio.Lock()
        self.view: View | None = None
        self.filter = TASK_STATUS.filter(account=place[0], region=place[1])


class Groups:
    """The security groups of one node's tasks. One that is not opened (an external node's) holds nobody to anything:
    such nodes have no awsvpc."""

    def __init__(self, bus: Bus, runtime: Runtime) -> None:
        self._bus = bus
        self._runtime = runtime
        self._view: View | None = None
        self._guards: dict[str, _Guard] = {}
        self._members: dict[Place, _Members] = {}
        self._dirty: set[str] = set()
        self._wake = asyncio.Event()

    async def open(self) -> None:
        """Read the groups and follow them. Raises StateUnavailable."""
        self._view = await View.open(self._bus, SECURITY_GROUP, listen=self._on_group)
        self._working = self._bus.spawn(self._work(), "groups")

    async def close(self) -> None:
        """Let go; what is in force stays so."""
        if self._view is None:
            return
        self._working.cancel()
        await asyncio.gather(self._working, return_exceptions=True)
        await self._view.close()
        for members in self._members.values():
            if members.view is not None:
                await members.view.close()

    async def enter(self, task: Task, sandbox: Sandbox, *, adopted: bool = False) -> bool:
        """Hold a task to its groups, from now on; whether others let things through by its being in one, so that they
        must know of it before it runs. What an agent before this one put in force stays until it is worked out anew.
        Raises RuntimeFailure."""
        guard = _Guard(task, sandbox, known=not adopted)
        if self._view is None or not guard.groups:
            return False
        self._guards[sandbox.id] = guard
        if adopted:
            self._mark((sandbox.id,))
            return False
        await self._hold(guard)
        return self._named(guard)

    async def leave(self, sandbox_id: str) -> None:
        """The task is over: when this returns nothing is being done in its network, and nothing more will be."""
        guard = self._guards.pop(sandbox_id, None)
        if guard is not None:
            async with guard.lock:
                pass

    def _named(self, guard: _Guard) -> bool:
        assert self._view is not None
        return bool(peers(self._view.table(SECURITY_GROUP).records(*guard.place)).intersection(guard.groups))

    def _groups(self, guard: _Guard) -> list[SecurityGroup]:
        """Those of its groups that there are. One that is gone, or not yet heard of, lets nothing through."""
        assert self._view is not None
        found = []
        for group_id in guard.groups:
            record = self._view.table(SECURITY_GROUP).record(*guard.place, group_id)
            if record is None and group_id == default_group_id(*guard.place):
                record = default_group(*guard.place)
            if record is not None:
                found.append(record)
        return found

    async def _hold(self, guard: _Guard) -> None:
        async with guard.lock:
            if self._guards.get(guard.sandbox.id) is not guard:
                return
            groups = self._groups(guard)
            guard.peers = peers(groups)
            members = await self._follow(guard.place) if guard.peers else Membership()
            rules = packet_rules(groups, members.addresses, guard.also_from)
            if guard.known and rules == guard.rules:
                return
            await self._runtime.protect(guard.sandbox, rules)
            guard.rules, guard.known = rules, True

    async def _follow(self, place: Place) -> Membership:
        """The members of this place's groups. Waits while NATS is away."""
        members = self._members.setdefault(place, _Members(place))
        async with members.lock:
            while members.view is None:
                members.membership = Membership()
                try:
                    members.view = await View.open(
                        self._bus, TASK_STATUS, filters=(members.filter,), listen=self._on_status
                    )
                except StateUnavailable:
                    await asyncio.sleep(0.1)
                    await self._bus.connected.wait()
        return members.membership

    def _on_group(self, change: Change) -> None:
        account, region, group_id = change.key
        own = ((account, region), group_id)
        self._mark(i for i, g in self._guards.items() if g.place == own[0] and own[1] in g.groups)

    def _on_status(self, change: Change) -> None:
        place: Place = (change.key[0], change.key[1])
        old, new = (entry.record if entry is not None else None for entry in (change.old, change.new))
        changed = self._members[place].membership.apply(change.key, old, new)
        if changed:
            self._mark(i for i, g in self._guards.items() if g.place == place and not changed.isdisjoint(g.peers))

    def _mark(self, sandbox_ids: Iterable[str]) -> None:
        self._dirty.update(sandbox_ids)
        if self._dirty:
            self._wake.set()

    async def _work(self) -> None:
        """Bring what is in force to what is to be."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            dirty, self._dirty = self._dirty, set()
            for sandbox_id in dirty:
                guard = self._guards.get(sandbox_id)
                if guard is None:
                    continue
                try:
                    await self._hold(guard)
                except RuntimeFailure as failure:
                    if self._guards.get(sandbox_id) is guard:
                        log.error("groups.not_in_force", sandbox=sandbox_id, groups=guard.groups, error=failure.reason)
                        asyncio.get_running_loop().call_later(AGAIN_S, self._mark, (sandbox_id,))
