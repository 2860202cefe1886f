"""The bridge network that tasks with an address of their own are on."""

from __future__ import annotations

from typing import Any

from services.agent.runtimes.docker.engine import Engine, EngineError


class Network:
    """One user-defined network of the engine, made when it is missing.

    Docker's names are no key: agents that start together and each find the name free make a network each, and from
    then on the name is "ambiguous". So every agent settles on one by the same rule, and takes away the others.
    """

    def __init__(self, engine: Engine, name: str, subnet: str = "") -> None:
        self._engine = engine
        self._wanted = subnet
        self.name = name
        self.subnet = subnet
        self.id = ""
        """What to call it: the name may mean another one too, for a moment."""

    async def provide(self) -> None:
        """Find or make it, and learn its id and subnet. Raises EngineError: no subnet is free."""
        found = await self._named()
        if not found:
            await self._create()
            found = await self._named()
        if not found:
            raise EngineError(404, f"the network {self.name} was removed while it was made")
        chosen = await self._settle(found)
        self.id = chosen["Id"]
        pools = (chosen.get("IPAM") or {}).get("Config") or []
        self.subnet = next((pool["Subnet"] for pool in pools if ":" not in pool.get("Subnet", ":")), "")

    async def remove(self) -> None:
        """Remove it, unless somebody is on it or it is gone. An agent that wants it again makes it again."""
        for each in await self._named():
            await self._removed(each)

    async def _create(self) -> None:
        config = {"IPAM": {"Config": [{"Subnet": self._wanted}]}} if self._wanted else {}
        body = {"Name": self.name, "Driver": "bridge", "CheckDuplicate": True, **config}
        body["Labels"] = {"roadstead.kind": "network"}
        try:
            await self._engine.call("POST", "networks/create", body=body)
        except EngineError as error:
            if "already exists" not in error.message and "already used" not in error.message:
                raise  # another agent of this engine was faster

    async def _named(self) -> list[dict[str, Any]]:
        """The networks of this very name, the oldest first. The engine's filter finds parts of names too."""
        listed = await self._engine.call("GET", "networks", params={"filters": {"name": [self.name]}})
        found = [each for each in listed or [] if each.get("Name", each.get("name")) == self.name]
        return sorted(found, key=lambda each: (str(each.get("Created", "")), str(each["Id"])))

    async def _settle(self, found: list[dict[str, Any]]) -> dict[str, Any]:
        """The one to use: the oldest, unless it is another that tasks are on already."""
        chosen, *others = found
        for other in others:
            if not await self._removed(other) and await self._removed(chosen):
                chosen = other
        return chosen

    async def _removed(self, network: dict[str, Any]) -> bool:
        """Whether it is gone now; False while somebody is on it."""
        try:
            await self._engine.call("DELETE", f"networks/{network['Id']}")
        except EngineError as error:
            # In use: Docker says 403 ("has active endpoints"), Podman 409 or 500 ("is being used").
            if error.status in (403, 409) or "being used" in error.message:
                return False
            if error.status != 404:
                raise
        return True
