"""Waiting with a limit.

Not `asyncio.wait_for`: in Python 3.11 it gives the result back, and forgets the cancellation, when both come at once. A
loop around it then goes on for ever, and whoever stops it waits for ever too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def within(seconds: float | None, what: Awaitable[T]) -> T:
    """The result of `what`. Raises TimeoutError when it takes longer; None: it may take for ever."""
    async with asyncio.timeout(seconds):
        return await what


async def woken(event: asyncio.Event, within_s: float | None) -> bool:
    """Whether the event was set before so many seconds were over."""
    try:
        await within(within_s, event.wait())
    except TimeoutError:
        return False
    return True
