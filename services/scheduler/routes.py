"""HTTP that is not AWS': what operators look at."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from services.scheduler.adapters import World


class Overview:
    """Nodes with what is reserved on them, and services with how many of their tasks run."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def state(self, request: web.Request) -> web.Response:
        """`GET /state`: {"nodes": […], "services": […], "tasks": n}. cpu in units, memory in MiB."""
        return web.json_response(self.describe())

    def describe(self) -> dict[str, Any]:
        """The same, as a value."""
        return {"nodes": self._nodes(), "services": self._services(), "tasks": len(self._world.tasks)}

    def _nodes(self) -> list[dict[str, Any]]:
        shown = []
        for node in sorted(self._world.nodes.records(), key=lambda n: n.node):
            used = self._world.ledger.usage(node.node)
            shown.append(
                {
                    "node": node.node,
                    "zone": node.zone,
                    "cpu_units": node.cpu_units,
                    "cpu_reserved": used.cpu,
                    "memory_mib": node.memory_mib,
                    "memory_reserved": used.memory,
                    "tasks": used.tasks,
                    "connected": self._world.connected(node.node),
                    "draining": node.draining,
                    "capacity_kind": node.capacity_kind,
                }
            )
        return shown

    def _services(self) -> list[dict[str, Any]]:
        return [
            {
                "account": s.account,
                "region": s.region,
                "cluster": s.cluster,
                "name": s.name,
                "status": s.status,
                "desired": s.desired_count,
                "running": sum(
                    m.state == "running" for m in self._world.members(s.account, s.region, s.cluster, s.name)
                ),
                "steady": s.steady,
            }
            for s in sorted(self._world.services.records(), key=lambda s: (s.cluster, s.name))
            if s.status != "INACTIVE"
        ]
