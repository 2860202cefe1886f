"""Containers that are no tasks and are to reach tasks: joined to the tasks' network.

An engine keeps its networks apart, and only an agent holds its socket. So a container says by a label that it wants to
be on the tasks' network (the gateway of docker-compose.yml does), and each agent of the engine sees to it: at its own
start, and when the engine says that such a container has started. Who declares that network in a compose file instead
has `down` fail on it while tasks live.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from services.agent.runtimes.docker.bodies import NODE
from services.agent.runtimes.docker.engine import Engine, EngineError
from services.agent.runtimes.docker.networks import Network

log = structlog.get_logger()

JOINS = "roadstead.joins"
"""The label. Its value is the network's name."""
AGAIN_S = 0.5
ON, OFF, GONE, IDLE = "on", "off", "gone", "idle"
# Kept where engines know the word (Docker 28), so that the way out of the container stays the one it has.
_NO_WAY_OUT = {"GwPriority": -1}


class Joining:
    """The containers of one engine that join a network; several agents may do so at once."""

    def __init__(self, engine: Engine, network: Network) -> None:
        self._engine = engine
        self._network = network
        self._label = f"{JOINS}={network.name}"
        self._following: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Join what runs, then what starts, until `stop`. An engine that is restarted is followed anew."""
        self._following = asyncio.create_task(self._for_ever())

    async def stop(self) -> None:
        """Join no more; who has joined stays."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    async def _for_ever(self) -> None:
        told = ""
        while True:
            try:
                await self._follow()
                told = ""
            except (EngineError, KeyError, ValueError) as error:
                if str(error) != told:
                    told = str(error)
                    log.warning("joining.interrupted", network=self._network.name, reason=told)
            await asyncio.sleep(AGAIN_S)  # an engine that is away tells nobody when it is back

    async def _follow(self) -> None:
        starts = {"type": ["container"], "event": ["start"], "label": [self._label]}
        async with self._engine.events(starts) as started:
            await self.join()  # what started before the engine tells of starts
            async for event in started:
                await self._join(event["Actor"]["ID"])

    async def join(self) -> None:
        """Join all that run now. Those that do not run are to forget a network that is gone: they would never start
        again. What the engine refuses is told in the log. Raises EngineError: it is away."""
        params = {"all": True, "filters": {"label": [self._label]}}
        for each in await self._engine.call("GET", "containers/json", params=params) or []:
            await self._join(each["Id"])

    async def _join(self, container: str) -> None:
        try:
            now = await self._look(container)
            if now == GONE:
                await self._ask("disconnect", {"Container": container, "Force": True})
            if now in (GONE, OFF):
                await self._ask("connect", {"Container": container, "EndpointConfig": _NO_WAY_OUT})
                log.info("joining.joined", network=self._network.name, container=container)
        except EngineError as error:
            if error.away:
                raise
            if await self._wants(container):
                log.warning("joining.refused", network=self._network.name, container=container, reason=error.message)

    async def _ask(self, verb: str, body: dict[str, Any]) -> None:
        await self._engine.call("POST", f"networks/{self._network.id}/{verb}", body=body)

    async def _wants(self, container: str) -> bool:
        """Whether it is still to be joined: another agent may have been faster, which engines say in many words."""
        try:
            return await self._look(container) in (GONE, OFF)
        except EngineError as error:
            if error.missing:  # it has ended, and was removed
                return False
            raise

    async def _look(self, container: str) -> str:
        return standing(await self._engine.call("GET", f"containers/{container}/json"), self._network)


def standing(shown: dict[str, Any], network: Network) -> str:
    """How an inspected container stands to a network: ON, OFF (it runs without), GONE (it is to start on one that had
    the name and is no more), IDLE (it does not run, and nothing is in its way). Containers of tasks are IDLE: a task
    definition's labels move nothing."""
    if NODE in shown["Config"]["Labels"]:
        return IDLE
    running = shown["State"]["Running"]
    mine = (shown["NetworkSettings"].get("Networks") or {}).get(network.name)
    if mine is None:
        return OFF if running else IDLE
    # Podman gives the name for an id.
    same = mine.get("NetworkID") in (network.id, network.name, "")
    return ON if running else IDLE if same else GONE
