"""Waiting on a condition, in a test that is a coroutine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


async def until(condition: Callable[[], Any], seconds: float = 30.0, every: float = 0.005) -> Any:
    """The first true value of a condition, which may be a coroutine function. TimeoutError when there is none."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(every)
