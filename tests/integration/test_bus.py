"""What is asked over the bus, and who stops asking."""

import asyncio
import os
import signal

import pytest

from services.shared.errors import StateUnavailable
from tests.builders.processes import stall


@pytest.mark.parametrize("steps", range(0, 40, 2))
async def test_who_asks_again_and_again_ends_when_cancelled_whatever_it_waits_for(nats_platform, steps):
    bus = await nats_platform.bus("scheduler")

    async def ask_for_ever() -> None:
        while True:
            try:
                await bus.request("$JS.API.INFO" if steps % 4 else "$JS.API.STREAM.INFO.STATE_SCHEDULER", timeout=0.05)
            except StateUnavailable:
                await asyncio.sleep(0)

    task = asyncio.create_task(ask_for_ever())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=30)
    assert done and task.cancelled()


async def test_a_client_that_loses_its_cancellation_while_it_looks_for_its_server_ends_with_the_bus(nats_platform):
    bus = await nats_platform.bus("scheduler")
    looking, lost = asyncio.Event(), []

    async def loses_one(server) -> None:
        looking.set()
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            if lost:
                raise
            lost.append(server)
            raise OSError("as asyncio.wait_for, the connection came to nothing in the same moment") from None

    bus.client._connect_to_server = loses_one
    await nats_platform.server.stop()
    await looking.wait()
    await bus.close()
    assert lost and bus.client._reconnection_task.done()


async def test_a_patient_bus_waits_longer_for_a_while(nats_platform):
    bus = await nats_platform.bus("scheduler")
    stall(nats_platform.server.pid)
    asyncio.get_running_loop().call_later(3.5, os.kill, nats_platform.server.pid, signal.SIGCONT)
    began = asyncio.get_running_loop().time()
    with bus.patient(30):
        await bus.api("STREAM.INFO.STATE_SCHEDULER")
    assert asyncio.get_running_loop().time() - began > 3.4
    stall(nats_platform.server.pid)
    try:
        with pytest.raises(StateUnavailable):
            await bus.api("STREAM.INFO.STATE_SCHEDULER")
    finally:
        os.kill(nats_platform.server.pid, signal.SIGCONT)
