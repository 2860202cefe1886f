"""The hook controller: asks the targets of lifecycle hooks and writes down what they answer.

Which hooks are to be asked when is told by the services' records alone; so a run that was cut off is asked again, with
the same id, by whoever leads next. What a decided hook leads to is the service controller's to decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from msgspec.structs import replace

from contracts.kinds import Key
from contracts.records.scheduler import SERVICE, HookRun, Service
from services.scheduler.adapters import World
from services.scheduler.decisions import hooks
from services.scheduler.ports import HookAway, Hooks
from services.shared import telemetry
from services.shared.errors import StateUnavailable
from services.shared.state import Change, Conflict

log = structlog.get_logger()

RETRY_S = 0.5


class HookController:
    """`heard` is a listener of the world; `run` works until cancelled. `leads` says whether the lease is held."""

    def __init__(self, world: World, targets: Hooks, leads: Callable[[], bool]) -> None:
        self._world = world
        self._targets = targets
        self._leads = leads
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._changed: set[Key] = set()

    def heard(self, change: Change) -> None:
        """A service has changed: it may have hooks that are to be asked."""
        if change.kind is SERVICE:
            self._changed.add(change.key)
            self._wake.set()

    async def run(self) -> None:
        """Have each hook that is undecided asked when it is time; let go of those that are over."""
        self._changed.update(self._world.services.all_keys())
        self._wake.set()
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._changed:
                    self._look(self._changed.pop())
        finally:
            asking = list(self._asking.values())
            for each in asking:
                each.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    def _look(self, key: Key) -> None:
        for run in _to_ask(self._world.services.record(*key)):
            if run.id not in self._asking:
                asking = asyncio.create_task(self._follow(key, run.id))
                self._asking[run.id] = asking
                asking.add_done_callback(lambda _, run_id=run.id: self._asking.pop(run_id, None))

    async def _follow(self, key: Key, run_id: str) -> None:
        """Ask one hook at its times, until it is decided."""
        while (run := _run(self._world.services.record(*key), run_id)) is not None:
            delay = run.next_at - self._world.clock()
            if delay > 0:
                await asyncio.sleep(delay)
                continue
            if not self._leads():
                await asyncio.sleep(RETRY_S)  # the lease comes back, or this controller is ended
                continue
            try:
                await self._ask(key, run)
            except (StateUnavailable, Conflict):
                await asyncio.sleep(RETRY_S)  # there is no event for "NATS answers again" that covers all cases
            except Exception:
                log.exception("hook.not_asked", region=key[1], cluster=key[2], name=key[3], hook=run_id)
                await asyncio.sleep(10 * RETRY_S)

    async def _ask(self, key: Key, run: HookRun) -> None:
        entry = self._world.services.get(*key)
        if entry is None:
            return
        told = {"service": key[3], "cluster": key[2], "stage": entry.record.deployments[0].stage.name, "hook": run.id}
        with telemetry.continued("scheduler.hook", entry.trace, **told):
            try:
                answer = await self._targets.ask(run.target, hooks.payload(entry.record, run))
                after = hooks.answered(run, answer, self._world.clock())
            except HookAway as error:
                after = hooks.unanswered(run, str(error), self._world.clock())
            log.info("hook.asked", **told, target=run.target, status=after.status, reason=after.reason)
            await self._world.store.update(SERVICE, key, lambda old: _with(old, run, after), "service.progressed.v1")


def _to_ask(service: Service | None) -> list[HookRun]:
    """The hooks of a service that a target is to be asked about."""
    if service is None or service.status != "ACTIVE" or not service.deployments:
        return []
    primary = service.deployments[0]
    if primary.stage is None or primary.rollout_state != "IN_PROGRESS":
        return []
    return [run for run in primary.stage.hooks if run.status == "IN_PROGRESS"]


def _run(service: Service | None, run_id: str) -> HookRun | None:
    return next((run for run in _to_ask(service) if run.id == run_id), None)


def _with(old: Service | None, before: HookRun, after: HookRun) -> Service | None:
    """The service with a hook that was answered; as it is, when that hook is none of its any more."""
    if old is None or _run(old, before.id) != before:
        return old
    primary = old.deployments[0]
    assert primary.stage is not None
    found = [after if run.id == before.id else run for run in primary.stage.hooks]
    primary = replace(primary, stage=replace(primary.stage, hooks=found))
    return replace(old, deployments=[primary, *old.deployments[1:]])
