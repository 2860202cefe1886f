"""A real nats-server for each test that asks for one, with the users and streams of the platform."""

import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contracts.grants import OPERATOR, USERS
from services.shared.bus import Bus
from services.shared.nats_server import NatsServer
from services.shared.provision import provision

# Suites are no test modules of their own: their assertions explain themselves only when pytest is told of them.
pytest.register_assert_rewrite("tests.integration.runtime_suite", "tests.integration.packets_suite")


class Platform:
    """A NATS with everything provisioned, and buses that are closed at the end."""

    def __init__(self, server: NatsServer, passwords: dict[str, str]) -> None:
        self.server = server
        self.passwords = passwords
        self._buses: list[Bus] = []

    async def bus(self, service: str) -> Bus:
        """A connection as this service's own user."""
        bus = await Bus.connect(self.server.url, service, user=service, password=self.passwords[service], wait_s=30)
        self._buses.append(bus)
        return bus

    async def close(self) -> None:
        """Close all buses, stop the server."""
        for bus in self._buses:
            await bus.close()
        await self.server.stop()


@contextlib.asynccontextmanager
async def _platform(directory: Path) -> AsyncIterator[Platform]:
    passwords = {user: secrets.token_hex(8) for user in (OPERATOR, *USERS)}
    server = NatsServer(directory, passwords)
    await server.start()
    platform = Platform(server, passwords)
    try:
        await provision(await platform.bus(OPERATOR))
        yield platform
    finally:
        await platform.close()


@pytest.fixture
async def nats_platform(tmp_path: Path) -> AsyncIterator[Platform]:
    """A platform's NATS, freshly provisioned."""
    async with _platform(tmp_path / "nats") as platform:
        yield platform


@pytest.fixture
async def other_nats_platform(tmp_path: Path) -> AsyncIterator[Platform]:
    """That of another installation."""
    async with _platform(tmp_path / "other-nats") as platform:
        yield platform
