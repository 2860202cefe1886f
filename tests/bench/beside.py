"""Something that runs beside a benchmark, in the loop of a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from services.shared.bus import Bus

T = TypeVar("T")


@contextlib.contextmanager
def beside(part: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """What an async context manager gives, entered and left in the thread; what entering it raises is raised here."""
    loop, done = asyncio.new_event_loop(), asyncio.Event()
    entered: Future[T] = Future()

    async def run() -> None:
        async with part as given:
            entered.set_result(given)
            await done.wait()

    def work() -> None:
        try:
            loop.run_until_complete(run())
        except BaseException as error:
            if entered.done():
                raise
            entered.set_exception(error)
        finally:
            loop.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    given = entered.result()
    try:
        yield given
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()


@contextlib.asynccontextmanager
async def agents_bus(url: str, password: str) -> AsyncIterator[Bus]:
    """A connection as agents have."""
    bus = await Bus.connect(url, "agent", user="agent", password=password, wait_s=20)
    try:
        yield bus
    finally:
        await bus.close()
