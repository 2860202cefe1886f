"""The bus, as far as it needs no NATS."""

import asyncio

import pytest

from services.shared.bus import Bus


async def test_a_cancellation_that_comes_with_the_reply_is_not_forgotten(monkeypatch):
    bus = Bus("scheduler")
    bus.connected.set()

    async def forgets(*arguments, **members):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "the reply"

    monkeypatch.setattr(bus.client, "request", forgets)
    asking = asyncio.create_task(bus.request("a.subject"))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
