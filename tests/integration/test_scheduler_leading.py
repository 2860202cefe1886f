"""Who runs the controllers, when a scheduler stalls and another takes over."""

import asyncio
import time

import msgspec
import pytest

from contracts.aws import ecs
from contracts.records.scheduler import TASK
from services.scheduler.app import SchedulerApp
from services.scheduler.settings import SchedulerSettings
from services.shared.leases import Lease
from services.shared.runner import Host
from tests.builders.ecs import context, node, register
from tests.fakes.agent import FakeAgent

TTL_S = 3600.0


class Clock:
    """The time, and what was slept through."""

    slept = 0.0

    def __call__(self) -> float:
        return time.time() + self.slept


@pytest.fixture
async def stalled(nats_platform, tmp_path):
    """A scheduler that leads, and its clock: to let it stall is to let time pass that it did not see pass."""
    clock = Clock()
    host = Host(await nats_platform.bus("scheduler"), tmp_path, instance="s1", clock=clock)
    app = SchedulerApp(host, SchedulerSettings(lease_ttl_s=TTL_S, node_silence_s=2 * TTL_S))
    await app.start()
    await asyncio.wait_for(app.leader.leading.wait(), 30)
    agent = FakeAgent(await nats_platform.bus("agent"), node("n1", "us-east-1a"))
    await agent.start()
    await app.aws_services[0].register_task_definition(context("RegisterTaskDefinition"), register("web"))
    yield app, clock
    await app.stop()


async def created(app) -> None:
    """A service of two tasks is wanted."""
    members = {"serviceName": "web", "taskDefinition": "web", "desiredCount": 2}
    request = msgspec.convert(members, ecs.CreateServiceRequest)
    await app.aws_services[0].create_service(context("CreateService"), request)


def tasks(app) -> int:
    return len(app.world.store.table(TASK))


async def test_one_that_stalled_for_longer_than_its_lease_starts_nothing(stalled, nats_platform):
    app, clock = stalled
    clock.slept = TTL_S + 1
    other = Lease(await nats_platform.bus("scheduler"), "controller", "s2", ttl_s=TTL_S, clock=clock)
    await asyncio.wait_for(other.acquire(), 30)
    await created(app)
    await asyncio.sleep(1.5)  # longer than it waits before it looks again
    assert tasks(app) == 0


async def test_one_whose_clock_says_that_it_leads_starts_nothing_in_the_term_of_another(stalled, nats_platform):
    app, _ = stalled
    late = lambda: time.time() + TTL_S + 1  # noqa: E731
    other = Lease(await nats_platform.bus("scheduler"), "controller", "s2", ttl_s=TTL_S, clock=late)
    await asyncio.wait_for(other.acquire(), 30)
    assert app.leader._lease.held
    await created(app)
    await asyncio.sleep(1.5)  # long enough for three attempts
    assert tasks(app) == 0


async def test_one_that_stalled_and_has_its_lease_again_goes_on(stalled):
    app, clock = stalled
    clock.slept = TTL_S + 1
    await created(app)
    clock.slept = 0.0
    async with asyncio.timeout(30):
        while tasks(app) != 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
