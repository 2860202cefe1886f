"""Waiting with a limit, and for several.

`within` is not `asyncio.wait_for`: in Python 3.11 that one gives the result back, and forgets the cancellation, when
both come at once. A loop around it then goes on for ever, and whoever stops it waits for ever too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
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


async def together(works: Iterable[Awaitable[None]]) -> None:
    """All of them side by side. The first failure ends the others, and is raised when they have ended."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
