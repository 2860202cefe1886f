"""Checks instances as their service's health check says. Nothing is kept: who starts anew asks anew."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from contracts.kinds import Key
from services.app_runner_gateway.decisions.health import Check, Health, after, wait


def _unverified() -> ssl.SSLContext:
    """As a load balancer does it: what certificate a target has, is not looked at."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


_UNVERIFIED = _unverified()


async def passes(address: str, port: int, check: Check) -> bool:
    """One check: a connection, and for HTTP and HTTPS a good answer to GET on the path."""
    try:
        async with asyncio.timeout(check.timeout):
            tls = _UNVERIFIED if check.protocol == "HTTPS" else None
            reader, writer = await asyncio.open_connection(address, port, ssl=tls)
            try:
                if check.protocol == "TCP":
                    return True
                writer.write(
                    f"GET {check.path} HTTP/1.1\r\nHost: {address}:{port}\r\nUser-Agent: Roadstead-HealthCheck\r\n"
                    "Connection: close\r\n\r\n".encode()
                )
                status = (await reader.readline()).split(b" ", 2)
                good = len(status) > 1 and status[0].startswith(b"HTTP/") and status[1].isdigit()
                return good and any(low <= int(status[1]) <= high for low, high in check.codes)
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return False


class Checks:
    """Follows the instances of services (by key); `changed` hears the service of which one's state is another now."""

    def __init__(self) -> None:
        self.changed: Callable[[Key], None] = lambda service: None
        self._tasks: dict[Key, dict[str, asyncio.Task[None]]] = {}
        self._health: dict[str, Health] = {}

    def state(self, task: str) -> str:
        """STARTING | HEALTHY | UNHEALTHY."""
        return self._health.get(task, Health()).state

    def follow(self, service: Key, task: str, address: str, port: int, check: Check, *, healthy: bool = False) -> None:
        """Check this instance from now on. `healthy`: it was in use already, and stays so until it fails."""
        followed = self._tasks.setdefault(service, {})
        if task not in followed:
            self._health[task] = Health("HEALTHY" if healthy else "STARTING")
            followed[task] = asyncio.create_task(self._run(service, task, address, port, check))

    def keep(self, service: Key, tasks: set[str]) -> None:
        """Check no others of this service than these."""
        followed = self._tasks.get(service, {})
        for task in followed.keys() - tasks:
            followed.pop(task).cancel()
            self._health.pop(task, None)
        if not followed:
            self._tasks.pop(service, None)

    async def stop(self) -> None:
        """Check nothing any more."""
        running = [task for followed in self._tasks.values() for task in followed.values()]
        for service in list(self._tasks):
            self.keep(service, set())
        await asyncio.gather(*running, return_exceptions=True)

    async def _run(self, service: Key, task: str, address: str, port: int, check: Check) -> None:
        while True:
            good = await passes(address, port, check)
            before = self._health[task]
            health = self._health[task] = after(before, good, check)
            if health.state != before.state:
                self.changed(service)
            await asyncio.sleep(wait(health, check))
