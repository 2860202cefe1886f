"""What is asked over the bus, and who stops asking."""

import asyncio

import pytest

from services.shared.errors import StateUnavailable


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
    done, _ = await asyncio.wait([task], timeout=5)
    assert done and task.cancelled()
