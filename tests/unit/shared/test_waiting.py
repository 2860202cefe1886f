"""Waiting with a limit: in time, too late, and cancelled at the very moment it ends."""

import asyncio

import pytest

from services.shared.waiting import together, within, woken


async def test_what_comes_in_time_is_given_back():
    assert await within(5, asyncio.sleep(0, "came")) == "came"
    assert await within(None, asyncio.sleep(0, "came")) == "came"


async def test_what_takes_too_long_is_a_timeout():
    with pytest.raises(TimeoutError):
        await within(0.01, asyncio.Event().wait())
    assert not await woken(asyncio.Event(), 0.01)


async def test_a_cancellation_that_comes_with_the_result_is_not_lost():
    event, rounds = asyncio.Event(), []

    async def work() -> None:
        while True:
            await woken(event, 10)
            event.clear()
            rounds.append(1)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    event.set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 30)
    assert rounds == []


async def test_works_go_side_by_side_and_the_first_failure_ends_the_others():
    ended = []

    async def endless():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("endless")

    async def failing():
        await asyncio.sleep(0)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await together([endless(), failing()])
    assert ended == ["endless"], "what was begun ended before the failure was told"
