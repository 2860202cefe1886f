"""The bridge network that tasks with an address of their own are on."""

from __future__ import annotations

from typing import Any

from services.agent.runtimes.docker.engine import Engine, EngineError


class Network:
    """One user-defined network of the engine, made when it is missing."""

    def __init__(self, engine: Engine, name: str, subnet: str = "") -> None:
        self._engine = engine
        self.name = name
        self.subnet = subnet
        self._wanted = subnet

    async def provide(self) -> None:
        """Find or make it, and learn its subnet. Raises EngineError: no subnet is free."""
        shown = await self._show()
        if shown is None:
            config = {"IPAM": {"Config": [{"Subnet": self._wanted}]}} if self._wanted else {}
            body = {"Name": self.name, "Driver": "bridge", "CheckDuplicate": True, **config}
            body["Labels"] = {"roadstead.kind": "network"}
            try:
                await self._engine.call("POST", "networks/create", body=body)
            except EngineError as error:
                if "already exists" not in error.message and "already used" not in error.message:
                    raise  # another agent of this engine was faster
            shown = await self._show()
        pools = (((shown or {}).get("IPAM") or {}).get("Config")) or []
        self.subnet = next((pool["Subnet"] for pool in pools if ":" not in pool.get("Subnet", ":")), "")

    async def remove(self) -> None:
        """Remove it, unless somebody is on it or it is gone. An agent that wants it again makes it again."""
        try:
            await self._engine.call("DELETE", f"networks/{self.name}")
        except EngineError as error:
            # In use: Docker says 403 ("has active endpoints"), Podman 409 or 500 ("is being used").
            in_use = error.status in (403, 409) or "being used" in error.message
            if not (in_use or error.status == 404):
                raise

    async def _show(self) -> dict[str, Any] | None:
        try:
            return await self._engine.call("GET", f"networks/{self.name}")
        except EngineError as error:
            if error.status == 404:
                return None
            raise
